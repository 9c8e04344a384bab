"""The walk over settings: what it tries, what it chooses, and that it chooses it again."""

import json
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from serving.config import ServingConfig
from serving.index import build_index
from serving.tuning import Point, Sample, choose, modelled_cost, tune

ONE_GROUP = np.full(1000, "a")
SETTINGS = {"leaves": 100, "leaves_to_search": 10, "reorder": 200}


class StaircaseSearch:
    """An index whose answers are a rule: rows 0 to 89 are found where leaves times candidates are
    enough, rows 90 to 99 where leaves are."""

    num_items, leaves = 1000, 40

    def __init__(self, enough: int = 1600, enough_leaves: int = 1) -> None:
        self._enough, self._enough_leaves = enough, enough_leaves

    def fetch(self, queries: Any, wanted: Any, reorder: Any, leaves: Any) -> tuple[Any, Any]:
        rows = tf.tile(tf.range(wanted)[None], [tf.shape(queries)[0], 1])
        is_found = (rows >= 90) | (leaves * reorder >= self._enough)
        is_found &= (rows < 90) | (leaves >= self._enough_leaves)
        # In the place of what is not found is an item that is not wanted.
        return tf.where(is_found, rows, rows + 500), tf.zeros(tf.shape(rows))


def _walk(groups: np.ndarray = ONE_GROUP, **rule: int) -> list[Point]:
    sample = Sample(np.zeros([40, 4], np.float32), np.tile(np.arange(100), [40, 1]))
    return tune(StaircaseSearch(**rule), sample, groups, target=0.85)


def test_the_walk_finds_the_cheapest_settings_of_all():
    leaves = [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 19, 24, 30, 38, 40]
    reorders = [125, 150, 175, 200, 250, 300, 400, 600, 800, 1000]
    best = min(
        modelled_cost({"leaves": 40, "leaves_to_search": n, "reorder": r}, 1000, 4)
        for n in leaves
        for r in reorders
        if n * r >= 1600
    )
    points = _walk()
    assert choose(points).cost == best
    assert choose(points).reached
    # Not all pairs, nor what can only be dearer.
    assert len(points) < len(leaves) + len(reorders)


def test_without_settings_that_reach_the_target_the_best_are_taken():
    points = _walk(enough=100_000)
    assert not any(point.reached for point in points)
    assert choose(points).margin == max(point.margin for point in points)


def test_a_small_group_decides_the_settings():
    # Rows 90 to 99 are a tenth of the lists: without them the recall of all items is .9. As a group
    # of their own they are asked for, and they need 10 leaves.
    groups = np.where((np.arange(1000) >= 90) & (np.arange(1000) < 100), "small", "large")
    assert choose(_walk(enough_leaves=10)).settings["leaves_to_search"] < 10
    chosen = choose(_walk(groups, enough_leaves=10))
    assert chosen.reached
    assert chosen.settings == {"leaves": 40, "leaves_to_search": 10, "reorder": 175}


def test_more_work_costs_more():
    cost = modelled_cost(SETTINGS, 10_000, 64)
    for name in ("leaves_to_search", "reorder"):
        assert modelled_cost({**SETTINGS, name: 2 * SETTINGS[name]}, 10_000, 64) > cost
    assert modelled_cost(SETTINGS, 20_000, 64) > cost
    assert modelled_cost(SETTINGS, 10_000, 128) > cost


def _tuned(folder, vectors, queries, groups, **config: Any) -> dict:
    settings = ServingConfig(index="scann", k=20, **config)
    report = build_index(vectors, groups, settings, folder, 0, query_vectors=queries)
    tuning = json.loads((folder / "tuning.json").read_text())
    assert tuning["chosen"] == report["settings"]
    return tuning


def test_two_builds_choose_the_same_and_measure_the_same_recall(tmp_path, clustered):
    vectors, queries = clustered(3000, seed=1), clustered(400, seed=2)
    groups = np.where(np.arange(3000) % 10, "large", "small")
    points = []
    for name in ("first", "second"):
        tuning = _tuned(tmp_path / name, vectors, queries, groups)
        points.append([{**p, "p50_ms": None} for p in tuning["points"]])
    assert points[0] == points[1]


def test_the_curve_says_what_every_group_got(tmp_path, clustered):
    vectors, queries = clustered(3000, seed=1), clustered(400, seed=2)
    groups = np.where(np.arange(3000) % 10, "large", "small")
    tuning = _tuned(tmp_path, vectors, queries, groups)
    assert tuning["num_queries"] == 200
    assert tuning["reached"]
    assert {p["settings"]["leaves"] for p in tuning["points"]} == {55, 110}
    for point in tuning["points"]:
        recalls = point["recall"]["by_group"]
        assert sum(r["count"] for r in recalls.values()) == 200 * 20
        assert point["p50_ms"] > 0
        if point["reached"]:
            assert min(r["low"] for r in recalls.values()) >= 0.95


@pytest.mark.parametrize("leaves", [7, 60])
def test_leaves_that_are_given_are_kept(tmp_path, clustered, leaves):
    groups = np.full(3000, "a")
    tuning = _tuned(tmp_path, clustered(3000, 1), clustered(100, 2), groups, leaves=leaves)
    assert tuning["chosen"]["leaves"] == leaves
    assert {p["settings"]["leaves"] for p in tuning["points"]} == {leaves}
