"""RSP and REO: by hand, and what must hold for any lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.metrics.statistical_parity import (
    recommendation_probability,
    relative_deviation,
    reo_at_k,
    rsp_at_k,
)

# Columns: A, B, unknown. Item 4 is half A's and half B's.
MEMBERSHIP = np.array([[1, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0]])
TARGET = np.array([0.5, 0.5, 0.0])
LISTS = np.array([[0, 4, 1], [0, 3, -1]])


def test_rsp_by_hand():
    """Candidates A 2.5 of 2 * 1.5, B 0.5 of 2 * 2.5: P = 5/6 and 1/10, whose mean is 7/15.

    Their standard deviation is half their difference, 11/30: RSP = 11/14.
    """
    assert rsp_at_k(LISTS, MEMBERSHIP, TARGET, 2) == pytest.approx(11 / 14)


def test_rsp_of_the_items_that_were_available():
    """List 1's user had chosen item 0 before, list 2's user item 1: A 2.5 of 2, B 0.5 of 4.

    (Item 0 on list 1 would then be a mistake; the arithmetic is 5/4 and 1/8: 9/16 over 11/16.)
    """
    available = np.array([2.0, 4.0, 2.0])
    assert rsp_at_k(LISTS, MEMBERSHIP, TARGET, 2, available) == pytest.approx(9 / 11)


def test_reo_by_hand():
    """Relevant: items 0 and 4 to list 1, items 0, 1 and 2 to list 2.

    A finds 1 + 0.5 + 1 of 2.5 relevant, B finds 0.5 of 2.5: P = 1 and 1/5, REO = 0.4 / 0.6.
    """
    hits = np.array([[True, True, False], [True, False, False]])
    relevant = np.array([2, 1, 1, 0, 1])
    assert reo_at_k(LISTS, hits, relevant, MEMBERSHIP, TARGET, 3) == pytest.approx(2 / 3)


def test_reo_at_a_smaller_cutoff_leaves_later_hits_out():
    """At 1, A finds 2 of 2.5 and B nothing: one positive probability of two."""
    hits = np.array([[True, True, False], [True, False, False]])
    relevant = np.array([2, 1, 1, 0, 1])
    assert reo_at_k(LISTS, hits, relevant, MEMBERSHIP, TARGET, 1) == pytest.approx(1.0)


def test_a_group_without_a_relevant_item_takes_no_part_in_reo():
    """Only A has relevant items, so there is nothing it could differ from."""
    hits = np.array([[True, False, False], [True, False, False]])
    relevant = np.array([2, 0, 0, 0, 0])
    assert reo_at_k(LISTS, hits, relevant, MEMBERSHIP, TARGET, 3) == 0.0


def test_hits_and_relevant_items_fit_the_lists_and_the_catalogue():
    with pytest.raises(ValueError, match=r"\[2, 3\] and \[5\]\. Received: \[2, 2\] and \[5\]"):
        reo_at_k(LISTS, np.ones((2, 2), bool), np.ones(5, int), MEMBERSHIP, TARGET, 2)
    with pytest.raises(ValueError, match=r"Received: \[2, 3\] and \[4\]"):
        reo_at_k(LISTS, np.ones((2, 3), bool), np.ones(4, int), MEMBERSHIP, TARGET, 2)


def test_without_lists_or_relevant_items_nothing_is_measured():
    none = np.zeros((0, 3), int)
    assert np.isnan(rsp_at_k(none, MEMBERSHIP, TARGET, 3))
    assert np.isnan(rsp_at_k(np.full((2, 3), -1), MEMBERSHIP, TARGET, 3))
    assert np.isnan(reo_at_k(none, none > 0, np.zeros(5, int), MEMBERSHIP, TARGET, 3))


def test_probability_of_a_group_without_items_is_undefined():
    result = recommendation_probability(np.array([1.0, 0.0, 0.0]), np.array([4.0, 2.0, 0.0]))
    np.testing.assert_array_equal(result, [0.25, 0.0, np.nan])


def test_a_group_without_items_is_left_out():
    """1/4 and 3/4 remain: 1/4 over 1/2."""
    target = np.array([0.4, 0.3, 0.3])
    assert relative_deviation(np.array([0.25, np.nan, 0.75]), target) == pytest.approx(0.5)


def test_the_upper_end_is_reached_where_one_group_has_all():
    """One of four: mean p / 4, variance 3 p^2 / 16, hence sqrt(3)."""
    values, target = np.array([0.2, 0.0, 0.0, 0.0]), np.full(4, 0.25)
    assert relative_deviation(values, target) == pytest.approx(np.sqrt(3))


@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=6).map(lambda n: np.array(n) / 5),
    st.floats(1e-3, 1),
    st.randoms(use_true_random=False),
)
def test_deviation_has_a_range_and_minds_neither_scale_nor_the_order_of_groups(
    values, scale, random
):
    target = np.full(len(values), 1 / len(values))
    deviation = relative_deviation(values, target)
    assert 0 <= deviation <= np.sqrt(len(values) - 1) + 1e-12
    assert (deviation < 1e-9) == (np.ptp(values) == 0)
    order = random.sample(range(len(values)), len(values))
    assert relative_deviation(scale * values[order], target) == pytest.approx(deviation, abs=1e-9)
    assert relative_deviation(np.full(len(values), scale), target) == pytest.approx(0, abs=1e-12)


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_neither_the_order_of_lists_nor_of_groups_nor_within_a_list_matters(seed):
    rng = np.random.default_rng(seed)
    membership, target = rng.dirichlet(np.ones(3), 20), rng.dirichlet(np.ones(3))
    lists, hits = rng.integers(-1, 20, (6, 5)), rng.random((6, 5)) < 0.5
    relevant = rng.integers(6, 9, 20)
    rows, ranks, groups = rng.permutation(6), rng.permutation(5), rng.permutation(3)
    shuffled = lists[rows][:, ranks], hits[rows][:, ranks]
    assert rsp_at_k(shuffled[0], membership[:, groups], target[groups], 5) == pytest.approx(
        rsp_at_k(lists, membership, target, 5)
    )
    assert reo_at_k(*shuffled, relevant, membership[:, groups], target[groups], 5) == pytest.approx(
        reo_at_k(lists, hits, relevant, membership, target, 5)
    )


def test_lists_of_the_whole_catalogue_are_at_parity():
    lists = np.tile(np.arange(5), (3, 1))
    assert rsp_at_k(lists, MEMBERSHIP, TARGET, 5) == pytest.approx(0, abs=1e-12)
    hits = np.tile([True, True, False, False, True], (3, 1))
    relevant = hits.sum(axis=0)
    assert reo_at_k(lists, hits, relevant, MEMBERSHIP, TARGET, 5) == pytest.approx(0, abs=1e-12)
