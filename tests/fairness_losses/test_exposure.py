"""The definition of exposure, held to an example worked out by hand."""

import importlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fairness_losses.browsing import cascade_weights, dcg_weights
from fairness_losses.exposure import exposure_ratio, exposure_share, list_exposure

SECOND = 1 / np.log2(3)  # Attention at rank 2; it is 1 at rank 1 and 1/2 at rank 3.

# Columns: A, B, unknown. The last item is half A's and half B's.
MEMBERSHIP = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.5, 0]])
LISTS = np.array([[0, 3, -1], [2, 1, 0]])
TARGET = np.array([0.5, 0.5, 0.0])


def test_exposure_of_two_lists_by_hand():
    """List 1: A at rank 1, half A and half B at rank 2, nothing. List 2: unknown, B, A."""
    np.testing.assert_allclose(
        list_exposure(LISTS, MEMBERSHIP, dcg_weights(3)),
        [[1 + SECOND / 2, SECOND / 2, 0], [0.5, SECOND, 1]],
    )


def test_weights_of_ones_count_candidates():
    counts = list_exposure(LISTS, MEMBERSHIP, np.ones(3))
    np.testing.assert_array_equal(counts, [[1.5, 0.5, 0], [1, 1, 1]])


def test_padding_is_no_item_wherever_it_stands():
    lists = np.array([[-1, -1, -1], [-1, 1, -1]])
    exposure = list_exposure(lists, MEMBERSHIP, dcg_weights(3))
    np.testing.assert_allclose(exposure, [[0, 0, 0], [0, SECOND, 0]])


def test_attention_may_differ_from_list_to_list():
    """In list 1, A satisfies half of the users; in list 2, unknown none and B all of them.

    Without impatience, list 1: A at rank 1, half A and half B at rank 2 with attention 1/2.
    List 2: unknown with 1, B with 1, A with 0.
    """
    relevance = np.array([[0.5, 0.0, 0.0], [0.0, 1.0, 0.0]])
    exposure = list_exposure(LISTS, MEMBERSHIP, cascade_weights(relevance, patience=1.0))
    np.testing.assert_allclose(exposure, [[1.25, 0.25, 0], [0, 1, 1]])


def test_the_same_attention_for_every_list_may_be_given_once():
    weights = dcg_weights(3)
    np.testing.assert_array_equal(
        list_exposure(LISTS, MEMBERSHIP, np.tile(weights, (2, 1))),
        list_exposure(LISTS, MEMBERSHIP, weights),
    )


def test_few_items_and_many_are_added_up_alike():
    rng = np.random.default_rng(0)
    lists, membership = rng.integers(-1, 20, (3000, 7)), rng.dirichlet(np.ones(3), 20)
    weights = rng.random(lists.shape)
    many = np.tile(membership, (10, 1))  # What the lists show are the first 20.
    np.testing.assert_allclose(
        list_exposure(lists, membership, weights), list_exposure(lists, many, weights)
    )


def test_exposure_per_item_of_a_group_is_that_of_fairranktune():
    """Its EXP: exposure of a group over two full rankings, per item of the group."""
    frame = importlib.import_module("pandas").DataFrame
    exp = importlib.import_module("FairRankTune").Metrics.EXP
    rng = np.random.default_rng(3)
    lists = np.stack([rng.permutation(12), rng.permutation(12)])
    group = np.array([0, 1, 2, 1] * 3)
    _, expected = exp(frame(lists.T), dict(enumerate(group)), "MinMaxRatio")
    exposure = list_exposure(lists, np.eye(3)[group], dcg_weights(12)).sum(axis=0)
    np.testing.assert_allclose(exposure / np.bincount(group), [expected[g] for g in range(3)])


def test_share_and_ratio_by_hand():
    """A: 1.5 + s/2 and B: 3s/2 of 1.5 + 2s, unknown 1 beside them, with s = 1 / log2(3)."""
    exposure = list_exposure(LISTS, MEMBERSHIP, dcg_weights(3)).sum(axis=0)
    counted = 1.5 + 2 * SECOND
    share = np.array([1.5 + SECOND / 2, 1.5 * SECOND, 1.0]) / counted
    np.testing.assert_allclose(exposure_share(exposure, TARGET), share)
    ratio = exposure_ratio(exposure, TARGET)
    np.testing.assert_allclose(ratio[:2], [1.314669, 0.685331], atol=1e-6)
    assert np.isnan(ratio[2])


def test_unknown_items_change_neither_shares_nor_ratios_of_the_others():
    few, many = np.array([3.0, 1.0, 0.0]), np.array([3.0, 1.0, 50.0])
    np.testing.assert_array_equal(exposure_ratio(few, TARGET), exposure_ratio(many, TARGET))
    np.testing.assert_allclose(exposure_share(many, TARGET), [0.75, 0.25, 12.5])


def test_shares_are_taken_list_by_list():
    exposure = np.array([[1.0, 3.0, 9.0], [2.0, 2.0, 0.0]])
    np.testing.assert_allclose(exposure_ratio(exposure, TARGET)[:, :2], [[0.5, 1.5], [1, 1]])


def test_no_exposure_has_no_share():
    assert np.isnan(exposure_share(np.array([0.0, 0.0, 4.0]), TARGET)[:2]).all()


@given(
    hnp.arrays(np.float64, (4, 3), elements=st.floats(0.001, 1e6)),
    hnp.arrays(np.float64, 3, elements=st.floats(0.001, 1)),
)
def test_shares_of_targeted_groups_sum_to_1_and_ratios_average_to_1(exposure, target):
    target = np.where([True, True, False], target, 0) / target[:2].sum()
    np.testing.assert_allclose(exposure_share(exposure, target)[:, :2].sum(axis=1), 1.0)
    np.testing.assert_allclose(exposure_ratio(exposure, target)[:, :2] @ target[:2], 1.0)


@given(st.data())
def test_exposure_agrees_with_its_definition_summed_rank_by_rank(data):
    lists = data.draw(hnp.arrays(np.int64, (3, 4), elements=st.integers(-1, 3)))
    expected = np.zeros((3, 3))
    for row, items in enumerate(lists):
        for weight, item in zip(dcg_weights(4), items, strict=True):
            if item >= 0:
                expected[row] += weight * MEMBERSHIP[item]
    np.testing.assert_allclose(list_exposure(lists, MEMBERSHIP, dcg_weights(4)), expected)


@pytest.mark.parametrize("lists", [np.array([0, 1, 2]), np.array([[0, 1]])])
def test_lists_have_one_column_per_weight(lists):
    with pytest.raises(ValueError, match=r"\[num_lists, 3\].*Received"):
        list_exposure(lists, MEMBERSHIP, dcg_weights(3))


@pytest.mark.parametrize("num_lists", [1, 3])
def test_attention_per_list_has_one_row_per_list(num_lists):
    with pytest.raises(ValueError, match=rf"\[{num_lists}, 3\].*Received: \[2, 3\]"):
        list_exposure(LISTS, MEMBERSHIP, np.ones((num_lists, 3)))
