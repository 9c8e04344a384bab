"""Recall and NDCG: by hand, and against ranx."""

import numpy as np
import pytest

from fairness_losses.metrics.ranking import ndcg_at_k, recall_at_k

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


def test_a_list_of_all_relevant_items_is_ideal():
    hits = np.array([[True, True, False, False]])
    assert recall_at_k(hits, np.array([2]), 4) == ndcg_at_k(hits, np.array([2]), 4) == 1.0


def test_where_nothing_is_relevant_nothing_is_measured():
    assert np.isnan(recall_at_k(HITS[2:], np.array([0]), 3)).all()
    assert np.isnan(ndcg_at_k(HITS[2:], np.array([0]), 3)).all()


@pytest.mark.parametrize("metric", [recall_at_k, ndcg_at_k])
@pytest.mark.parametrize("hits", [HITS, HITS[0]])
def test_lists_are_as_deep_as_the_cutoff(metric, hits):
    with pytest.raises(ValueError, match=r"at least 4\]\. Received"):
        metric(hits, np.array([1, 1, 1]), 4)


def test_agrees_with_ranx(monkeypatch):
    """Random lists; ranx divides recall by all relevant items, we by those that fit on the list."""
    # Compiling ranx takes 40 seconds, running it as plain Python none.
    monkeypatch.setattr(pytest.importorskip("numba").config, "DISABLE_JIT", True)
    ranx = pytest.importorskip("ranx")
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
    theirs = ranx.evaluate(
        ranx.Qrels(qrels), ranx.Run(run), [f"ndcg@{k}", f"recall@{k}"], return_mean=False
    )
    hits, counts = np.take_along_axis(relevance, lists, 1), relevance.sum(axis=1)
    np.testing.assert_allclose(ndcg_at_k(hits, counts, k), theirs[f"ndcg@{k}"])
    np.testing.assert_allclose(
        recall_at_k(hits, counts, k), theirs[f"recall@{k}"] * counts / np.minimum(counts, k)
    )
