"""Sums of lists that come in parts: whatever the parts, the figures are those of all lists."""

import dataclasses
import functools
import operator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.browsing import dcg_weights
from fairness_losses.exposure import exposure_ratio, exposure_share, list_exposure
from fairness_losses.metrics.divergence import awrf
from fairness_losses.metrics.diversity import (
    catalogue_coverage,
    gini,
    group_coverage,
    group_gini,
    item_exposure,
)
from fairness_losses.metrics.skew import group_skew
from fairness_losses.metrics.statistical_parity import rsp_at_k
from fairness_losses.metrics.streaming import ListSums, group_figures

K, NUM_ITEMS = 4, 12
WEIGHTS = dcg_weights(K)


def random_world(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Padded lists, deeper than K; whole and fractional members of A, B and unknown; a target."""
    rng = np.random.default_rng(seed)
    membership = np.eye(3)[rng.integers(0, 3, NUM_ITEMS)]
    membership[:2] = [[0.5, 0.5, 0], [0, 0.25, 0.75]]
    return rng.integers(-1, NUM_ITEMS, (20, K + 2)), membership, np.array([0.3, 0.7, 0.0])


def sums_in_parts(lists: np.ndarray, cuts: list[int]) -> ListSums:
    parts = np.split(lists, sorted(cuts))
    return functools.reduce(operator.add, (ListSums.of(p, WEIGHTS, NUM_ITEMS) for p in parts))


@given(st.integers(0, 10_000), st.lists(st.integers(0, 20), max_size=4))
@settings(max_examples=50, deadline=None)
def test_any_split_has_the_sums_of_the_whole(seed, cuts):
    lists, _, _ = random_world(seed)
    parts, whole = sums_in_parts(lists, cuts), ListSums.of(lists, WEIGHTS, NUM_ITEMS)
    assert parts.num_lists == whole.num_lists == 20
    np.testing.assert_array_equal(parts.slots, whole.slots)
    np.testing.assert_allclose(parts.exposure, whole.exposure, rtol=1e-13)


@given(st.integers(0, 10_000), st.lists(st.integers(0, 20), max_size=4))
@settings(max_examples=50, deadline=None)
def test_figures_of_any_split_are_those_of_the_metrics_on_all_lists(seed, cuts):
    lists, membership, target = random_world(seed)
    figures = group_figures(sums_in_parts(lists, cuts), membership, target)
    top = lists[:, :K]
    exposure = list_exposure(top, membership, WEIGHTS).sum(axis=0)
    candidates = list_exposure(top, membership, np.ones(K)).sum(axis=0)
    per_item = item_exposure(lists, WEIGHTS, NUM_ITEMS)
    # Sums of quarters and halves are exact, so these figures are the same to the last bit.
    np.testing.assert_array_equal(figures.candidates, candidates)
    np.testing.assert_array_equal(figures.candidate_share, exposure_share(candidates, target))
    np.testing.assert_array_equal(figures.skew, group_skew(candidates, target))
    assert figures.rsp == rsp_at_k(lists, membership, target, K)
    assert figures.coverage == catalogue_coverage(per_item)
    np.testing.assert_array_equal(figures.group_coverage, group_coverage(per_item, membership))
    same = functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-12)
    same(figures.exposure, exposure)
    same(figures.exposure_share, exposure_share(exposure, target))
    same(figures.exposure_ratio, exposure_ratio(exposure, target))
    same(figures.awrf, awrf(exposure, target))
    same(figures.gini, gini(per_item))
    same(figures.group_gini, group_gini(per_item, membership))


def test_probability_by_hand():
    """Two lists: item 0 (A) twice, item 1 (B) once. A 2 of 2 * 1, B 1 of 2 * 2."""
    lists, membership = np.array([[0, 1], [0, -1]]), np.array([[1, 0], [0, 1], [0, 1]])
    sums = ListSums.of(lists, dcg_weights(2), 3)
    figures = group_figures(sums, membership, np.array([0.5, 0.5]))
    np.testing.assert_array_equal(figures.probability, [1, 0.25])
    assert figures.rsp == pytest.approx(0.375 / 0.625)


def test_no_lists_have_zero_sums_that_change_nothing():
    lists, _, _ = random_world(0)
    none, some = (ListSums.of(part, WEIGHTS, NUM_ITEMS) for part in (lists[:0], lists))
    assert none.num_lists == 0
    for field in dataclasses.fields(ListSums):
        np.testing.assert_array_equal(
            getattr(none + some, field.name), getattr(some, field.name), err_msg=field.name
        )


def test_figures_of_no_lists_are_undefined():
    _, membership, target = random_world(0)
    nothing = group_figures(
        ListSums.of(np.zeros((0, K), int), WEIGHTS, NUM_ITEMS), membership, target
    )
    undefined = (nothing.exposure_share, nothing.skew, nothing.awrf, nothing.rsp, nothing.gini)
    assert all(np.isnan(figure).all() for figure in undefined)
    assert nothing.coverage == 0.0


def test_sums_under_different_attention_do_not_add_up():
    lists, _, _ = random_world(0)
    with pytest.raises(ValueError, match="same `weights`"):
        ListSums.of(lists, WEIGHTS, NUM_ITEMS) + ListSums.of(lists, np.ones(K), NUM_ITEMS)
