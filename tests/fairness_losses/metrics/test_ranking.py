"""Ranking quality: by hand, and against ranx; and its means over slices."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.metrics.ranking import (
    by_slice,
    hit_rate_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank_at_k,
)

METRICS = [hit_rate_at_k, ndcg_at_k, precision_at_k, recall_at_k, reciprocal_rank_at_k]

# Relevant items found at ranks 1 and 3; at rank 2; nowhere.
HITS = np.array([[True, False, True], [False, True, False], [False, False, False]])
SECOND = 1 / np.log2(3)  # Discount at rank 2; it is 1 at rank 1 and 1/2 at rank 3.


def test_recall_by_hand():
    """2 of 2, 1 of 5 of which 3 fit on the list, 0 of 1."""
    np.testing.assert_allclose(recall_at_k(HITS, np.array([2, 5, 1]), 3), [1, 1 / 3, 0])


def test_recall_at_a_smaller_cutoff_asks_for_no_more_than_fit():
    np.testing.assert_allclose(recall_at_k(HITS, np.array([2, 5, 1]), 1), [1, 0, 0])


def test_ndcg_by_hand():
    """(1 + 1/2) / (1 + s); s / (1 + s + 1/2), as 3 of 5 fit on the ideal list; 0."""
    expected = [1.5 / (1 + SECOND), SECOND / (1.5 + SECOND), 0.0]
    np.testing.assert_allclose(ndcg_at_k(HITS, np.array([2, 5, 1]), 3), expected)


def test_precision_by_hand():
    """2, 1 and 0 of 3 ranks; at the cutoff 2, 1, 1 and 0 of 2."""
    np.testing.assert_allclose(precision_at_k(HITS, np.array([2, 5, 1]), 3), [2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(precision_at_k(HITS, np.array([2, 5, 1]), 2), [0.5, 0.5, 0])


def test_hit_rate_by_hand():
    np.testing.assert_array_equal(hit_rate_at_k(HITS, np.array([2, 5, 1]), 3), [1, 1, 0])
    np.testing.assert_array_equal(hit_rate_at_k(HITS, np.array([2, 5, 1]), 1), [1, 0, 0])


def test_reciprocal_rank_by_hand():
    """The first relevant item is at rank 1, at rank 2, and nowhere."""
    result = reciprocal_rank_at_k(HITS, np.array([2, 5, 1]), 3)
    np.testing.assert_array_equal(result, [1, 1 / 2, 0])
    result = reciprocal_rank_at_k(HITS, np.array([2, 5, 1]), 1)
    np.testing.assert_array_equal(result, [1, 0, 0])


def test_a_list_of_all_relevant_items_is_ideal():
    hits = np.array([[True, True, False, False]])
    assert recall_at_k(hits, np.array([2]), 4) == ndcg_at_k(hits, np.array([2]), 4) == 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_where_nothing_is_relevant_nothing_is_measured(metric):
    assert np.isnan(metric(HITS[2:], np.array([0]), 3)).all()


@pytest.mark.parametrize("metric", METRICS)
def test_no_lists_have_no_quality(metric):
    assert metric(HITS[:0], np.zeros(0, int), 3).shape == (0,)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("hits", [HITS, HITS[0]])
def test_lists_are_as_deep_as_the_cutoff(metric, hits):
    with pytest.raises(ValueError, match=r"at least 4\]\. Received"):
        metric(hits, np.array([1, 1, 1]), 4)


def test_agrees_with_ranx(monkeypatch):
    """Random lists; ranx divides recall by all relevant items, we by those that fit on the list."""
    # Compiling ranx takes 40 seconds, running it as plain Python none.
    monkeypatch.setattr(importlib.import_module("numba").config, "DISABLE_JIT", True)
    ranx = importlib.import_module("ranx")
    rng = np.random.default_rng(0)
    depth, k = 20, 10
    relevance = rng.random((30, 40)) < rng.uniform(0.05, 0.6, (30, 1))
    relevance[:, 39] = True
    lists = np.argsort(rng.random((30, 40)), axis=1)[:, :depth]
    queries = [f"q{row:02}" for row in range(30)]
    qrels = {
        q: {str(i): 1 for i in np.flatnonzero(r)} for q, r in zip(queries, relevance, strict=True)
    }
    run = {
        q: {str(i): float(depth - rank) for rank, i in enumerate(items)}
        for q, items in zip(queries, lists, strict=True)
    }
    ours = {
        "hit_rate": hit_rate_at_k,
        "mrr": reciprocal_rank_at_k,
        "ndcg": ndcg_at_k,
        "precision": precision_at_k,
    }
    names = [f"{name}@{k}" for name in [*ours, "recall"]]
    theirs = ranx.evaluate(ranx.Qrels(qrels), ranx.Run(run), names, return_mean=False)
    hits, counts = np.take_along_axis(relevance, lists, 1), relevance.sum(axis=1)
    for name, metric in ours.items():
        np.testing.assert_allclose(metric(hits, counts, k), theirs[f"{name}@{k}"], err_msg=name)
    np.testing.assert_allclose(
        recall_at_k(hits, counts, k), theirs[f"recall@{k}"] * counts / np.minimum(counts, k)
    )


def test_means_over_slices_by_hand():
    """Slice 1: 1 and 2, the NaN left out. Slice 2: 2 and 6. Slice 3: NaN alone. Slice 4: nobody."""
    values = np.array([1.0, 2.0, np.nan, 6.0])
    slices = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 0]], bool)
    means, counts = by_slice(values, slices)
    np.testing.assert_array_equal(means, [1.5, 4.0, np.nan, np.nan])
    np.testing.assert_array_equal(counts, [2, 2, 0, 0])


def test_an_infinite_value_stays_in_its_slice():
    means, _ = by_slice(np.array([-np.inf, 1.0]), np.eye(2, dtype=bool))
    np.testing.assert_array_equal(means, [-np.inf, 1.0])


def test_means_of_yes_and_no_are_shares():
    means, counts = by_slice(np.array([True, False, True]), np.ones((3, 1), bool))
    np.testing.assert_allclose(means, [2 / 3])
    np.testing.assert_array_equal(counts, [3])


@given(st.integers(0, 10_000), st.integers(0, 30))
@settings(max_examples=30)
def test_means_over_slices_merge_by_their_counts(seed, cut):
    rng = np.random.default_rng(seed)
    values, slices = rng.normal(size=30), rng.random((30, 4)) < 0.5
    values[rng.random(30) < 0.2] = np.nan
    (first, n), (second, m) = (
        by_slice(values[half], slices[half]) for half in (slice(0, cut), slice(cut, 30))
    )
    means, counts = by_slice(values, slices)
    np.testing.assert_array_equal(n + m, counts)
    merged = (np.nan_to_num(first) * n + np.nan_to_num(second) * m) / (n + m)
    np.testing.assert_allclose(merged, means)
    order = rng.permutation(30)
    np.testing.assert_allclose(by_slice(values[order], slices[order])[0], means)


@pytest.mark.parametrize("slices", [np.ones((2, 1)), np.ones((3, 1), bool), np.ones(2, bool)[0]])
def test_slices_say_yes_or_no_for_every_list(slices):
    with pytest.raises(ValueError, match=r"bool of the shape \[2, 'num_slices'\]"):
        by_slice(np.ones(2), slices)
