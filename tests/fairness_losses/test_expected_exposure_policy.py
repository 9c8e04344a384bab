"""Expected exposure under Plackett-Luce: closed forms, enumeration, sampling."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.browsing import dcg_weights, rbp_weights
from fairness_losses.expected_exposure import plackett_luce_exposure, ranked_exposure

SCORES = np.array([[0.3, 0.9, 0.5], [0.1, 0.0, 0.2]])


def enumerated_exposure(scores: np.ndarray, attention: np.ndarray, temperature: float):
    """Expected exposure for one query, over all orders of its items."""
    weight = np.exp(scores / temperature)
    exposure = np.zeros(len(scores))
    for order in itertools.permutations(range(len(scores))):
        left = weight[list(order)]
        probability = np.prod(left / left[::-1].cumsum()[::-1])
        for item, value in zip(order, attention, strict=False):
            exposure[item] += probability * value
    return exposure


def test_lists_in_the_order_of_the_scores_by_hand():
    """Ranks 3, 1, 2 and 2, 3, 1, patience 1/2."""
    exposure = ranked_exposure(SCORES, rbp_weights(3, 0.5))
    np.testing.assert_array_equal(exposure, [[0.25, 1, 0.5], [0.5, 0.25, 1]])


def test_attention_may_end_before_the_list_or_after_it():
    np.testing.assert_array_equal(ranked_exposure(SCORES[:1], np.ones(2)), [[0, 1, 1]])
    np.testing.assert_array_equal(ranked_exposure(SCORES[:1], np.ones(9)), [[1, 1, 1]])


def test_unlisted_items_have_no_exposure_and_take_no_rank():
    listed = np.array([[True, False, True], [False, False, False]])
    expected = [[0.5, 0, 1], [0, 0, 0]]
    attention = rbp_weights(3, 0.5)
    np.testing.assert_array_equal(ranked_exposure(SCORES, attention, listed), expected)
    scores = np.where(listed, SCORES, -np.inf)
    np.testing.assert_array_equal(ranked_exposure(scores, attention), expected)


def test_lists_of_one_item_have_the_softmax():
    """Weights e^0 = 1, e^ln 2 = 2 and e^ln 5 = 5 at the temperature 1: 1/8, 2/8, 5/8."""
    scores = np.log([[1.0, 2.0, 5.0]])
    exposure = plackett_luce_exposure(scores, np.array([1.0]), temperature=1.0)
    np.testing.assert_allclose(exposure, [[1 / 8, 2 / 8, 5 / 8]])


def test_two_candidates_by_hand():
    """The better one, e^ln 3, is first with 3/4: 3/4 + 1/4 * 1/2 = 7/8, and 1/4 + 3/8 = 5/8."""
    scores = np.log([[1.0, 3.0]])
    exposure = plackett_luce_exposure(scores, rbp_weights(2, 0.5), temperature=1.0)
    np.testing.assert_allclose(exposure, [[5 / 8, 7 / 8]])


def test_one_candidate_is_first():
    exposure = plackett_luce_exposure(np.zeros((2, 1)), dcg_weights(3), temperature=1.0)
    np.testing.assert_array_equal(exposure, [[1], [1]])


def test_of_two_candidates_one_that_is_not_listed():
    listed = np.array([[True, False], [False, False]])
    exposure = plackett_luce_exposure(np.zeros((2, 2)), dcg_weights(2), 1.0, listed=listed)
    np.testing.assert_array_equal(exposure, [[1, 0], [0, 0]])


def test_the_policy_ranks_the_best_candidates_alone():
    """The best two of 1, 2, 6 weights: first with 1/4 and 3/4."""
    scores = np.log([[1.0, 2.0, 6.0]])
    exposure = plackett_luce_exposure(scores, rbp_weights(3, 0.5), temperature=1.0, depth=2)
    np.testing.assert_allclose(exposure, [[0, 5 / 8, 7 / 8]])


@pytest.mark.parametrize("temperature", [0.0, 1e-6])
@pytest.mark.parametrize("length", [1, 2, 3])
def test_in_the_limit_the_list_is_in_the_order_of_the_scores(temperature, length):
    attention = rbp_weights(length, 0.5)
    exposure = plackett_luce_exposure(SCORES, attention, temperature, num_samples=3)
    np.testing.assert_allclose(exposure, ranked_exposure(SCORES, attention), atol=1e-9)


@given(
    scores=st.lists(st.floats(-3, 3), min_size=2, max_size=2),
    temperature=st.floats(0.1, 5),
    length=st.integers(1, 2),
)
@settings(max_examples=30, deadline=None)
def test_closed_forms_agree_with_enumeration(scores, temperature, length):
    attention = dcg_weights(length)
    exposure = plackett_luce_exposure(np.array([scores]), attention, temperature)[0]
    expected = enumerated_exposure(np.array(scores), attention, temperature)
    np.testing.assert_allclose(exposure, expected, atol=1e-12)


@pytest.mark.parametrize("attention", [rbp_weights(4, 0.8), dcg_weights(2)], ids=["rbp", "dcg"])
def test_sampling_agrees_with_enumeration(attention):
    """4000 lists: a standard error of at most 1 / (2 * sqrt(4000)) = 0.008."""
    scores = np.array([[0.0, 1.0, -1.0, 0.5], [3.0, 0.0, 0.0, 2.0]])
    exposure = plackett_luce_exposure(scores, attention, 0.7, num_samples=4000, seed=1)
    expected = [enumerated_exposure(row, attention, 0.7) for row in scores]
    np.testing.assert_allclose(exposure, expected, atol=0.03)


@given(seed=st.integers(0, 1000), length=st.integers(1, 8))
@settings(max_examples=30, deadline=None)
def test_exposure_sums_to_the_attention_there_is(seed, length):
    scores = np.random.default_rng(seed).normal(size=(3, 6))
    attention = dcg_weights(length)
    exposure = plackett_luce_exposure(scores, attention, 0.5, num_samples=5, seed=seed)
    np.testing.assert_allclose(exposure.sum(axis=1), attention[:6].sum())
    assert (exposure >= 0).all()


def test_a_seed_draws_the_same_lists():
    draw = [plackett_luce_exposure(SCORES, dcg_weights(3), 1.0, seed=s) for s in (1, 1, 2)]
    np.testing.assert_array_equal(draw[0], draw[1])
    assert (draw[0] != draw[2]).any()


@pytest.mark.parametrize("num_queries", [0, 2])
def test_no_queries_or_no_items(num_queries):
    exposure = plackett_luce_exposure(np.zeros((0, 3)), dcg_weights(3), 1.0)
    assert exposure.shape == (0, 3)
    empty = plackett_luce_exposure(np.zeros((num_queries, 0)), dcg_weights(3), 1.0)
    assert empty.shape == (num_queries, 0)


def test_scores_have_an_order():
    with pytest.raises(ValueError, match="`scores` should not be NaN"):
        plackett_luce_exposure(np.array([[0.0, np.nan]]), dcg_weights(2), 1.0)


@pytest.mark.parametrize("arguments", [{"temperature": -1.0}, {"temperature": float("nan")}])
def test_temperature_is_not_negative(arguments):
    with pytest.raises(ValueError, match=r"`temperature` should be 0 or positive\. Received: "):
        plackett_luce_exposure(SCORES, dcg_weights(3), **arguments)


@pytest.mark.parametrize("name", ["depth", "num_samples"])
def test_counts_are_at_least_1(name):
    with pytest.raises(ValueError, match=rf"`{name}` should be at least 1\. Received: 0\."):
        plackett_luce_exposure(SCORES, dcg_weights(3), 1.0, **{name: 0})


@pytest.mark.parametrize("listed", [np.ones((2, 2), bool), None])
def test_shapes_fit(listed):
    scores = SCORES if listed is not None else SCORES[0]
    with pytest.raises(ValueError, match=r"should have the shape \[num_queries, num_items\]"):
        ranked_exposure(scores, dcg_weights(3), listed)
