"""DIV@k, coverage and Gini: by hand, and what must hold for any lists."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.browsing import dcg_weights
from fairness_losses.exposure import list_exposure
from fairness_losses.metrics.diversity import (
    catalogue_coverage,
    diversity_at_k,
    gini,
    group_coverage,
    group_gini,
    item_exposure,
)

SECOND = 1 / np.log2(3)  # Attention at rank 2; it is 1 at rank 1 and 1/2 at rank 3.

# Columns: A, B, unknown. The last item is half A's and half B's.
MEMBERSHIP = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0]])
TARGET = np.array([0.5, 0.5, 0.0])
LISTS = np.array([[0, 1, 2], [0, 2, 1], [3, -1, -1], [0, 0, 2], [-1, -1, -1]])

exposures = st.lists(st.floats(0, 1e3), min_size=1, max_size=12).map(np.array)


def gini_by_pairs(exposure: np.ndarray, weights: np.ndarray) -> float:
    pairs = np.outer(weights, weights) * np.abs(exposure[:, None] - exposure)
    return pairs.sum() / (2 * weights.sum() * (weights @ exposure))


def test_which_lists_hold_every_group():
    """At 2: A and B; A and unknown; both in one item; A alone; nobody. At 3 list 2 has B too."""
    at_2 = diversity_at_k(LISTS, MEMBERSHIP, TARGET, 2)
    np.testing.assert_array_equal(at_2, [True, False, True, False, False])
    assert diversity_at_k(LISTS, MEMBERSHIP, TARGET, 3).mean() == 3 / 5


def test_unknown_is_asked_for_where_it_has_a_target():
    asked = diversity_at_k(LISTS, MEMBERSHIP, np.array([0.4, 0.4, 0.2]), 3)
    np.testing.assert_array_equal(asked, [True, True, False, False, False])


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_diversity_minds_no_order_and_grows_with_the_cutoff(seed):
    rng = np.random.default_rng(seed)
    membership, target = np.eye(3)[rng.integers(0, 3, 20)], np.array([0.5, 0.3, 0.2])
    lists = rng.integers(-1, 20, (8, 6))
    rows, groups = rng.permutation(8), rng.permutation(3)
    by_cutoff = [diversity_at_k(lists, membership, target, k) for k in range(1, 7)]
    assert (np.diff(np.array(by_cutoff, int), axis=0) >= 0).all()
    permuted = diversity_at_k(
        rng.permuted(lists[rows], axis=1), membership[:, groups], target[groups], 6
    )
    np.testing.assert_array_equal(permuted, by_cutoff[-1][rows])


def test_item_exposure_by_hand():
    """Item 0 is first three times and second once, item 1 second and third, item 2 at 3, 2, 3."""
    exposure = item_exposure(LISTS, dcg_weights(3), 5)
    np.testing.assert_allclose(exposure, [3 + SECOND, SECOND + 0.5, 1 + SECOND, 1, 0])
    np.testing.assert_array_equal(item_exposure(LISTS, np.ones(2), 5), [4, 1, 1, 1, 0])


def test_attention_may_differ_from_list_to_list():
    """Item 0 at rank 1 of the first list and rank 2 of the second: 1 + 0.25."""
    lists, weights = np.array([[0, 1], [1, 0]]), np.array([[1.0, 0.5], [1.0, 0.25]])
    np.testing.assert_array_equal(item_exposure(lists, weights, 2), [1.25, 1.5])


def test_no_lists_expose_nothing():
    exposure = item_exposure(np.zeros((0, 3), int), dcg_weights(3), 4)
    np.testing.assert_array_equal(exposure, np.zeros(4))
    assert catalogue_coverage(exposure) == 0.0
    assert np.isnan(gini(exposure))


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_groups_get_what_their_items_get(seed):
    rng = np.random.default_rng(seed)
    membership = rng.dirichlet(np.ones(3), 20)
    lists, weights = rng.integers(-1, 20, (8, 6)), dcg_weights(6)
    np.testing.assert_allclose(
        item_exposure(lists, weights, 20) @ membership,
        list_exposure(lists, membership, weights).sum(axis=0),
        atol=1e-12,
    )


def test_coverage_by_hand():
    """Listed: items 0 and 3 of 4. A has 1.5 of its 1.5, B 0.5 of 1.5, unknown 0 of 1."""
    exposure = np.array([2.0, 0.0, 0.0, 1.0])
    assert catalogue_coverage(exposure) == 0.5
    np.testing.assert_allclose(group_coverage(exposure, MEMBERSHIP), [1, 1 / 3, 0])


def test_coverage_of_a_group_without_items_is_undefined():
    membership = np.array([[1.0, 0.0], [1.0, 0.0]])
    np.testing.assert_array_equal(group_coverage(np.array([1.0, 0.0]), membership), [0.5, np.nan])
    assert np.isnan(catalogue_coverage(np.zeros(0)))


def test_gini_by_hand():
    """Exposures 0, 1, 3: differences 1, 3, 2, twice each, over 2 * 3 * 4."""
    assert gini(np.array([3.0, 0.0, 1.0])) == pytest.approx(12 / 24)


def test_gini_within_groups_by_hand():
    """A: exposures 4 with weight 1 and 1 with weight 1/2. 2 * 3 / 2 over 2 * 1.5 * 4.5.

    B: 0 with weight 1 and 1 with weight 1/2: 2 * 1 / 2 over 2 * 1.5 * 0.5. Unknown: one item.
    """
    result = group_gini(np.array([4.0, 0.0, 2.0, 1.0]), MEMBERSHIP)
    np.testing.assert_allclose(result, [3 / 13.5, 1 / 1.5, 0])


def test_gini_of_equals_is_0_and_of_one_who_has_all_almost_1():
    assert gini(np.full(7, 0.3)) == pytest.approx(0, abs=1e-12)
    assert gini(np.array([0.0, 0.0, 5.0, 0.0])) == pytest.approx(1 - 1 / 4)


def test_gini_where_nothing_was_exposed_or_nobody_is_there():
    membership = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    np.testing.assert_array_equal(
        group_gini(np.array([0.0, 1.0]), membership), [np.nan, 0.0, np.nan]
    )
    assert np.isnan(gini(np.zeros(0)))


@pytest.mark.parametrize("bad", [np.nan, -1.0])
def test_exposure_without_an_order_has_no_gini(bad):
    with pytest.raises(ValueError, match="not be negative, nor NaN"):
        gini(np.array([1.0, bad]))


@given(exposures, st.floats(0.01, 100), st.integers(1, 3), st.randoms(use_true_random=False))
def test_gini_minds_neither_scale_nor_order_nor_how_often_a_catalogue_repeats(
    exposure, scale, times, random
):
    exposure = np.round(exposure, 3)
    value = gini(exposure)
    if not exposure.any():
        assert np.isnan(value)
        return
    order = random.sample(range(len(exposure)), len(exposure))
    assert 0 <= value <= 1 - 1 / len(exposure) + 1e-9
    assert value == pytest.approx(gini_by_pairs(exposure, np.ones(len(exposure))), abs=1e-9)
    again = np.tile(scale * exposure[order], times)
    assert gini(again) == pytest.approx(value, abs=1e-9)


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_gini_of_fractional_members_agrees_with_its_definition_over_pairs(seed):
    rng = np.random.default_rng(seed)
    exposure, membership = rng.integers(0, 5, 15) + 0.5, rng.dirichlet(np.ones(3), 15)
    expected = [gini_by_pairs(exposure, weights) for weights in membership.T]
    np.testing.assert_allclose(group_gini(exposure, membership), expected, atol=1e-12)
