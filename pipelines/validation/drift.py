"""What changed since the last time: shares of slices and groups."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

_FEWEST = 100
"""Examples that a share is of before or after, at least, to be compared."""

_DEVIATIONS = 3.0
"""Standard errors by which the logarithm of a ratio of shares has to differ from what is allowed,
so that chance is not taken for change."""


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
