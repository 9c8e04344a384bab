"""What changed since the last time: distributions of features, and shares of slices and groups."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow_data_validation as tfdv
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from fairness_losses.errors import InvalidInputError

_FEWEST = 100
"""Examples that a share is of before or after, at least, to be compared."""

_DEVIATIONS = 3.0
"""Standard errors by which the logarithm of a ratio of shares has to differ from what is allowed,
so that chance is not taken for change."""


def with_drift_limit(
    schema: schema_pb2.Schema, free: set[str], max_drift: float | None
) -> schema_pb2.Schema:
    """Returns a copy of a schema that limits how far distributions may be from earlier ones.

    The distance is the largest difference of a value's share for strings, and the Jensen-Shannon
    divergence for numbers; both are from 0 to 1.

    Args:
        schema: The schema.
        free: Features that are not limited.
        max_drift: The largest distance; no limit if None.
    """
    limited = schema_pb2.Schema()
    limited.CopyFrom(schema)
    for feature in limited.feature if max_drift is not None else []:
        if feature.name in free:
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
    for division in list(positives)[:1]:  # All divisions are of the same examples.
        groups = [_summed(_counts(these.get(division, {})), 1) for these in (earlier, positives)]
        yield from _changes(groups[0], groups[1], "group", max_ratio, set())
    for division, cells in positives.items():
        before, now = _counts(earlier.get(division, {})), _counts(cells)
        few = {
            value
            for these in (earlier.get(division, {}), cells)
            for value, cell in these.items()
            if cell["users"] < min_users
        }
        yield from _changes(_summed(before, 0), _summed(now, 0), division, max_ratio, few)
        for value in cells:
            if value not in few:
                where = f"group in {division}={value}"
                own = [_within(counts, value) for counts in (before, now)]
                yield from _changes(own[0], own[1], where, max_ratio, set())


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


def _counts(cells: Mapping[str, Any]) -> dict[tuple[str, str], int]:
    return {
        (value, group): count
        for value, cell in cells.items()
        for group, count in cell["positives"].items()
    }


def _within(counts: Mapping[tuple[str, str], int], value: str) -> dict[str, int]:
    """Counts by group of one slice."""
    return {group: count for (of, group), count in counts.items() if of == value}


def _summed(counts: Mapping[tuple[str, str], int], part: int) -> dict[str, int]:
    """Counts by slice (0) or by group (1)."""
    totals: dict[str, int] = {}
    for key, count in counts.items():
        totals[key[part]] = totals.get(key[part], 0) + count
    return totals
