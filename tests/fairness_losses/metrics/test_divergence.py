"""NDKL and AWRF: by hand, against fairranktune and SciPy, and what must hold for any lists."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.browsing import dcg_weights
from fairness_losses.exposure import list_exposure
from fairness_losses.metrics.divergence import awrf, ndkl

SECOND = 1 / np.log2(3)  # Discount at rank 2; it is 1 at rank 1 and 1/2 at rank 3.

# Columns: A, B, unknown. The last item is a quarter A's and three quarters B's.
MEMBERSHIP = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.25, 0.75, 0]])
TARGET = np.array([0.25, 0.75, 0.0])


def random_lists(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lists of 6 ranks, some padded, memberships of 20 items in 3 groups, and a target."""
    rng = np.random.default_rng(seed)
    lists = rng.integers(-1, 20, (5, 6))
    return lists, rng.dirichlet(np.ones(3), 20), rng.dirichlet(np.full(3, 5.0))


def test_ndkl_of_two_items_by_hand():
    """Rank 1, A alone: ln(1 / 0.25) = ln 4. Rank 2, half and half: (ln 2 + ln 2/3) / 2."""
    expected = (np.log(4) + SECOND * (np.log(2) + np.log(2 / 3)) / 2) / (1 + SECOND)
    assert ndkl(np.array([[0, 1]]), MEMBERSHIP, TARGET) == pytest.approx(expected)


def test_ndkl_of_items_that_are_at_the_target_themselves_is_zero():
    np.testing.assert_array_equal(ndkl(np.array([[3, 3, 3]]), MEMBERSHIP, TARGET), [0.0])


def test_a_padded_list_is_judged_by_the_ranks_it_has():
    padded = ndkl(np.array([[0, 1, -1, -1]]), MEMBERSHIP, TARGET)
    np.testing.assert_allclose(padded, ndkl(np.array([[0, 1]]), MEMBERSHIP, TARGET))


def test_padding_is_no_item_wherever_it_stands():
    """A at rank 1, ln 4; nothing; B at rank 3, half and half: (ln 2 + ln 2/3) / 2, weight 1/2."""
    expected = (np.log(4) + 0.5 * (np.log(2) + np.log(2 / 3)) / 2) / 1.5
    value = ndkl(np.array([[0, -1, 1]]), MEMBERSHIP, TARGET)
    assert value == pytest.approx(expected)


def test_an_unknown_item_leaves_shares_as_they_are():
    """B, unknown: ln 4/3 at both ranks. Unknown, B: rank 1 has no shares, rank 2 ln 4/3."""
    values = ndkl(np.array([[1, 2], [2, 1]]), MEMBERSHIP, TARGET)
    np.testing.assert_allclose(values, np.log(4 / 3))


def test_a_list_of_nobody_has_no_ndkl():
    assert np.isnan(ndkl(np.array([[2, 2], [-1, -1]]), MEMBERSHIP, TARGET)).all()


def test_no_lists_have_no_ndkl():
    assert ndkl(np.zeros((0, 3), int), MEMBERSHIP, TARGET).shape == (0,)


def test_with_a_single_group_nothing_diverges():
    ones = np.ones((4, 1))
    assert ndkl(np.array([[0, 1, -1]]), ones, np.array([1.0])) == 0.0
    assert awrf(np.array([3.0]), np.array([1.0])) == 1.0


def test_ndkl_is_largest_where_the_smallest_group_has_all():
    assert ndkl(np.array([[0, 0, 0]]), MEMBERSHIP, TARGET) == pytest.approx(np.log(4))


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_ndkl_has_a_range_and_minds_no_order_of_lists_or_groups(seed):
    lists, membership, target = random_lists(seed)
    values = ndkl(lists, membership, target)
    defined = (lists >= 0).any(axis=1)
    assert (np.isfinite(values) == defined).all()
    assert (values[defined] >= 0).all()
    assert (values[defined] <= -np.log(target.min()) + 1e-12).all()
    rng = np.random.default_rng(seed)
    rows, groups = rng.permutation(5), rng.permutation(3)
    permuted = ndkl(lists[rows], membership[:, groups], target[groups])
    np.testing.assert_allclose(permuted, values[rows], atol=1e-12)


