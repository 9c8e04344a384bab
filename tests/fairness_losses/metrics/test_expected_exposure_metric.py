"""Expected exposure against merit: by hand, identities, the papers' formulas."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.browsing import dcg_weights, rbp_weights
from fairness_losses.metrics.expected_exposure import expected_exposure, target_exposure

EXPOSURE = np.array([[1.0, 0.5, 0.25], [0.5, 0.5, 0.5]])
TARGET = np.array([[0.75, 0.75, 0.25], [0.5, 0.5, 0.5]])


def random_exposures(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.random((3, 5)), rng.random((3, 5))


def test_metrics_by_hand():
    """EE-D 1 + 1/4 + 1/16, EE-R 3/4 + 3/8 + 1/16, EE-L 1/16 + 1/16; the second is at target."""
    metrics = expected_exposure(EXPOSURE, TARGET)
    np.testing.assert_allclose(metrics.disparity, [1.3125, 0.75])
    np.testing.assert_allclose(metrics.relevance, [1.1875, 0.75])
    np.testing.assert_allclose(metrics.loss, [0.125, 0])
    assert metrics.means() == {"loss": 0.0625, "disparity": 1.03125, "relevance": 0.96875}


def test_groups_by_hand():
    """A has item 1 and half of item 3, B the rest and C nothing.

    Query 1: E = 1.125, 0.625, 0; E* = 0.875, 0.875, 0; EE-L 1/16 + 1/16; EE-D 1.65625;
    EE-R (1.125 + 0.625) * 0.875. Query 2: E = E* = 3/4, 3/4, 0.
    """
    membership = np.array([[1.0, 0, 0], [0, 1, 0], [0.5, 0.5, 0]])
    metrics = expected_exposure(EXPOSURE, TARGET, membership)
    np.testing.assert_allclose(metrics.loss, [0.125, 0])
    np.testing.assert_allclose(metrics.disparity, [1.65625, 1.125])
    np.testing.assert_allclose(metrics.relevance, [1.53125, 1.125])


def test_a_group_is_at_its_target_while_its_items_are_not():
    metrics = expected_exposure(EXPOSURE, TARGET, np.ones((3, 1)))
    np.testing.assert_allclose(metrics.loss, 0)


@given(seed=st.integers(0, 10_000), grouped=st.booleans())
@settings(max_examples=30, deadline=None)
def test_loss_is_disparity_less_twice_the_relevance_and_a_constant(seed, grouped):
    exposure, target = random_exposures(seed)
    membership = np.random.default_rng(seed).dirichlet(np.ones(2), 5) if grouped else np.eye(5)
    metrics = expected_exposure(exposure, target, membership if grouped else None)
    constant = ((target @ membership) ** 2).sum(axis=1)
    np.testing.assert_allclose(metrics.loss, metrics.disparity - 2 * metrics.relevance + constant)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_metrics_do_not_depend_on_the_order_of_the_items_and_grow_with_the_square(seed):
    exposure, target = random_exposures(seed)
    order = np.random.default_rng(seed).permutation(5)
    metrics = expected_exposure(exposure, target)
    permuted = expected_exposure(exposure[:, order], target[:, order])
    doubled = expected_exposure(2 * exposure, 2 * target)
    for name in metrics._fields:
        np.testing.assert_allclose(getattr(permuted, name), getattr(metrics, name))
        np.testing.assert_allclose(getattr(doubled, name), 4 * getattr(metrics, name))
    assert (metrics.loss > 0).all()
    assert (expected_exposure(target, target).loss == 0).all()


def test_merit_by_hand():
    """One item of grade 2, two of grade 1, one of grade 0; patience 1/2: 1, 3/8, 3/8, 1/8."""
    target = target_exposure(np.array([[1.0, 2, 0, 1]]), rbp_weights(4, 0.5))
    np.testing.assert_allclose(target, [[0.375, 1, 0.125, 0.375]])


@pytest.mark.parametrize("patience", [0.3, 0.8])
def test_merit_is_the_formula_for_rank_biased_precision(patience):
    """(patience^b - patience^(b + m)) / (m * (1 - patience)), b = 0, 2 and m = 2, 3."""
    target = target_exposure(np.array([[0.0, 1, 1, 0, 0]]), rbp_weights(5, patience))[0]
    top = (1 - patience**2) / (2 * (1 - patience))
    rest = (patience**2 - patience**5) / (3 * (1 - patience))
    np.testing.assert_allclose(target, [rest, top, top, rest, rest])


def test_merit_of_the_relevant_is_that_of_the_joint_exposure_paper_without_its_first_factor():
    """Wu et al. set patience / (1 - patience) * (1 - patience^m) / m for m relevant ones."""
    patience, relevance = 0.8, np.array([[1.0, 0, 1, 1], [0, 1, 0, 0]])
    m = relevance.sum(axis=1, keepdims=True)
    theirs = patience / (1 - patience) * (1 - patience**m) / m * relevance
    ours = target_exposure(relevance, rbp_weights(4, patience))
    np.testing.assert_allclose(patience * ours * relevance, theirs)


def test_where_nothing_is_relevant_all_have_the_mean():
    target = target_exposure(np.zeros((1, 3)), dcg_weights(2))
    np.testing.assert_allclose(target, dcg_weights(2).sum() / 3)


def test_what_is_not_listed_merits_nothing():
    """The one of the highest grade cannot be listed; in the second query nothing can."""
    listed = np.array([[False, True, True], [False, False, False]])
    relevance = np.array([[2.0, 0, 1], [1, 1, 0]])
    target = target_exposure(relevance, rbp_weights(3, 0.5), listed)
    np.testing.assert_allclose(target, [[0, 0.5, 1], [0, 0, 0]])


@given(
    relevance=st.lists(st.integers(0, 2), min_size=1, max_size=8),
    length=st.integers(1, 10),
)
@settings(max_examples=30, deadline=None)
def test_merit_adds_up_and_does_not_fall_with_the_grade(relevance, length):
    attention, grades = dcg_weights(length), np.array(relevance, float)
    target = target_exposure(grades[np.newaxis], attention)[0]
    assert target.sum() == pytest.approx(attention[: len(grades)].sum())
    assert (np.diff(target[np.argsort(grades, kind="stable")]) >= -1e-12).all()


def test_no_queries():
    metrics = expected_exposure(np.zeros((0, 3)), target_exposure(np.zeros((0, 3)), np.ones(3)))
    assert metrics.loss.shape == (0,)
    assert np.isnan(metrics.means()["loss"])


def test_bad_input():
    with pytest.raises(ValueError, match=r"same shape \[num_queries, num_items\]\. Received: "):
        expected_exposure(EXPOSURE, TARGET[:1])
    with pytest.raises(ValueError, match=r"`membership` should have the shape \[3, num_groups\]"):
        expected_exposure(EXPOSURE, TARGET, np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"same shape \[num_queries, num_items\]\. Received: "):
        target_exposure(EXPOSURE, np.ones(3), np.ones((2, 2), bool))
    with pytest.raises(ValueError, match="`relevance` should not be NaN"):
        target_exposure(np.array([[np.nan]]), np.ones(1))
