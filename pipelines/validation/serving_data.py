"""Logged requests as batches of the query features that the examples have, too."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from pipelines.config import RunConfig
from pipelines.examples.checks import as_strings
from pipelines.examples.inputs import TIMESTAMP
from pipelines.examples.tables import feature_values
from pipelines.readers.chunks import Block, Chunk
from pipelines.readers.files import column_names, find_files, has_schema, plan_chunks, read_chunk
from pipelines.readers.types import is_list
from serving.retriever import CONTROLS
from towers.config import (
    USER_ID,
    Feature,
    HistoryFeature,
    IdFeature,
    NumericFeature,
    VectorFeature,
)

METRICS = "fairtowers.validation"
"""Namespace of the counters of what is read."""

SERVING = "serving"
"""Name of the requests, where examples have that of their part."""

UNEXPECTED = "unexpected"
"""Output of `ReadServing` with the names of columns that no request should have, a set a time."""

_SETTING = "validation.serving_path"


@dataclasses.dataclass(frozen=True)
class Requests:
    """What to read.

    Attributes:
        chunks: Parts of the files.
        features: Query features that examples have, too; all but the history.
        columns: Names of the columns of each file, in the order of `chunks.Chunk.file`; of a file
            that does not say them, those of its first rows.
        known: Names of columns that requests may have.
    """

    chunks: tuple[Chunk, ...]
    features: tuple[Feature, ...]
    columns: tuple[frozenset[str], ...]
    known: frozenset[str]

    def unexpected(self, names: Iterable[str]) -> frozenset[str]:
        """Returns the names of columns that no request should have."""
        return frozenset(names) - self.known

    def readable(self, chunk: Chunk) -> list[str]:
        """Returns the columns to read of a chunk: a row may have what the first ones have not."""
        there, any_row = self.columns[chunk.file], not has_schema(chunk.path)
        return [f.column for f in self.features if any_row or f.column in there]


def plan_serving(config: RunConfig) -> Requests | None:
    """Finds the files of requests; None if the configuration names none.

    Raises:
        InvalidInputError: There are none, or one is empty or damaged.
    """
    path = config.validation.serving_path
    if path is None:
        return None
    files = find_files(path, _SETTING)
    # The user's id and the time are often logged, and a request may say more than features.
    known = {USER_ID, TIMESTAMP, *CONTROLS, *(f.column for f in config.features.query)}
    return Requests(
        chunks=tuple(plan_chunks(files)),
        features=tuple(f for f in config.features.query if not isinstance(f, HistoryFeature)),
        columns=tuple(frozenset(column_names(file)) for file in files),
        known=frozenset(known),
    )


class ReadServing(beam.DoFn):
    """Chunks to batches of the requests in them; and the output `UNEXPECTED`, if there is any."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def process(self, chunk: Chunk) -> Iterator[Any]:
        """See the class."""
        requests = self._requests
        for block in read_chunk(chunk, requests.readable(chunk)):
            if unexpected := requests.unexpected(block.names):
                yield TaggedOutput(UNEXPECTED, unexpected)
            batch = as_examples(block, requests.features)
            Metrics.counter(METRICS, "serving_requests").inc(batch.num_rows)
            yield SERVING, batch


def as_examples(block: Block, features: Sequence[Feature]) -> pa.RecordBatch:
    """Returns requests as examples: features are list columns of the types that they have there.

    A value that is missing, or that no example could have, is null; so are all of a row that cannot
    be read.

    Args:
        block: The requests.
        features: At least one; its column need not be there.
    """
    unreadable = np.zeros(len(block.unreadable), bool)
    columns = {}
    for feature in features:
        there = np.zeros(len(block.table), bool)
        values = pa.array([], pa.float32() if _is_number(feature) else pa.string())
        if feature.column in block.table.column_names:
            column = block.table[feature.column]
            there = pc.is_valid(column).to_numpy()
            if there.any():  # A column without values is of no type.
                values, wrong = _values(column, feature)
                values = values.filter(pa.array(there & ~wrong))
                there &= ~wrong
        columns[feature.column] = _lists(values, np.append(there, unreadable))
    return pa.RecordBatch.from_pydict(columns)


def _is_number(feature: Feature) -> bool:
    return isinstance(feature, NumericFeature | VectorFeature)


def _values(column: pa.ChunkedArray, feature: Feature) -> tuple[pa.Array, np.ndarray]:
    """Values of a feature, and where they are none."""
    where = f"`{_SETTING}`, column"
    if isinstance(feature, IdFeature):
        return as_strings(column, f"{where} `{feature.column}`"), np.zeros(len(column), bool)
    if isinstance(feature, NumericFeature):
        # The default stands in for what a table does not say; a request should say it.
        feature = feature.model_copy(update={"default": None})
    values, _, wrong = feature_values(column, feature, where)
    return values, wrong


def _lists(values: pa.Array, there: np.ndarray) -> pa.Array:
    """Values as lists, large as the decoder of examples makes them.

    Args:
        values: Scalars or lists of the rows that are there.
        there: bool `[num_rows]`; the others are null.
    """
    lengths = there.astype(np.int64)
    if is_list(values.type):
        lengths[there] = pc.list_value_length(values).to_numpy()
        values = pc.list_flatten(values)
    if pa.types.is_string(values.type):
        values = values.cast(pa.large_binary())
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    missing = np.append(~there, False)
    return pa.LargeListArray.from_arrays(pa.array(offsets, mask=missing), values)
