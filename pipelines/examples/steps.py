"""The steps that build examples whichever way the log and the tables are joined.

Tables travel as Arrow bytes. Rejected rows and counts leave a step by outputs of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsSingleton, PCollection, TaggedOutput

from pipelines.config import SplitConfig
from pipelines.examples.arrow_ipc import to_bytes
from pipelines.examples.checks import check_interactions
from pipelines.examples.inputs import Log
from pipelines.examples.splits import (
    TimeThresholds,
    time_thresholds,
)
from pipelines.readers.chunks import Chunk
from pipelines.readers.files import read_chunk

METRICS = "fairtowers.examples"
"""Namespace of the pipeline's counters."""

INPUTS = ("interactions", "users", "items")
"""Names of the inputs."""

GOOD, DEAD, READ, REPEATED, TIMES = "good", "dead", "read", "repeated", "times"
"""Outputs of the steps: usable rows; `(input, dead letters)`; `(input, number of rows)`; number of
repeated rows; counts of times."""


@dataclasses.dataclass(frozen=True)
class Joined:
    """What a join of the log with the tables leaves to be finished.

    Attributes:
        files: The files of examples, a `RecordFile` each.
        users: `UsersSummary`s of all users.
        items: `ItemsSummary`s of all items.
        read: `(input, number of rows)`.
        dead: `(input, dead letters)`.
        repeated: Numbers of repeated interactions.
    """

    files: PCollection
    users: PCollection
    items: PCollection
    read: Sequence[PCollection]
    dead: Sequence[PCollection]
    repeated: PCollection


def count(name: str, what: str, rows: int) -> None:
    """Adds to a counter of the pipeline, which a runner shows while it runs."""
    Metrics.counter(METRICS, f"{name}_{what}").inc(rows)


def with_counts(step: beam.DoFn, *outputs: str, **side_inputs: AsSingleton) -> beam.PTransform:
    """Returns a step with outputs for dead letters and counts besides its main one, `GOOD`."""
    return beam.ParDo(step, **side_inputs).with_outputs(DEAD, READ, *outputs, main=GOOD)


class ReadLog(beam.DoFn):
    """Chunks to their usable rows.

    Args:
        log: What to read.
        wanted_ids: Columns whose distinct values are an output, too.
    """

    def __init__(self, log: Log, wanted_ids: Collection[str] = ()) -> None:
        self._log, self._wanted_ids = log, wanted_ids

    def process(self, chunk: Chunk) -> Iterator[Any]:
        """See the class."""
        for block in read_chunk(chunk, self._log.columns):
            checked = check_interactions(block, self._log, chunk.file)
            rows = len(block.table) + len(block.unreadable)
            count("interactions", READ, rows)
            count("interactions", DEAD, len(checked.dead))
            yield TaggedOutput(READ, ("interactions", rows))
            yield TaggedOutput(DEAD, ("interactions", to_bytes(checked.dead)))
            for id_name in self._wanted_ids:
                ids = checked.good.select([id_name]).group_by(id_name).aggregate([])
                yield TaggedOutput(id_name, to_bytes(ids))
            yield to_bytes(checked.good)


def thresholds(times: PCollection, split: SplitConfig) -> AsSingleton | TimeThresholds:
    """Returns where the held-out parts begin, given counts of times as `count_rows` makes them."""
    if split.by != "time":
        # Without waiting for all rows to be in order, a worker goes on with those that it has.
        return _find_thresholds(_merge_times([]), split)
    return AsSingleton(
        times
        | "Merge times" >> beam.CombineGlobally(_merge_times)
        | "Find thresholds" >> beam.Map(_find_thresholds, split)
    )


def _merge_times(counts: Iterable[np.ndarray]) -> np.ndarray:
    merged = np.concatenate([np.zeros((2, 0), np.int64), *counts], axis=1)
    seconds, inverse = np.unique(merged[0], return_inverse=True)
    totals = np.zeros(len(seconds), np.int64)
    np.add.at(totals, inverse, merged[1])
    return np.stack([seconds, totals])


def _find_thresholds(counts: np.ndarray, split: SplitConfig) -> TimeThresholds:
    return time_thresholds(counts[0], counts[1], split)
