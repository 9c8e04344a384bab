"""Skew, MinSkew and MaxSkew: by hand, and what must hold for any lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.exposure import list_exposure
from fairness_losses.metrics.skew import group_skew, max_skew, min_skew, skew_at_k

# Columns: A, B, unknown. The last item is half A's and half B's.
MEMBERSHIP = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0]])
LISTS = np.array([[0, 3, -1], [2, 1, 0]])
TARGET = np.array([0.25, 0.75, 0.0])

counts = st.lists(st.floats(0.01, 1e6), min_size=2, max_size=5).map(np.array)


def test_two_lists_by_hand():
    """Candidates A 1.5, B 0.5: shares 3/4, 1/4. Candidates A 1, B 1, unknown 1: shares 1/2, 1/2."""
    expected = np.log([[0.75 / 0.25, 0.25 / 0.75], [0.5 / 0.25, 0.5 / 0.75]])
    result = skew_at_k(LISTS, MEMBERSHIP, TARGET, 3)
    np.testing.assert_allclose(result[:, :2], expected)
    assert np.isnan(result[:, 2]).all()


def test_the_cutoff_decides():
    """First ranks: A alone, ln(1 / 0.25) and none of B; and unknown alone, of which nobody has."""
    result = skew_at_k(LISTS, MEMBERSHIP, TARGET, 1)
    np.testing.assert_allclose(result[0, :2], [np.log(4), -np.inf])
    assert np.isnan(result[1]).all()


def test_extremes_by_hand():
    """Shares 0.1, 0.5, 0.4 of targets 0.2, 0.5, 0.3: ln 1/2, 0 and ln 4/3; unknown is no group."""
    candidates, target = np.array([1.0, 5.0, 4.0, 90.0]), np.array([0.2, 0.5, 0.3, 0.0])
    assert min_skew(candidates, target) == pytest.approx(np.log(0.5))
    assert max_skew(candidates, target) == pytest.approx(np.log(4 / 3))


def test_extremes_are_taken_list_by_list():
    candidates = list_exposure(LISTS, MEMBERSHIP, np.ones(3))
    np.testing.assert_allclose(min_skew(candidates, TARGET), np.log([1 / 3, 2 / 3]))
    np.testing.assert_allclose(max_skew(candidates, TARGET), np.log([3, 2]))


def test_without_candidates_there_is_no_skew():
    nobody = np.array([0.0, 0.0, 7.0])
    assert np.isnan(group_skew(nobody, TARGET)).all()
    assert np.isnan(min_skew(nobody, TARGET))
    assert np.isnan(max_skew(nobody, TARGET))


def test_no_lists_have_no_skews():
    assert skew_at_k(np.zeros((0, 3), int), MEMBERSHIP, TARGET, 3).shape == (0, 3)


def test_a_single_group_is_always_at_its_target():
    assert group_skew(np.array([3.0]), np.array([1.0])) == 0.0


@given(st.lists(st.integers(1, 4), min_size=2, max_size=5).map(np.array))
def test_zero_if_and_only_if_at_the_target(candidates):
    np.testing.assert_allclose(
        group_skew(candidates, candidates / candidates.sum()), 0.0, atol=1e-12
    )
    target = np.full(len(candidates), 1 / len(candidates))
    off_target = np.ptp(candidates) > 0
    assert (min_skew(candidates, target) < -1e-9) == off_target
    assert (max_skew(candidates, target) > 1e-9) == off_target


@given(counts, st.floats(0.01, 100), st.randoms(use_true_random=False))
def test_neither_scale_nor_the_order_of_groups_matters(candidates, scale, random):
    target = np.arange(1, len(candidates) + 1) / np.arange(1, len(candidates) + 1).sum()
    order = random.sample(range(len(candidates)), len(candidates))
    values = group_skew(candidates, target)
    np.testing.assert_allclose(group_skew(scale * candidates, target), values, atol=1e-9)
    np.testing.assert_allclose(
        group_skew(candidates[order], target[order]), values[order], atol=1e-9
    )
    np.testing.assert_allclose(np.exp(values) @ target, 1.0)


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_neither_the_order_within_a_list_nor_that_of_lists_matters(seed):
    rng = np.random.default_rng(seed)
    membership, target = rng.dirichlet(np.ones(3), 20), rng.dirichlet(np.ones(3))
    lists = rng.integers(-1, 20, (6, 5))
    values = skew_at_k(lists, membership, target, 5)
    order = rng.permutation(6)
    np.testing.assert_allclose(skew_at_k(lists[order], membership, target, 5), values[order])
    within = rng.permuted(lists, axis=1)
    np.testing.assert_allclose(skew_at_k(within, membership, target, 5), values, atol=1e-12)
