"""Exact search in two rounds finds what sorting everything finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towers.exact_search import ExactSearch

NOTHING = np.zeros((0, 2), np.int64)


def sorted_lists(query, candidate, excluded, k: int) -> np.ndarray:
    """Best first, ties by item, by a stable sort of all scores."""
    scores = query @ candidate.T
    scores[excluded[:, 0], excluded[:, 1]] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.where(np.isneginf(np.take_along_axis(scores, order, 1)), -1, order)


def whole_numbers(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Small ones, whose inner products are exact and often equal."""
    return rng.integers(-2, 3, shape).astype(np.float32)


def pairs(rng: np.random.Generator, num_queries: int, num_items: int, share: float) -> np.ndarray:
    return np.argwhere(rng.random((num_queries, num_items)) < share)


@pytest.mark.parametrize("num_items", [100, 1023, 1024, 1025, 5000])
@pytest.mark.parametrize("k", [1, 7])
def test_lists_are_those_of_a_full_sort(num_items, k):
    rng = np.random.default_rng(num_items + k)
    query = rng.normal(size=(20, 8)).astype(np.float32)
    candidate = rng.normal(size=(num_items, 8)).astype(np.float32)
    excluded = pairs(rng, 20, num_items, 0.1)
    lists = ExactSearch(candidate, k)(query, excluded)
    np.testing.assert_array_equal(lists, sorted_lists(query, candidate, excluded, k))
    assert lists.dtype == np.int32


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 3000))
def test_equal_scores_go_by_item(seed, k, num_items):
    """With whole numbers most lists have ties, within and at their end."""
    rng = np.random.default_rng(seed)
    query, candidate = whole_numbers(rng, 5, 3), whole_numbers(rng, num_items, 3)
    excluded, k = pairs(rng, 5, num_items, 0.3), min(k, num_items)
    lists = ExactSearch(candidate, k)(query, excluded)
    np.testing.assert_array_equal(lists, sorted_lists(query, candidate, excluded, k))


def test_a_query_with_too_few_items_left_has_a_short_list_and_others_do_not_suffer():
    """Of 2,000 items, the first query may be shown only item 1,234 and the second anything."""
    candidate = np.linspace(0, 1, 2000, dtype=np.float32)[:, None]
    others = np.delete(np.arange(2000), 1234)
    excluded = np.stack([np.zeros_like(others), others], axis=1)
    lists = ExactSearch(candidate, 3)(np.ones((2, 1), np.float32), excluded)
    np.testing.assert_array_equal(lists, [[1234, -1, -1], [1999, 1998, 1997]])


def test_negative_scores_are_still_better_than_padding():
    """1,030 items are padded to a multiple of 256, with vectors of zeros."""
    candidate = -np.arange(1, 1031, dtype=np.float32)[:, None]
    lists = ExactSearch(candidate, 2)(np.ones((1, 1), np.float32), NOTHING)
    np.testing.assert_array_equal(lists, [[0, 1]])


def test_no_queries_have_no_lists():
    search = ExactSearch(np.ones((1000, 2), np.float32), 3)
    assert search(np.zeros((0, 2), np.float32), NOTHING).shape == (0, 3)
