"""What changed since the last time: distributions of features, and shares of slices and groups."""

from __future__ import annotations

import math
import pathlib
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from fairness_losses.errors import InvalidInputError
from pipelines.config import RunConfig
from pipelines.examples.inputs import TIMESTAMP
from pipelines.validation.contract import free_features, is_label

_FEWEST = 100
"""Examples that a share is of before or after, at least, to be compared."""

_DEVIATIONS = 3.0
"""Standard errors by which the logarithm of a ratio of shares has to differ from what is allowed,
so that chance is not taken for change."""


def with_drift_limit(schema: schema_pb2.Schema, config: RunConfig) -> schema_pb2.Schema:
    """Returns a copy of a schema that limits how far distributions may be from earlier ones.

    The distance is the largest difference of a value's share for strings, and the Jensen-Shannon
    divergence for numbers; both are from 0 to 1. Ids, times and texts may be any, and the shares of
    labels are counted (`changed_shares`).

    Args:
        schema: The schema.
        config: The run; no limit without `validation.max_drift`.
    """
    limited = schema_pb2.Schema()
    limited.CopyFrom(schema)
    max_drift = config.validation.max_drift
    free = {TIMESTAMP, *free_features(config)}
    for feature in limited.feature:
        if max_drift is None or feature.name in free or is_label(feature.name):
            continue
        if feature.type == schema_pb2.BYTES:
            feature.drift_comparator.infinity_norm.threshold = max_drift
        else:
            feature.drift_comparator.jensen_shannon_divergence.threshold = max_drift
    return limited


def earlier_statistics(
    path: pathlib.Path, name: str
) -> statistics_pb2.DatasetFeatureStatisticsList | None:
    """Returns the statistics of all examples of an earlier run, if they are there.

    Args:
        path: The `.stats.pb` file.
        name: Of the data set in it.

    Raises:
        InvalidInputError: The file holds no statistics.
    """
    if not path.is_file():
        return None
    earlier = statistics_pb2.DatasetFeatureStatisticsList()
    try:
        found = tfdv.load_stats_binary(str(path))
        earlier.datasets.extend(d for d in found.datasets if d.name == name)
    except Exception as error:  # Protocol buffers raise what they are implemented in.
        raise InvalidInputError(f"{path}: there are no readable statistics: {error}.") from error
    return earlier


def changed_shares(
    positives: Mapping[str, Any], earlier: Mapping[str, Any], max_ratio: float, min_users: int
) -> Iterator[dict[str, str]]:
    """Finds slices, groups, and groups within a slice, whose share of the examples changed.

    A share changed if it is more than `max_ratio` times what it was, or less than its inverse, by
    more than chance explains.

    Args:
        positives: The content of `positives.json`.
        earlier: That of an earlier run.
        max_ratio: More than 1.
        min_users: Of slices with fewer users, then or now, nothing is told.

    Yields:
        An anomaly for each, which names it with its shares.
    """
    for number, (division, cells) in enumerate(positives.items()):
        before = earlier.get(division, {})
        if number == 0:  # All divisions are of the same examples.
            yield from _changes(_by_group(before), _by_group(cells), "group", max_ratio, set())
        few = {
            value
            for these in (before, cells)
            for value, cell in these.items()
            if cell["users"] < min_users
        }
        yield from _changes(_by_slice(before), _by_slice(cells), division, max_ratio, few)
        for value in (v for v in cells if v in before and v not in few):
            then, now = before[value]["positives"], cells[value]["positives"]
            yield from _changes(then, now, f"group in {division}={value}", max_ratio, set())


def _changes(
    before: Mapping[str, int],
    now: Mapping[str, int],
    feature: str,
    max_ratio: float,
    withheld: set[str],
) -> Iterator[dict[str, str]]:
    totals = sum(before.values()), sum(now.values())
    if not all(totals):
        return
    for value in sorted({*before, *now} - withheld):
        counts = before.get(value, 0), now.get(value, 0)
        shares = [count / total for count, total in zip(counts, totals, strict=True)]
        if max(shares[0] * totals[1], *counts) < _FEWEST:
            continue
        # Half a count more keeps a logarithm of none finite.
        then, here = ((n + 0.5) / total for n, total in zip(counts, totals, strict=True))
        logarithm = math.log(here / then)
        error = math.sqrt(sum(1 / (count + 0.5) for count in counts))
        if abs(logarithm) > math.log(max_ratio) + _DEVIATIONS * error:
            problem = f"{value}: {shares[1]:.1%} of the examples, {shares[0]:.1%} before"
            yield {"feature": feature, "part": "train", "problem": problem}


def _by_slice(cells: Mapping[str, Any]) -> dict[str, int]:
    return {value: sum(cell["positives"].values()) for value, cell in cells.items()}


def _by_group(cells: Mapping[str, Any]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for cell in cells.values():
        total.update(cell["positives"])
    return total
