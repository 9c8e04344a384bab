"""The mix: the same best lists from every pool of candidates, whatever a request controls."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from small_mixes import mix_of

from serving.mix.mix import Controls
from serving.search import NO_ITEM

NUM_ITEMS, K, DIM = 300, 12, 6
POOLS = ["exact", "over_fetch", "bucketized", "hybrid"]
TARGET = {"a": 0.5, "b": 0.3, "c": 0.2}


@pytest.fixture(scope="module")
def catalogue():
    """Vectors of many ties; "a" is what queries like, "c" is rare and far from them."""
    rng = np.random.default_rng(5)
    groups = rng.choice(["a", "b", "c", "unknown"], NUM_ITEMS, p=[0.6, 0.25, 0.04, 0.11])
    vectors = rng.integers(-2, 3, [NUM_ITEMS, DIM]).astype(np.float32)
    vectors[groups == "a", 0] += 2
    vectors[groups == "c", 0] -= 3
    queries = rng.integers(-1, 2, [40, DIM]).astype(np.float32)
    queries[:, 0] = 2
    return vectors, groups, queries


def _controls(num_queries, excluded=None, bonus=None):
    return Controls(
        tf.zeros([num_queries], tf.int32),
        tf.constant(np.zeros([num_queries, 0]) if excluded is None else excluded, tf.int32),
        tf.constant(np.zeros([num_queries, 4]) if bonus is None else bonus, tf.float32),
    )


def _lists(mix, queries, controls=None):
    if controls is None:
        rows, scores = tf.function(mix.by_policy)(tf.constant(queries))
    else:
        rows, scores = tf.function(mix.controlled)(tf.constant(queries), controls)
    return rows.numpy(), scores.numpy()


def _requests(groups, rng):
    """Exclusions and bonuses of 40 queries: none, groups left out, weights, all of "c" excluded."""
    bonus = np.zeros([40, 4], np.float32)
    bonus[5:10, 0] = -np.inf
    bonus[10:15, :3] = -np.inf
    bonus[15:20] = rng.integers(-3, 4, [5, 4])
    bonus[20:25, [0, 1, 3]] = -np.inf
    bonus[25:30, 2] = 20
    excluded = rng.integers(-1, NUM_ITEMS, [40, 30])
    rare = np.flatnonzero(groups == "c")
    excluded[30:35, : len(rare)] = rare
    excluded[:3] = NO_ITEM
    return _controls(40, excluded, bonus)


@pytest.mark.parametrize("policy", [{"kind": "relevance"}, {"kind": "quota"},
                                    {"kind": "quota", "prefix": "shares", "tolerance": 0.2},
                                    {"kind": "quota", "prefix": "significance"}])  # fmt: skip
@pytest.mark.parametrize("pool", POOLS[1:])
def test_every_pool_gives_the_lists_of_the_exact_one(catalogue, pool, policy):
    vectors, groups, queries = catalogue
    controls = _requests(groups, np.random.default_rng(6))
    exact, other = (mix_of(vectors, groups, K, TARGET, name, **policy) for name in ("exact", pool))
    for request in (None, controls):
        expected, found = _lists(exact, queries, request), _lists(other, queries, request)
        np.testing.assert_array_equal(expected[0], found[0])
        np.testing.assert_allclose(expected[1], found[1])


@pytest.mark.parametrize("pool", POOLS)
def test_counts_are_within_bounds_and_unknown_keeps_its_places(catalogue, pool):
    vectors, groups, queries = catalogue
    mix = mix_of(vectors, groups, K, TARGET, pool, kind="quota", tolerance=0.1)
    by_score = groups[_lists(mix_of(vectors, groups, K), queries)[0]]
    lists = groups[_lists(mix, queries)[0]]
    unknown = (by_score == "unknown").sum(axis=1)
    assert 0 < unknown.sum() < 40 * K
    np.testing.assert_array_equal((lists == "unknown").sum(axis=1), unknown)
    for group, share in TARGET.items():
        count, exact = (lists == group).sum(axis=1), (K - unknown) * share
        slack = np.maximum((K - unknown) * 0.1, 0.999)
        assert (np.abs(count - exact) <= slack).all()
    # Relevance alone does nothing of the kind.
    assert (by_score == "c").sum() == 0


def test_a_list_is_the_best_of_all_within_bounds(catalogue):
    vectors, groups, queries = catalogue
    some = np.r_[:6, np.flatnonzero(groups == "c")[:3], np.flatnonzero(groups == "b")[:3]]
    vectors, groups = vectors[some], groups[some]
    groups[groups == "unknown"] = "b"
    mix = mix_of(vectors, groups, 4, {"a": 0.5, "b": 0.25, "c": 0.25}, kind="quota", tolerance=0.25)
    rows, scores = _lists(mix, queries)
    for query, list_scores in zip(queries, scores, strict=True):
        best = max(
            (vectors[list(items)] @ query).sum()
            for items in itertools.combinations(range(len(some)), 4)
            if abs((groups[list(items)] == "a").sum() - 2) <= 1
            and abs((groups[list(items)] == "b").sum() - 1) <= 1
            and abs((groups[list(items)] == "c").sum() - 1) <= 1
        )
        assert list_scores.sum() == pytest.approx(best)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len(set(row)) == 4 for row in rows.tolist())


@pytest.mark.parametrize("pool", POOLS)
def test_lists_are_full_whenever_the_catalogue_is(catalogue, pool):
    vectors, groups, queries = catalogue
    rare = np.flatnonzero(groups == "c")
    assert K < len(rare) < K + 4
    bonus = np.full([40, 4], -np.inf)
    bonus[:, 2] = 0
    bonus[20:, 0] = 0
    excluded = np.tile(rare[:4], [40, 1])
    for kind in ("relevance", "quota"):
        mix = mix_of(vectors, groups, K, TARGET, pool, kind=kind)
        rows, scores = _lists(mix, queries, _controls(40, excluded, bonus))
        # All that is left of "c", and no more; with "a" there are enough.
        assert all(set(row[: len(rare) - 4]) == set(rare[4:]) for row in rows[:20])
        assert (rows[:20, len(rare) - 4 :] == NO_ITEM).all()
        assert np.isneginf(scores[:20, len(rare) - 4 :]).all()
        assert (rows[20:] != NO_ITEM).all()
        assert not np.isin(rows, rare[:4]).any()
        assert set(groups[rows[20:]].ravel()) <= {"a", "c"}


def test_targets_are_rescaled_among_the_allowed_groups(catalogue):
    vectors, groups, queries = catalogue
    bonus = np.zeros([40, 4])
    bonus[:, [0, 3]] = -np.inf
    mix = mix_of(vectors, groups, 10, TARGET, kind="quota", tolerance=0.0)
    rows, _ = _lists(mix, queries, _controls(40, None, bonus))
    # 0.3 to 0.2 of ten places.
    assert ((groups[rows] == "b").sum(axis=1) == 6).all()
    assert ((groups[rows] == "c").sum(axis=1) == 4).all()


def test_every_prefix_has_the_whole_part_of_its_share(catalogue):
    vectors, groups, queries = catalogue
    known = groups != "unknown"
    vectors, groups = vectors[known], groups[known]
    mix = mix_of(vectors, groups, K, TARGET, kind="quota", prefix="shares")
    lists = groups[_lists(mix, queries)[0]]
    for group, share in TARGET.items():
        counts = (lists == group).cumsum(axis=1)
        assert (counts >= np.floor(np.arange(1, K + 1) * share + 1e-9)).all()


def test_taking_turns_and_diversity_keep_the_counts(catalogue):
    vectors, groups, queries = catalogue
    plain = _lists(mix_of(vectors, groups, K, TARGET, kind="quota"), queries)[0]
    turns = mix_of(vectors, groups, K, TARGET, kind="quota", diversify="round_robin")
    turns = _lists(turns, queries)[0]
    np.testing.assert_array_equal(np.sort(plain), np.sort(turns))
    half = (groups[turns[:, : K // 2]] == "a").sum(axis=1)
    assert (np.abs(half - (groups[plain] == "a").sum(axis=1) / 2) <= 1).all()

    bounds = {"kind": "quota", "tolerance": 0.0, "diversify": "dpp", "theta": 0.0}
    diverse = _lists(mix_of(vectors, groups, K, TARGET, **bounds), queries)[0]
    unknown = (groups[plain] == "unknown").sum(axis=1)
    np.testing.assert_array_equal((groups[diverse] == "unknown").sum(axis=1), unknown)
    assert (np.abs((groups[diverse] == "c").sum(axis=1) - (K - unknown) * 0.2) < 1).all()

    def likeness(rows):
        units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
        return np.einsum("qid,qjd->q", units[rows], units[rows]).mean()

    assert likeness(diverse) < likeness(plain) / 1.5
