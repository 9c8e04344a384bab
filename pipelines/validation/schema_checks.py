"""Statistics held to the schema, to earlier ones and to those of requests, by TFDV."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TypeAlias

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from pipelines.config import RunConfig
from pipelines.examples.inputs import GROUP
from pipelines.validation.anomalies import Anomaly
from pipelines.validation.comparators import IN_SERVING, IN_TRAINING, distances, too_far
from pipelines.validation.contract import is_sensitive, is_tagged, known_values
from pipelines.validation.serving_data import SERVING

Dataset: TypeAlias = statistics_pb2.DatasetFeatureStatistics

_DISTANCES = {
    anomalies_pb2.AnomalyInfo.COMPARATOR_L_INFTY_HIGH,
    anomalies_pb2.AnomalyInfo.COMPARATOR_JENSEN_SHANNON_DIVERGENCE_HIGH,
    anomalies_pb2.AnomalyInfo.COMPARATOR_NORMALIZED_ABSOLUTE_DIFFERENCE_HIGH,
}


def check_examples(
    statistics: Dataset, schema: schema_pb2.Schema, earlier: Dataset | None
) -> anomalies_pb2.Anomalies:
    """Holds examples to the schema, and to those of an earlier run if there are some."""
    previous = as_list(earlier) if earlier else None
    return tfdv.validate_statistics(
        as_list(statistics), schema, IN_TRAINING, previous_statistics=previous
    )


def check_requests(requests: Dataset, schema: schema_pb2.Schema) -> anomalies_pb2.Anomalies:
    """Holds requests to what the schema says of the features that they have."""
    return tfdv.validate_statistics(as_list(requests), schema, IN_SERVING)


def check_skew(
    train: Dataset, requests: Dataset, schema: schema_pb2.Schema
) -> anomalies_pb2.Anomalies:
    """Compares distributions of features in training and in requests that have a value."""
    there = Dataset()
    there.CopyFrom(requests)
    del there.features[:]
    there.features.extend(f for f in requests.features if _common(f).tot_num_values)
    return tfdv.validate_statistics(
        as_list(train), schema, IN_TRAINING, serving_statistics=as_list(there)
    )


def _common(feature: statistics_pb2.FeatureNameStatistics) -> statistics_pb2.CommonStatistics:
    return getattr(feature, feature.WhichOneof("stats")).common_stats


def as_list(statistics: Dataset) -> statistics_pb2.DatasetFeatureStatisticsList:
    """Returns statistics in the form that TFDV takes."""
    return statistics_pb2.DatasetFeatureStatisticsList(datasets=[statistics])


def described(
    found: anomalies_pb2.Anomalies,
    part: str,
    statistics: Dataset,
    schema: schema_pb2.Schema,
    config: RunConfig,
) -> tuple[list[Anomaly], list[Anomaly]]:
    """Says what TFDV found, but not which values a sensitive feature has.

    Args:
        found: What it found.
        part: Of the examples, or `serving`.
        statistics: That it looked at.
        schema: That it held them to.
        config: The run.

    Returns:
        Anomalies of the data themselves, and those of their distance from others.
    """
    measured = {each["feature"]: each for each in distances(found, part)}
    broken: list[Anomaly] = []
    distant: list[Anomaly] = []
    for name, info in sorted(found.anomaly_info.items()):
        feature = info.path.step[0] if info.path.step else name
        hidden = is_sensitive(feature, config) or is_tagged(feature, schema)
        for reason in info.reason:
            if reason.type in _DISTANCES:
                value = "" if hidden else _furthest_value(reason.description)
                problem, to = too_far(measured[feature], value), distant
            else:
                count = _count_unknown(statistics, feature, schema)
                more = count if hidden else f": {reason.description}"
                problem, to = f"{reason.short_description}{more}", broken
            to.append({"feature": feature, "part": part, "problem": problem})
    if found.HasField("dataset_anomaly_info"):
        description = found.dataset_anomaly_info.description
        broken.append({"feature": "", "part": part, "problem": description})
    return broken, distant


def unexpected(columns: Collection[str]) -> Iterator[Anomaly]:
    """Yields an anomaly for every column that requests should not have."""
    for column in columns:
        problem = "New column: the requests have it, but it is no query feature"
        yield {"feature": column, "part": SERVING, "problem": problem}


def new_labels(
    labels: Mapping[str, Collection[str]], schema: schema_pb2.Schema
) -> Iterator[Anomaly]:
    """Yields groups and slices that the schema does not know, with examples or without."""
    for feature, values in labels.items():
        known = known_values(schema, feature)
        new = set(values) - known if known is not None else set()
        if new:
            part = "catalogue" if feature == GROUP else "users"
            problem = f"Unexpected string values: {_count_values(len(new))}"
            yield {"feature": feature, "part": part, "problem": problem}


def _furthest_value(description: str) -> str:
    """The value whose share differs most, which TFDV names for strings."""
    return description.partition("maximum difference is: ")[2]


def _count_unknown(statistics: Dataset, feature: str, schema: schema_pb2.Schema) -> str:
    """How many values the schema does not know, rather than which: they are about people.

    TFDV lists the thousand most frequent values, and the numbers are of those.
    """
    known = known_values(schema, feature)
    strange = [
        bucket.sample_count
        for each in statistics.features
        if each.path.step[0] == feature and known is not None
        for bucket in each.string_stats.rank_histogram.buckets
        if bucket.label not in known
    ]
    if not strange:
        return ""
    return f": {_count_values(len(strange))} in {sum(strange):,.0f} examples"


def _count_values(count: int) -> str:
    return f"{count:,} {'value' if count == 1 else 'values'} that the schema does not know"
