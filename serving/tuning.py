"""Finds the ScaNN settings that reach a recall, over all items and in every group, at least cost.

More leaves looked into and more candidates reordered both raise the recall and the cost. So the
cheapest pairs that reach the target lie on a staircase, which is walked from few leaves and many
candidates: up in leaves while the target is missed, down in candidates while it is reached.

The cost is a model, not a measurement: the same catalogue gets the same settings on every machine
and in every run. Latencies are measured too, and stand beside it in the curve.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fairness_losses.groups import Groups
from serving.index_audit import Comparison
from serving.search import NO_ITEM, LeafSearch, cleaned

_REORDERS = (1.25, 1.5, 1.75, 2, 2.5, 3, 4, 6, 8, 12, 16)
"""Candidates reordered, in lengths of a list of at least `_SHORTEST`."""

_SHORTEST = 25
"""A short list takes more candidates for each of its places."""

_STEP = 1.25
"""From one number of leaves looked into to the next."""

_BATCH_SIZE = 64

# Nanoseconds on one core of the machine of benchmarks/RESULTS.md, fitted to 128 settings of indexes
# of 50,000 to 200,000 vectors of 32 to 128 dimensions, asked in batches of 64, with a median error
# of 12 %. The choice depends on nothing but their ratios.
_PER_QUERY = 7300
_PER_LEAF_DIMENSION = 0.17
_PER_LEAF_LOOKED_INTO = 140
_PER_CODE = 0.022
_PER_REORDERED_DIMENSION = 0.48


@dataclasses.dataclass(frozen=True)
class Sample:
    """Queries and their exact lists.

    Attributes:
        queries: float32 `[num_queries, dim]`.
        exact: Rows, int `[num_queries, k]`.
    """

    queries: np.ndarray
    exact: np.ndarray


@dataclasses.dataclass(frozen=True)
class Point:
    """Settings and what they gave on the sample.

    Attributes:
        settings: `leaves`, `leaves_to_search` and `reorder`.
        cost: Modelled, in microseconds per query.
        p50_ms: Milliseconds per query, as measured in batches of 64; the median batch.
        recall: `overall` with `low` and `high`, and `by_group`, see `Comparison.group_recalls`.
        full_lists: Share of the queries whose list the leaves looked into could fill.
        margin: The least that a lower end of an interval is above the target.
        reached: Whether every list is full and no lower end is below the target.
    """

    settings: dict[str, int]
    cost: float
    p50_ms: float
    recall: dict[str, Any]
    full_lists: float
    margin: float
    reached: bool


def tune(
    search: LeafSearch,
    sample: Sample,
    group_labels: np.ndarray,
    target: float,
    known: Sequence[Point] = (),
) -> list[Point]:
    """Walks the staircase of one index.

    A setting reaches the target if the lower end of the 95 % interval does, over all items and in
    every group with at least `FEWEST_LISTED` places on the exact lists.

    Args:
        search: The index; its own settings do not matter.
        sample: Real queries.
        group_labels: Group of every item, string `[num_items]`.
        target: Recall wanted.
        known: Points of other indexes; the walk ends where nothing cheaper can follow.

    Returns:
        Every setting tried, in the order of the walk.
    """
    probe = _Probe(search, sample, group_labels, target)
    longer = max(probe.k, _SHORTEST)
    reorders = sorted({min(round(r * longer), search.num_items) for r in _REORDERS})
    leaf_counts = _leaf_counts(search.leaves)
    cheapest = min((point.cost for point in known if point.reached), default=math.inf)
    points: list[Point] = []
    leaves, reorder = 0, len(reorders) - 1
    while leaves < len(leaf_counts) and reorder >= 0:
        least_left = probe.cost(probe.settings(leaf_counts[leaves], reorders[0]))
        if least_left >= cheapest:
            break
        points.append(probe.point(leaf_counts[leaves], reorders[reorder]))
        if points[-1].reached:
            cheapest = min(cheapest, points[-1].cost)
            reorder -= 1
        else:
            leaves += 1
    return points


def choose(points: Sequence[Point]) -> Point:
    """Returns the cheapest point that reaches the target, or that which misses it by least."""
    reached = [point for point in points if point.reached]
    if reached:
        return min(reached, key=lambda point: point.cost)
    return max(points, key=lambda point: (point.margin, -point.cost))


def modelled_cost(settings: dict[str, int], num_items: int, dim: int) -> float:
    """Returns microseconds per query, asked in batches.

    All leaves are ranked by their centres, the best are looked into, the codes in them, one for two
    dimensions, are scored, and the best of those are reordered.

    Args:
        settings: `leaves`, `leaves_to_search` and `reorder`.
        num_items: Size of the catalogue.
        dim: Of the vectors.
    """
    leaves, looked_into = settings["leaves"], settings["leaves_to_search"]
    nanoseconds = (
        _PER_QUERY
        + _PER_LEAF_DIMENSION * leaves * dim
        + _PER_LEAF_LOOKED_INTO * looked_into
        + _PER_CODE * num_items * looked_into / leaves * dim / 2
        + _PER_REORDERED_DIMENSION * settings["reorder"] * dim
    )
    return nanoseconds / 1000


def _leaf_counts(leaves: int) -> list[int]:
    """1, 2, 3, 4, 5, 7, 9, … up to all leaves."""
    counts = [1]
    while counts[-1] < leaves:
        counts.append(min(max(counts[-1] + 1, round(counts[-1] * _STEP)), leaves))
    return counts


class _Probe:
    """Asks an index the same queries under different settings."""

    def __init__(
        self, search: LeafSearch, sample: Sample, group_labels: np.ndarray, target: float
    ) -> None:
        self._search, self._sample, self._target = search, sample, target
        groups = Groups.from_labels(group_labels)
        self._labels, self._codes = groups.labels, groups.codes
        self.k = sample.exact.shape[1]
        number = tf.TensorSpec([], tf.int32)
        queries = tf.TensorSpec([None, sample.queries.shape[1]], tf.float32)
        # What leaves cannot fill counts as lost here, so the whole tree is never searched instead.
        self._fetch = tf.function(
            lambda queries, leaves, reorder: cleaned(
                *search.fetch(queries, self.k, reorder, leaves)
            ),
            input_signature=[queries, number, number],
        )

    def settings(self, leaves_to_search: int, reorder: int) -> dict[str, int]:
        """Names a pair of settings."""
        return {
            "leaves": self._search.leaves,
            "leaves_to_search": leaves_to_search,
            "reorder": reorder,
        }

    def cost(self, settings: dict[str, int]) -> float:
        """Models the microseconds per query."""
        return modelled_cost(settings, self._search.num_items, self._sample.queries.shape[1])

    def point(self, leaves_to_search: int, reorder: int) -> Point:
        """Measures one pair of settings."""
        settings = self.settings(leaves_to_search, reorder)
        found, p50_ms = self._ask(tf.constant(leaves_to_search), tf.constant(reorder))
        comparison = Comparison.of(self._sample.exact, found, self._labels, self._codes)
        low, high = comparison.recall_interval()
        lowest = [low, *(group["low"] for group in comparison.judged_recalls().values())]
        margin = min(lowest) - self._target
        recall = {
            "overall": comparison.recall,
            "low": low,
            "high": high,
            "by_group": comparison.group_recalls(),
        }
        full = float(comparison.is_full.mean())
        reached = full == 1 and margin >= 0
        return Point(settings, self.cost(settings), p50_ms, recall, full, margin, reached)

    def _ask(self, leaves: tf.Tensor, reorder: tf.Tensor) -> tuple[np.ndarray, float]:
        """Rows found, int `[num_queries, k]`, and the milliseconds per query."""
        queries = self._sample.queries
        found = np.full(self._sample.exact.shape, NO_ITEM)
        milliseconds = []
        for start in range(0, len(queries), _BATCH_SIZE):
            batch = tf.constant(queries[start : start + _BATCH_SIZE])
            asked = time.perf_counter()
            rows = self._fetch(batch, leaves, reorder)[0].numpy()
            milliseconds.append((time.perf_counter() - asked) * 1000 / len(batch))
            found[start : start + len(rows), : rows.shape[1]] = rows
        return found, round(float(np.median(milliseconds)), 4)
