"""TFDV's statistics of Arrow batches as a Beam combiner, with what TFDV does not count."""

from __future__ import annotations

import dataclasses
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


@dataclasses.dataclass
class Summary:
    """What is known of some examples so far.

    Attributes:
        partial: An accumulator per generator.
        users: Distinct users, but not more than matter.
    """

    partial: list[Any]
    users: set[bytes]


class Statistics(beam.CombineFn):
    """Record batches of examples to their statistics, or None if they are of too few users.

    The generators are TFDV's own: counts and means are exact, quantiles, distinct and most frequent
    values are sketches, and the memory of all does not grow with the examples.

    Args:
        labels: Features for which `unknown` is no value.
        min_users: Fewer distinct users are too few.
    """

    def __init__(self, labels: Collection[str], min_users: int = 0) -> None:
        self._labels, self._min_users = frozenset(labels), min_users
        self._generators: list[Any] = []

    def setup(self) -> None:
        """Makes the generators, which do not travel."""
        options = tfdv.StatsOptions(generators=[_Stated(self._labels)])
        self._generators = stats_impl.get_generators(options, in_memory=True)

    def create_accumulator(self) -> Summary:
        """Returns what is known of no examples."""
        return Summary([g.create_accumulator() for g in self._generators], set())

    def add_input(self, summary: Summary, batch: pa.RecordBatch) -> Summary:
        """Adds examples; their features are list columns."""
        summary.partial = [
            generator.add_input(partial, batch)
            for generator, partial in zip(self._generators, summary.partial, strict=True)
        ]
        if len(summary.users) < self._min_users:
            users = pc.list_flatten(batch[USER_ID]).unique()
            self._add_users(summary, users.to_pylist())
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
            self._add_users(whole, summary.users)
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
        if len(summary.users) < self._min_users:
            return None
        found = stats_impl.extract_statistics_output(summary.partial, self._generators)
        return found.datasets[0].SerializeToString()

    def _add_users(self, summary: Summary, users: Iterable[bytes]) -> None:
        """Whether there are `min_users` is certain, although not more of them are remembered."""
        for user in users:
            if len(summary.users) >= self._min_users:
                return
            summary.users.add(user)


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


def missing(statistics: statistics_pb2.DatasetFeatureStatistics) -> dict[str, int]:
    """Returns how many examples have no value, by feature."""
    return {
        feature.path.step[0]: statistics.num_examples - int(custom.num)
        for feature in statistics.features
        for custom in feature.custom_stats
        if custom.name == _STATED
    }
