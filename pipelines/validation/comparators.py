"""What statistics are compared with: those of the last run, and those of logged requests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2

from pipelines.config import RunConfig
from pipelines.examples.inputs import TIMESTAMP
from pipelines.validation.contract import free_features, is_label
from pipelines.validation.serving_data import SERVING
from towers.config import HistoryFeature

IN_TRAINING, IN_SERVING = "TRAINING", "SERVING"
"""The schema's environments: examples have features, labels and a time; requests what the query
tower is asked with."""

_ANY_DISTANCE = 2.0
"""With it as the limit a distance is measured and never too large. Distances are up to 1, but TFDV
adds them up in floats: those of distributions with nothing in common can be 1.0000000000000002."""

_MEASURES = {
    anomalies_pb2.DriftSkewInfo.Measurement.L_INFTY: "largest difference of a value’s share",
    anomalies_pb2.DriftSkewInfo.Measurement.JENSEN_SHANNON_DIVERGENCE: "Jensen-Shannon divergence",
    anomalies_pb2.DriftSkewInfo.Measurement.NORMALIZED_ABSOLUTE_DIFFERENCE: "normalized difference",
}


def with_comparators(schema: schema_pb2.Schema, config: RunConfig) -> schema_pb2.Schema:
    """Returns a copy of a schema that says what is compared with what, and where features are.

    The distance is the largest difference of a value's share for strings, and the Jensen-Shannon
    divergence for numbers; both are from 0 to 1. Ids, times and texts may be any, and the shares of
    labels are counted (`drift.changed_shares`).

    Args:
        schema: The schema.
        config: The run, with the limits `validation.max_drift` and `validation.max_skew`, which go
            before those of the schema.
    """
    compared = schema_pb2.Schema()
    compared.CopyFrom(schema)
    for environment in (IN_TRAINING, IN_SERVING):
        if environment not in compared.default_environment:
            compared.default_environment.append(environment)
    limits = config.validation
    free, requested = {TIMESTAMP, *free_features(config)}, features_of_requests(config)
    for feature in compared.feature:
        if feature.name not in requested and IN_SERVING not in feature.in_environment:
            feature.not_in_environment.append(IN_SERVING)
        if feature.name in free or is_label(feature.name):
            continue
        _limit(feature.drift_comparator, feature.type, limits.max_drift)
        if feature.name in requested:
            _limit(feature.skew_comparator, feature.type, limits.max_skew)
    return compared


def features_of_requests(config: RunConfig) -> set[str]:
    """Returns the features that both requests and examples have."""
    return {f.column for f in config.features.query if not isinstance(f, HistoryFeature)}


def distances(found: anomalies_pb2.Anomalies, part: str) -> Iterator[dict[str, Any]]:
    """Yields the distance of every feature that TFDV compared.

    Args:
        found: What `tfdv.validate_statistics` returned.
        part: Of the examples.
    """
    for info in found.drift_skew_info:
        for measured in (*info.drift_measurements, *info.skew_measurements):
            yield {
                "feature": info.path.step[0],
                "part": part,
                "measure": _MEASURES[measured.type],
                "distance": round(measured.value, 6),
                "limit": None if measured.threshold == _ANY_DISTANCE else measured.threshold,
            }


def too_far(each: dict[str, Any], value: str) -> str:
    """Says in words that a distance is beyond its limit.

    Args:
        each: What `distances` yielded.
        value: Whose share differs most; empty for numbers, and where it may not be told.
    """
    measure = each["measure"][0].upper() + each["measure"][1:]
    to = "the training examples" if each["part"] == SERVING else "the last run"
    of_value = f", of {value}" if value else ""
    return (
        f"{measure} from {to} is {each['distance']:.3f}{of_value}; the limit is {each['limit']:g}"
    )


def _limit(
    comparator: schema_pb2.FeatureComparator, kind: schema_pb2.FeatureType, limit: float | None
) -> None:
    """Sets a limit; without one, that of a curated schema stays. A limit of 1 is none."""
    if limit is not None or not comparator.ByteSize():
        is_string = kind == schema_pb2.BYTES
        measure = comparator.infinity_norm if is_string else comparator.jensen_shannon_divergence
        measure.threshold = _ANY_DISTANCE if limit is None else limit
    for measure in (comparator.infinity_norm, comparator.jensen_shannon_divergence):
        if measure.threshold >= 1:
            measure.threshold = _ANY_DISTANCE