@given(st.integers(0, 10_000))
@settings(max_examples=20)
def test_ndkl_agrees_with_its_definition_rank_by_rank(seed):
    lists, membership, target = random_lists(seed)
    lists = np.abs(lists)
    for row, value in zip(lists, ndkl(lists, membership, target), strict=True):
        shares = [membership[row[:i]].mean(axis=0) for i in range(1, 7)]
        terms = [share @ np.log(share / target) for share in shares]
        assert value == pytest.approx(np.average(terms, weights=dcg_weights(6)))


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_whole_items_are_judged_as_parts_of_items_are(seed):
    """Items that are a little less than whole are no whole items, and have the same shares."""
    rng = np.random.default_rng(seed)
    lists = rng.integers(-1, 8, (5, 300))
    whole = np.eye(4)[rng.integers(0, 4, 8)]
    target = np.append(rng.dirichlet(np.full(3, 5.0)), 0.0)  # The last group has none.
    parts = whole * (1 - 1e-12)
    np.testing.assert_allclose(
        ndkl(lists, whole, target), ndkl(lists, parts, target), rtol=1e-8, atol=1e-9
    )


def test_ndkl_agrees_with_fairranktune():
    """There the target is the share in the list itself, and 1e-7 is added to every share."""
    fairranktune = importlib.import_module("FairRankTune")
    pandas = importlib.import_module("pandas")
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 40)
    for _ in range(5):
        items = rng.permutation(40)[:25]
        target = np.bincount(group[items], minlength=3) / 25
        theirs = fairranktune.NDKL(pandas.DataFrame({"ranking": items}), dict(enumerate(group)))
        np.testing.assert_allclose(ndkl(items[None], np.eye(3)[group], target), theirs, atol=1e-5)


def test_exposure_agrees_with_fairranktune():
    """There a group's exposure is divided by the number of its items."""
    fairranktune = importlib.import_module("FairRankTune")
    pandas = importlib.import_module("pandas")
    rng = np.random.default_rng(1)
    group = np.arange(30) % 3
    lists = np.stack([rng.permutation(30)[:12] for _ in range(4)])
    rankings = pandas.DataFrame(lists.T)
    _, theirs = fairranktune.EXP(rankings, dict(enumerate(group)), "MaxMinDiff")
    ours = list_exposure(lists, np.eye(3)[group], dcg_weights(12)).sum(axis=0) / 10
    np.testing.assert_allclose(ours, [theirs[g] for g in range(3)])


def test_awrf_by_hand():
    """Shares 1/2, 1/2 of targets 1/4, 3/4: the middle is 3/8, 5/8.

    JSD is half of (ln 4/3 + ln 4/5) / 2 and half of (ln 2/3) / 4 + 3 (ln 6/5) / 4.
    """
    of_share = (np.log(4 / 3) + np.log(4 / 5)) / 2
    of_target = np.log(2 / 3) / 4 + 3 * np.log(6 / 5) / 4
    result = awrf(np.array([2.0, 2.0, 9.0]), TARGET)
    assert result == pytest.approx(1 - (of_share + of_target) / 2)


def test_awrf_is_lowest_where_a_group_of_almost_no_target_has_all():
    """1 - ln 2 is the infimum: half of KL(share || middle) and half of KL(target || middle)."""
    lowest = awrf(np.array([1.0, 0.0]), np.array([1e-9, 1 - 1e-9]))
    assert 1 - np.log(2) < lowest < 1 - np.log(2) + 1e-6


def test_lists_without_exposure_have_no_awrf():
    exposure = np.array([[0.0, 0.0, 3.0], [1.0, 3.0, 0.0]])
    np.testing.assert_allclose(awrf(exposure, TARGET), [np.nan, 1.0])


@given(st.integers(0, 10_000), st.floats(0.01, 100))
@settings(max_examples=40)
def test_awrf_is_1_if_and_only_if_at_the_target_whatever_the_scale(seed, scale):
    rng = np.random.default_rng(seed)
    exposure, target = rng.dirichlet(np.ones(4), 5), rng.dirichlet(np.full(4, 5.0))
    values = awrf(exposure, target)
    assert ((values > 1 - np.log(2)) & (values < 1)).all()
    assert awrf(scale * target, target) == pytest.approx(1.0)
    np.testing.assert_allclose(awrf(scale * exposure, target), values)
    groups = rng.permutation(4)
    np.testing.assert_allclose(awrf(exposure[:, groups], target[groups]), values)


def test_awrf_agrees_with_the_square_of_scipys_distance():
    scipy_distance = importlib.import_module("scipy.spatial.distance")
    rng = np.random.default_rng(2)
    exposure, target = rng.dirichlet(np.ones(4), 6), rng.dirichlet(np.ones(4))
    theirs = [1 - scipy_distance.jensenshannon(row, target) ** 2 for row in exposure]
    np.testing.assert_allclose(awrf(exposure, target), theirs)
