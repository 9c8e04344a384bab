"""Reads an exported tower back and encodes tables with it."""

from __future__ import annotations

import pathlib

import numpy as np
import pyarrow as pa
import tensorflow as tf

from fairness_losses.errors import InvalidInputError
from towers.catalogue import raw_column

_BATCH = 16_384


class ExportedTower:
    """A tower loaded from its SavedModel, without the code that trained it.

    Args:
        path: Folder of the SavedModel.
    """

    def __init__(self, path: pathlib.Path) -> None:
        self._model = tf.saved_model.load(str(path))
        self._signature = self._model.signatures["serving_default"]
        self._specs = dict(self._signature.structured_input_signature[1])

    @property
    def features(self) -> list[str]:
        """Columns that the tower takes."""
        return list(self._specs)

    def raw(self, table: pa.Table) -> dict[str, np.ndarray]:
        """Picks the tower's features out of a table.

        Returns:
            `[num_rows]` or `[num_rows, values]` per feature, as the tower takes them.

        Raises:
            InvalidInputError: A column is missing.
        """
        missing = sorted(set(self._specs) - set(table.column_names))
        if missing:
            raise InvalidInputError(
                f"the tower's feature `{missing[0]}` is not in the table; its columns are "
                f"{', '.join(table.column_names)}."
            )
        return {name: raw_column(table[name], spec) for name, spec in self._specs.items()}

    def embed(self, table: pa.Table) -> np.ndarray:
        """Returns the vectors of all rows, float32 `[num_rows, dim]`."""
        # Padded strings take far more memory than Arrow's: never those of the whole table.
        batches = range(0, max(1, table.num_rows), _BATCH)
        return np.concatenate([self._embed(table.slice(start, _BATCH)) for start in batches])

    def _embed(self, table: pa.Table) -> np.ndarray:
        raw = {
            name: tf.constant(column, self._specs[name].dtype)
            for name, column in self.raw(table).items()
        }
        return self._signature(**raw)["embedding"].numpy()
