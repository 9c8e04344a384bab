"""Statistics of one feature in plain numbers: what of TFDV's a person reads and may see."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, TypeAlias

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from pipelines.config import RunConfig
from pipelines.examples.inputs import TIMESTAMP
from pipelines.validation.combining import missing
from pipelines.validation.contract import free_features, is_sensitive, is_tagged
from towers.config import ITEM_ID, USER_ID

Dataset: TypeAlias = statistics_pb2.DatasetFeatureStatistics
_Feature: TypeAlias = statistics_pb2.FeatureNameStatistics

_TOP = 8
_DIGITS = 6


def describe(
    name: str, everything: Mapping[str, Dataset], schema: schema_pb2.Schema, config: RunConfig
) -> dict[str, Any]:
    """Returns what may be told of a feature.

    Args:
        name: Of the feature.
        everything: Statistics of all examples by part.
        schema: With its tags.
        config: The run.

    Returns:
        `kind`, `side` (`users`, `items` or neither), `sensitive` and `missing`, by part; for
        strings also `distinct`, about so many different values. Unless it is sensitive or an id or
        text, of training: `top`, the most frequent values with their counts, and `other`, the count
        of the others; of numbers `mean`, `std`, `min`, `max` and `histogram`, buckets as low end,
        high end and count; of times `first` and `last`, ISO 8601.
    """
    statistics = _feature(everything["train"], name)
    sensitive = is_sensitive(name, config) or is_tagged(name, schema)
    found: dict[str, Any] = {
        "kind": _kind(name, config),
        "side": _side(name, config),
        "sensitive": sensitive,
        "missing": {
            part: missing(dataset)[name]
            for part, dataset in everything.items()
            if name in missing(dataset)
        },
    }
    if statistics.HasField("string_stats"):
        found["distinct"] = statistics.string_stats.unique
    if sensitive or name in free_features(config):
        return found
    if name == TIMESTAMP:
        times = statistics.num_stats
        return {**found, "first": _as_time(times.min), "last": _as_time(times.max)}
    if statistics.HasField("num_stats"):
        return {**found, **_numbers(statistics.num_stats)}
    return {**found, **_values(statistics.string_stats)}


def describe_in_slice(
    part_of: Dataset, whole: Dataset, schema: schema_pb2.Schema, config: RunConfig
) -> dict[str, Any]:
    """Returns what may be told of the features in a slice or group.

    Args:
        part_of: Statistics of the slice.
        whole: Of all examples.
        schema: With its tags.
        config: The run.

    Returns:
        By feature, without sensitive ones, ids, texts and times: `missing`, and `mean` and `std` of
        numbers, or for strings `value`, the one that is most frequent in all examples, and `share`,
        its share of the slice's values.
    """
    free = {TIMESTAMP, *free_features(config)}
    found: dict[str, Any] = {}
    for feature in part_of.features:
        name = feature.path.step[0]
        if name in free or is_sensitive(name, config) or is_tagged(name, schema):
            continue
        found[name] = {"missing": missing(part_of)[name]}
        if feature.HasField("num_stats"):
            found[name] |= _moments(feature.num_stats)
        elif top := _values(_feature(whole, name).string_stats)["top"]:
            found[name] |= _share_of(top[0][0], feature.string_stats)
    return found


def _kind(name: str, config: RunConfig) -> str:
    for feature in (*config.features.query, *config.features.candidate):
        if feature.column == name:
            return feature.kind
    return {TIMESTAMP: "time"}.get(name, "id" if name in free_features(config) else "label")


def _side(name: str, config: RunConfig) -> str:
    if name == USER_ID or name in {f.column for f in config.features.query}:
        return "users"
    if name == ITEM_ID or name in {f.column for f in config.features.candidate}:
        return "items"
    return ""


def _feature(dataset: Dataset, name: str) -> _Feature:
    return next(f for f in dataset.features if f.path.step[0] == name)


def _moments(numbers: statistics_pb2.NumericStatistics) -> dict[str, float]:
    return {"mean": _rounded(numbers.mean), "std": _rounded(numbers.std_dev)}


def _numbers(numbers: statistics_pb2.NumericStatistics) -> dict[str, Any]:
    equal_width = next(h for h in numbers.histograms if h.type == statistics_pb2.Histogram.STANDARD)
    return {
        **_moments(numbers),
        "min": _rounded(numbers.min),
        "max": _rounded(numbers.max),
        "histogram": [
            [_rounded(b.low_value), _rounded(b.high_value), round(b.sample_count)]
            for b in equal_width.buckets
        ],
    }


def _values(strings: statistics_pb2.StringStatistics) -> dict[str, Any]:
    buckets = strings.rank_histogram.buckets
    top = [[bucket.label, round(bucket.sample_count)] for bucket in buckets[:_TOP]]
    total = strings.common_stats.tot_num_values
    return {"top": top, "other": int(total) - sum(count for _, count in top)}


def _share_of(value: str, strings: statistics_pb2.StringStatistics) -> dict[str, Any]:
    counts = {b.label: b.sample_count for b in strings.rank_histogram.buckets}
    total = strings.common_stats.tot_num_values
    return {"value": value, "share": _rounded(counts.get(value, 0) / max(total, 1))}


def _rounded(value: float) -> float:
    """Without the last digits, which depend on the order of the sum."""
    return float(f"{value:.{_DIGITS}g}")


def _as_time(seconds: float) -> str:
    start = datetime.datetime(1970, 1, 1)
    return (start + datetime.timedelta(seconds=seconds)).isoformat()
