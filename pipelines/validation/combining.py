"""TFDV's statistics of Arrow batches as a Beam combiner, with what TFDV does not count."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Iterable
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow_data_validation as tfdv
from tensorflow_data_validation import types as tfdv_types
from tensorflow_data_validation.statistics import stats_impl
from tensorflow_data_validation.statistics.generators import stats_generator
from tensorflow_metadata.proto.v0 import statistics_pb2

from fairness_losses.config import UNKNOWN
from towers.config import USER_ID

_STATED = "stated"
"""Name of the custom statistic with the number of examples that state a feature's value."""

_ANYBODY = ""
"""Where users without a label are by its name, all users are by this."""


@dataclasses.dataclass
class Summary:
    """What is known of some examples so far.

    Attributes:
        partial: An accumulator per generator.
        users: Distinct users, and by label those with an example without it; but not more than
            matter.
    """

    partial: list[Any]
    users: dict[str, set[bytes]]


class Statistics(beam.CombineFn):
    """Record batches of examples to their statistics, or None if they are of too few users.

    The generators are TFDV's own: counts and means are exact, quantiles, distinct and most frequent
    values are sketches, and the memory of all does not grow with the examples.

    Args:
        labels: Features for which `unknown` is no value. How many examples do not state one is
            left out where these are of too few users.
        min_users: Fewer distinct users are too few.
        of_anybody: Whether there are statistics although the users are too few.
    """

    def __init__(self, labels: Collection[str], min_users: int, of_anybody: bool = False) -> None:
        self._labels, self._min_users = frozenset(labels), min_users
        self._of_anybody = of_anybody
        self._generators: list[Any] = []

    def setup(self) -> None:
        """Makes the generators, which do not travel."""
        options = tfdv.StatsOptions(generators=[_Stated(self._labels)])
        self._generators = stats_impl.get_generators(options, in_memory=True)

    def create_accumulator(self) -> Summary:
        """Returns what is known of no examples."""
        users: dict[str, set[bytes]] = {name: set() for name in (_ANYBODY, *self._labels)}
        return Summary([g.create_accumulator() for g in self._generators], users)

    def add_input(self, summary: Summary, batch: pa.RecordBatch) -> Summary:
        """Adds examples; their features are list columns."""
        summary.partial = [
            generator.add_input(partial, batch)
            for generator, partial in zip(self._generators, summary.partial, strict=True)
        ]
        names = batch.schema.names
        for label, users in summary.users.items():
            if len(users) >= self._min_users or USER_ID not in names:
                continue
            ids = first_values(batch[USER_ID])
            if label in names:
                ids = ids.filter(pa.array(~stated(batch[label], UNKNOWN)))
            self._add_users(users, ids.unique().to_pylist())
        return summary

    def merge_accumulators(self, summaries: Iterable[Summary]) -> Summary:
        """Adds up what is known of several sets of examples."""
        whole = self.create_accumulator()
        for summary in summaries:
            whole.partial = [
                generator.merge_accumulators(partials)
                for generator, *partials in zip(
                    self._generators, whole.partial, summary.partial, strict=True
                )
            ]
            for label, users in summary.users.items():
                self._add_users(whole.users[label], users)
        return whole

    def compact(self, summary: Summary) -> Summary:
        """Makes the sketches small enough to travel."""
        summary.partial = [
            generator.compact(partial)
            for generator, partial in zip(self._generators, summary.partial, strict=True)
        ]
        return summary

    def extract_output(self, summary: Summary) -> bytes | None:
        """Returns a serialized `DatasetFeatureStatistics`, or None."""
        few = {label for label, users in summary.users.items() if len(users) < self._min_users}
        if _ANYBODY in few and not self._of_anybody:
            return None
        found = stats_impl.extract_statistics_output(summary.partial, self._generators).datasets[0]
        for feature in found.features:
            if feature.path.step[0] in few and missing(found)[feature.path.step[0]]:
                del feature.custom_stats[:]
        return found.SerializeToString()

    def _add_users(self, users: set[bytes], more: Iterable[bytes]) -> None:
        """Whether there are `min_users` is certain, although not more of them are remembered."""
        users.update(itertools.islice(more, self._min_users))


class _Stated(stats_generator.CombinerFeatureStatsGenerator):
    """Counts the examples with a value: not empty, not NaN, and of labels not `unknown`."""

    def __init__(self, labels: Collection[str]) -> None:
        super().__init__("Stated")
        self._labels = labels

    def create_accumulator(self) -> int:
        return 0

    def add_input(self, count: int, path: tfdv_types.FeaturePath, values: pa.Array) -> int:
        """Adds the examples of a batch, a list each."""
        if pa.types.is_null(values.type):
            return count
        nothing = UNKNOWN if path.steps()[0] in self._labels else ""
        return count + int(np.count_nonzero(stated(values, nothing)))

    def merge_accumulators(self, counts: Iterable[int]) -> int:
        return sum(counts)

    def extract_output(self, count: int) -> statistics_pb2.FeatureNameStatistics:
        found = statistics_pb2.FeatureNameStatistics()
        found.custom_stats.add(name=_STATED, num=count)
        return found


def first_values(lists: pa.Array) -> pa.Array:
    """Returns the first value of every list, null of an empty one or null."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return lists.flatten().take(pa.array(np.cumsum(lengths) - lengths, mask=lengths == 0))


def stated(lists: pa.Array, nothing: str) -> np.ndarray:
    """Returns bool `[num_rows]`, true where a list has a value.

    Args:
        lists: Numbers or bytes, a list per row.
        nothing: A string that is no value.
    """
    values = lists.flatten()
    if pa.types.is_floating(values.type):
        is_value = pc.invert(pc.is_nan(values))
    elif pa.types.is_integer(values.type):
        is_value = pc.is_valid(values)
    else:
        is_value = pc.not_equal(values, pa.scalar(nothing.encode(), values.type))
    found = np.zeros(len(lists), bool)
    found[pc.list_parent_indices(lists).filter(is_value).to_numpy()] = True
    return found


def missing(statistics: statistics_pb2.DatasetFeatureStatistics) -> dict[str, int | None]:
    """Returns how many examples have no value, by feature; None where they are of too few users."""
    found: dict[str, int | None] = {}
    for feature in statistics.features:
        counts = [int(c.num) for c in feature.custom_stats if c.name == _STATED]
        name = feature.path.step[0]
        found[name] = statistics.num_examples - counts[0] if counts else None
    return found
