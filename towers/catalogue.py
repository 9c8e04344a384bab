"""The tables that the examples pipeline writes, as the model needs them."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from fairness_losses.errors import InvalidInputError
from fairness_losses.groups import Groups
from towers.config import (
    ITEM_ID,
    USER_ID,
    CategoricalFeature,
    Feature,
    HistoryFeature,
    IdFeature,
    NumericFeature,
    VectorFeature,
)
from towers.features import (
    FeatureLayer,
    FeatureStatistics,
    build_feature,
    item_ids,
    lookup_columns,
)

SLICE_PREFIX = "slice."
"""Columns of the users table that begin so are demographic slices: audited, never an input."""

_LOOKUP_BATCH = 65_536


@dataclasses.dataclass(frozen=True)
class EntityTable:
    """Users or items: their ids and their features, looked up once.

    Attributes:
        ids: str `[num_rows]`.
        columns: Per feature `[num_rows]` or `[num_rows, values]`, as `FeatureLayer.lookup`
            returns them.
        labels: str `[num_rows]` per label column: slices of users, `group` of items.
        frequency: int64 `[num_rows]`, occurrences in the training examples; of items only.
    """

    ids: np.ndarray
    columns: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    frequency: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def rows_of(self, ids: np.ndarray) -> np.ndarray:
        """Returns the row of every id, int32; every id has to be in the table."""
        rows = pd.Index(self.ids).get_indexer(ids)
        if (rows < 0).any():
            raise InvalidInputError(
                f"the id {ids[rows < 0][0]!r} of the examples is not in their tables: the folder "
                "`examples` is damaged. Run the stage `examples` again with `--force`."
            )
        return rows.astype(np.int32)

    @property
    def groups(self) -> Groups:
        """Groups of the items."""
        return Groups.from_labels(self.labels["group"])


def build_features(
    features: Sequence[Feature],
    table_path: pathlib.Path,
    vocabularies: pathlib.Path,
    dim: int,
    candidate_layers: Sequence[FeatureLayer] = (),
) -> list[FeatureLayer]:
    """Builds one side's features from its table and the training vocabularies.

    Args:
        features: Settings of the side's features.
        table_path: Its table.
        vocabularies: Folder of the values seen in training.
        dim: Dimension of the embeddings.
        candidate_layers: The other side's features, for a history of items among these.
    """
    items = item_ids(candidate_layers)
    names = [f.column for f in features if isinstance(f, NumericFeature | VectorFeature)]
    table = pq.read_table(table_path, columns=names) if names else None
    layers = []
    for feature in features:
        # The items of a history are numbered by the candidate tower, where that knows them.
        known = isinstance(feature, HistoryFeature) and items is not None
        found = FeatureStatistics() if known else _statistics(feature, table, vocabularies)
        layers.append(build_feature(feature, found, dim, items))
    return layers


def _statistics(
    feature: Feature, table: pa.Table | None, vocabularies: pathlib.Path
) -> FeatureStatistics:
    if isinstance(feature, HistoryFeature):
        return FeatureStatistics(vocabulary=_vocabulary(vocabularies, ITEM_ID))
    if isinstance(feature, IdFeature | CategoricalFeature):
        hashed = feature.bins is not None
        return FeatureStatistics(
            vocabulary=() if hashed else _vocabulary(vocabularies, feature.column)
        )
    if table is not None and isinstance(feature, NumericFeature):
        numbers = table[feature.column].to_numpy().astype(np.float64)
        return FeatureStatistics(mean=float(numbers.mean()), variance=float(numbers.var()))
    if table is not None and isinstance(feature, VectorFeature):
        return FeatureStatistics(length=len(table[feature.column][0]))
    return FeatureStatistics()


def _vocabulary(folder: pathlib.Path, column: str) -> list[str]:
    values = pq.read_table(folder / f"{column}.parquet", columns=["value"])
    # The empty string is how padding is written, so it cannot be a category.
    return [value for value in values["value"].to_pylist() if value]


def read_catalogue(examples_dir: pathlib.Path, layers: Sequence[FeatureLayer]) -> EntityTable:
    """Reads the items, in the catalogue's order."""
    table = pq.read_table(examples_dir / "catalogue.parquet")
    return EntityTable(
        ids=_strings(table[ITEM_ID]),
        columns=_look_up(table, layers),
        labels={"group": _strings(table["group"])},
        frequency=table["frequency"].to_numpy().astype(np.int64),
    )


def read_users(examples_dir: pathlib.Path, layers: Sequence[FeatureLayer]) -> EntityTable:
    """Reads the users."""
    table = pq.read_table(examples_dir / "users.parquet")
    slices = [name for name in table.column_names if name.startswith(SLICE_PREFIX)]
    return EntityTable(
        ids=_strings(table[USER_ID]),
        columns=_look_up(table, layers),
        labels={name.removeprefix(SLICE_PREFIX): _strings(table[name]) for name in slices},
    )


def raw_columns(table: pa.Table, layers: Sequence[FeatureLayer]) -> dict[str, np.ndarray]:
    """Returns a table's features as the exported tower takes them.

    Args:
        table: Users or items.
        layers: Features of the tower.

    Returns:
        `[num_rows]` per feature; categories `[num_rows, values]` padded with "".
    """
    return {layer.column: raw_column(table[layer.column], layer.raw_spec) for layer in layers}


def raw_column(column: pa.ChunkedArray, spec: tf.TensorSpec) -> np.ndarray:
    """Returns an Arrow column with the rank and dtype of `spec`."""
    array = column.combine_chunks()
    if not pa.types.is_list(array.type) and not pa.types.is_fixed_size_list(array.type):
        values = array.to_numpy(zero_copy_only=False)
        values = values if spec.dtype == tf.string else values.astype(np.float32)
        # A category that is not a list is a list of one.
        return values[:, np.newaxis] if spec.shape.rank == 2 else values
    if spec.dtype != tf.string:
        return array.flatten().to_numpy().astype(np.float32).reshape(-1, spec.shape[1])
    return _padded(array)


def _padded(lists: pa.ListArray) -> np.ndarray:
    lengths = np.diff(lists.offsets.to_numpy())
    out = np.full((len(lists), max(1, int(lengths.max(initial=0)))), "", dtype=object)
    out[np.arange(out.shape[1]) < lengths[:, None]] = lists.flatten().to_numpy(zero_copy_only=False)
    return out


def _look_up(table: pa.Table, layers: Sequence[FeatureLayer]) -> dict[str, np.ndarray]:
    if not layers:
        return {}
    look_up = tf.function(lambda columns: lookup_columns(layers, columns), reduce_retracing=True)
    parts: list[Mapping[str, np.ndarray]] = []
    for start in range(0, max(1, table.num_rows), _LOOKUP_BATCH):
        # Padded strings take far more memory than their numbers: never those of the whole table.
        raw = raw_columns(table.slice(start, _LOOKUP_BATCH), layers)
        found = look_up({name: tf.constant(column) for name, column in raw.items()})
        parts.append({name: column.numpy() for name, column in found.items()})
    return {name: stack_padded([part[name] for part in parts]) for name in parts[0]}


def stack_padded(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Joins looked-up columns whose number of values per row may differ, padding with zeros."""
    if parts[0].ndim == 1:
        return np.concatenate(parts)
    width = max(part.shape[1] for part in parts)
    return np.concatenate([np.pad(p, ((0, 0), (0, width - p.shape[1]))) for p in parts])


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().astype(object)
