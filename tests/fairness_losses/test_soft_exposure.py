"""The differentiable list: its limit, its threshold, its gradient."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.browsing import dcg_weights, rbp_weights, top_k_weights
from fairness_losses.exposure import PADDING, list_exposure
from fairness_losses.soft_exposure import (
    group_exposure,
    slice_exposure,
    soft_browsing_attention,
    soft_top_k,
    softmax_attention,
)
from fairness_losses.soft_rank import soft_rank_attention

# Best to worst: candidates 0, 2, 1, 3.
SCORES = tf.constant([[0.9, 0.5, 0.7, 0.1]])


def sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def random_scores(seed: int, num_queries: int = 6, num_candidates: int = 30) -> np.ndarray:
    """Scores between 0 and 1, at least 1 / num_candidates apart within a query."""
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.random((num_queries, num_candidates)), axis=1)
    return (order / num_candidates).astype(np.float32)


def exact_lists(scores: np.ndarray, listed: np.ndarray, depth: int) -> np.ndarray:
    """The best listed candidates of every query, with padding behind them."""
    order = np.argsort(np.where(listed, -scores, np.inf), axis=1)[:, :depth]
    return np.where(np.take_along_axis(listed, order, axis=1), order, PADDING)


def test_the_threshold_is_half_way_between_the_last_on_the_list_and_the_first_off_it():
    """The best two of 0.9, 0.5, 0.7, 0.1: the list ends at (0.7 + 0.5) / 2 = 0.6."""
    attention = soft_top_k(SCORES, depth=2, temperature=0.1)
    np.testing.assert_allclose(
        attention, [[sigmoid(3), sigmoid(-1), sigmoid(1), sigmoid(-5)]], rtol=1e-5
    )


def test_every_query_has_its_own_threshold():
    both = soft_top_k(tf.concat([SCORES, SCORES + 5.0], axis=0), depth=2, temperature=0.1)
    np.testing.assert_allclose(both[0], both[1], rtol=1e-4)


def test_in_a_weighted_sample_rank_is_counted_in_items_of_the_catalogue():
    """Scores 0.9, 0.5, 0.1 stand for 2, 3 and 5 items: for ranks 1-2, 3-5 and 6-10.

    Their middles have 1, 3.5 and 7.5 items above them. A list of 3 ends 2 / 2.5 of the way from
    the first middle to the second, at 0.9 - 0.8 * 0.4 = 0.58.
    """
    scores, weights = tf.constant([[0.9, 0.5, 0.1]]), tf.constant([2.0, 3.0, 5.0])
    attention = soft_top_k(scores, depth=3, temperature=0.1, weights=weights)
    expected = [[sigmoid(3.2), sigmoid(-0.8), sigmoid(-4.8)]]
    np.testing.assert_allclose(attention, expected, rtol=1e-5)


def test_a_candidate_that_stands_for_more_items_than_the_list_holds_is_half_on_it():
    """The best candidate stands for ranks 1 to 200: the list of 100 ends in its middle."""
    weights = tf.constant([200.0, 200.0, 200.0, 200.0])
    attention = soft_top_k(SCORES, depth=100, temperature=1e-3, weights=weights)
    np.testing.assert_allclose(attention, [[0.5, 0, 0, 0]], atol=1e-6)


@given(seed=st.integers(0, 10_000), depth=st.integers(1, 29), weighted=st.booleans())
@settings(max_examples=40, deadline=None)
def test_with_the_whole_catalogue_the_hard_limit_is_the_exposure_of_the_exact_list(
    seed, depth, weighted
):
    scores = random_scores(seed)
    membership = np.random.default_rng(seed).dirichlet(np.ones(3), size=30).astype(np.float32)
    weights = tf.ones(30) if weighted else None
    attention = soft_top_k(tf.constant(scores), depth, 1e-4, weights)
    lists = np.argsort(-scores, axis=1)[:, :depth]
    exact = list_exposure(lists, membership, np.ones(depth)).sum(axis=0)
    np.testing.assert_allclose(group_exposure(attention, membership, weights), exact, rtol=1e-5)


def test_in_the_hard_limit_a_weighted_sample_holds_as_many_items_as_the_list():
    """Each of 30 candidates stands for 4 items; a list of 20 of the 120 is the best 5 of them."""
    attention = soft_top_k(tf.constant(random_scores(1)), 20, 1e-4, tf.fill([30], 4.0))
    np.testing.assert_allclose(tf.reduce_sum(4.0 * attention, axis=1), 20.0, rtol=1e-5)


@pytest.mark.parametrize("depth", [4, 5, 100])
@pytest.mark.parametrize("weights", [None, tf.ones(4)])
def test_a_list_as_long_as_the_catalogue_holds_all_of_it_without_gradient(depth, weights):
    scores = tf.Variable(SCORES)
    with tf.GradientTape() as tape:
        attention = soft_top_k(scores, depth, 0.1, weights)
    np.testing.assert_array_equal(attention, np.ones((1, 4)))
    np.testing.assert_array_equal(tape.gradient(attention, scores), np.zeros((1, 4)))


def test_a_sample_shorter_than_the_list_still_has_a_threshold():
    """4 candidates stand for 40 items, more than a list of 10, so one of them is the last."""
    attention = soft_top_k(SCORES, 10, 1e-3, tf.fill([4], 10.0))
    np.testing.assert_allclose(attention, [[1, 0, 0, 0]], atol=1e-6)


def test_attention_is_monotone_in_the_score():
    scores = random_scores(2)
    attention = soft_top_k(tf.constant(scores), 10, 0.05).numpy()
    ordered = np.take_along_axis(attention, np.argsort(scores, axis=1), axis=1)
    assert (np.diff(ordered, axis=1) > 0).all()


def test_a_gradient_reaches_a_candidate_through_its_own_score_alone():
    """The threshold is a constant: d a_j / d s_k is a (1 - a) / temperature if j is k, else 0."""
    scores = tf.Variable(SCORES)
    with tf.GradientTape() as tape:
        attention = soft_top_k(scores, 2, 0.2)[0]
    jacobian = tape.jacobian(attention, scores)[:, 0].numpy()
    a = attention.numpy()
    np.testing.assert_allclose(jacobian, np.diag(a * (1 - a) / 0.2), atol=1e-6)


def test_exposure_sums_weighted_attention_by_group():
    """Two queries; candidates stand for 1, 2 and 4 items; the last one is in both groups.

    Candidates have the attention 1.5, 1 and 0.25: group one 1.5 + 0.25 * 4 / 2 = 2, group two
    1 * 2 + 0.5 = 2.5. Without weights 1.5 + 0.125 and 1 + 0.125.
    """
    attention = tf.constant([[1.0, 0.5, 0.25], [0.5, 0.5, 0.0]])
    membership = tf.constant([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    exposure = group_exposure(attention, membership, tf.constant([1.0, 2.0, 4.0]))
    np.testing.assert_allclose(exposure, [2.0, 2.5])
    np.testing.assert_allclose(group_exposure(attention, membership), [1.625, 1.125])


def test_slices_have_the_exposure_of_their_queries():
    """Attention 1 and 0.5 of two queries; the second is in both slices, with 0.5 in the second.

    Slice one has 1 + 0.5 of candidate 0 and 0 + 1 of candidate 1, slice two half of query 2.
    """
    attention = tf.constant([[1.0, 0.0], [0.5, 1.0]])
    slices = tf.constant([[1.0, 0.0], [1.0, 0.5]])
    exposure = slice_exposure(attention, tf.eye(2), slices)
    np.testing.assert_allclose(exposure, [[1.5, 1.0], [0.25, 0.5]])
    weighted = slice_exposure(attention, tf.eye(2), slices, tf.constant([2.0, 1.0]))
    np.testing.assert_allclose(weighted, [[3.0, 1.0], [0.5, 0.5]])


@given(
    seed=st.integers(0, 10_000),
    depth=st.integers(1, 29),
    weighted=st.booleans(),
    share=st.sampled_from([0.0, 0.3, 0.7, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_hard_limits_are_the_exposure_of_the_exact_lists_of_what_is_listed(
    seed, depth, weighted, share
):
    """Lists shorter than the depth, and empty ones, included."""
    scores, rng = random_scores(seed), np.random.default_rng(seed)
    membership = rng.dirichlet(np.ones(3), size=30).astype(np.float32)
    listed = rng.random(scores.shape) < share
    lists = exact_lists(scores, listed, depth)
    model = rbp_weights(depth, 0.9)
    sample = (tf.ones(30) if weighted else None, tf.constant(listed))
    for attention, weights in (
        (soft_top_k(scores, depth, 1e-4, *sample), top_k_weights(depth)),
        (soft_rank_attention(scores, model, 1e-4, *sample), model),
        (soft_browsing_attention(scores, model, 1e-4, *sample, num_cuts=depth), model),
    ):
        np.testing.assert_array_equal(attention.numpy()[~listed], 0)
        exact = list_exposure(lists, membership, weights).sum(axis=0)
        np.testing.assert_allclose(
            group_exposure(attention, membership), exact, rtol=1e-5, atol=1e-5
        )


def test_a_staircase_has_the_mean_attention_of_its_ranks():
    """Three cuts up to rank 9 are at 1, 3 and 9: steps of rank 1, ranks 2-3 and ranks 4-9."""
    scores, weights = random_scores(4), dcg_weights(9)
    attention = soft_browsing_attention(tf.constant(scores), weights, 1e-4, num_cuts=3)
    steps = [weights[:1].mean()] + [weights[1:3].mean()] * 2 + [weights[3:].mean()] * 6
    by_rank = -np.sort(-attention.numpy(), axis=1)
    np.testing.assert_allclose(by_rank, np.tile(steps + [0.0] * 21, (6, 1)), atol=1e-5)


@given(
    seed=st.integers(0, 10_000),
    depth=st.integers(1, 40),
    temperature=st.sampled_from([1e-3, 0.05, 1.0]),
    num_cuts=st.integers(1, 12),
)
@settings(max_examples=40, deadline=None)
def test_attention_over_the_catalogue_sums_to_the_browsing_model_s(
    seed, depth, temperature, num_cuts
):
    """Whatever temperature, cuts and weights of the sample: here 30 candidates for 45 items."""
    weights, model = tf.constant([1.0, 2.0] * 15), dcg_weights(depth)
    attention = soft_browsing_attention(
        tf.constant(random_scores(seed)), model, temperature, weights, num_cuts=num_cuts
    )
    total = tf.reduce_sum(attention * weights, axis=1)
    np.testing.assert_allclose(total, np.full(6, model.sum()), rtol=1e-4)
    assert (attention.numpy() >= 0).all()


def test_a_list_of_everything_still_has_an_order_to_steer():
    scores = tf.Variable(SCORES)
    with tf.GradientTape() as tape:
        attention = soft_browsing_attention(scores, dcg_weights(4), 0.1)
        best = attention[0, 0]
    np.testing.assert_allclose(tf.reduce_sum(attention), dcg_weights(4).sum(), rtol=1e-5)
    assert tape.gradient(best, scores).numpy()[0, 0] > 0


def test_browsing_attention_is_closer_than_a_flat_list_to_what_is_measured():
    """Group 0 has the best candidates but few of the others: by rank it has far more exposure."""
    scores, rng = random_scores(5, 16, 200), np.random.default_rng(5)
    group = (rng.random(200) < 0.8).astype(int)
    scores[:, group == 0] += 0.05 * (scores[:, group == 0] > 0.8)
    membership = np.eye(2, dtype=np.float32)[group]
    lists = np.argsort(-scores, axis=1)[:, :50]
    measured = list_exposure(lists, membership, dcg_weights(50)).sum(axis=0)

    def error(attention):
        exposure = group_exposure(attention, membership).numpy()
        return abs(exposure[0] / exposure.sum() - measured[0] / measured.sum())

    scores = tf.constant(scores)
    flat = error(soft_top_k(scores, 50, 0.01))
    assert error(soft_browsing_attention(scores, dcg_weights(50), 0.01)) < flat / 3


def test_softmax_by_hand():
    """exp(ln 4), exp(ln 2), exp(0), exp(0) out of 4 + 2 + 1 + 1 = 8."""
    scores = tf.math.log(tf.constant([[4.0, 2.0, 1.0, 1.0]]))
    np.testing.assert_allclose(
        softmax_attention(scores, 1.0), [[0.5, 0.25, 0.125, 0.125]], rtol=1e-6
    )


def test_softmax_is_over_the_items_of_the_catalogue_that_are_listed():
    """Items 4 * 1, 1 * 2, (unlisted) and 1 * 2 have odds of 8 in all: 4/8, 1/8 and 1/8 each."""
    scores = tf.math.log(tf.constant([[4.0, 1.0, 9.0, 1.0]]))
    listed = tf.constant([[True, True, False, True]])
    weights = tf.constant([1.0, 2.0, 5.0, 2.0])
    attention = softmax_attention(scores, 1.0, weights, listed)
    np.testing.assert_allclose(attention, [[0.5, 0.125, 0, 0.125]], rtol=1e-6)
    assert float(tf.reduce_sum(attention * weights)) == pytest.approx(1.0)


def test_softmax_bears_scores_far_apart():
    attention = softmax_attention(tf.constant([[500.0, -500.0, 0.0]]), 0.01)
    np.testing.assert_array_equal(attention, [[1, 0, 0]])


def test_gradient_of_softmax_is_that_of_finite_differences():
    scores = tf.constant(random_scores(6, 3, 5), tf.float64)
    weights = tf.constant([1.0, 2.0, 1.0, 3.0, 1.0], tf.float64)
    listed = tf.constant([[True] * 5, [True, False] * 2 + [True], [False] * 5])
    theoretical, numerical = tf.test.compute_gradient(
        lambda s: softmax_attention(s, 0.5, weights, listed), [scores]
    )
    np.testing.assert_allclose(theoretical[0], numerical[0], atol=1e-6)


ATTENTIONS = {
    "top_k": lambda *given: soft_top_k(given[0], 2, 0.1, *given[1:]),
    "browsing": lambda *given: soft_browsing_attention(given[0], dcg_weights(2), 0.1, *given[1:]),
    "rank": lambda *given: soft_rank_attention(given[0], dcg_weights(2), 0.1, *given[1:]),
    "softmax": lambda *given: softmax_attention(given[0], 0.1, *given[1:]),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_an_unlisted_candidate_is_as_if_it_were_not_there(name):
    """It has the best score, and even a score that is not a number; it gets no gradient."""
    weights, listed = tf.constant([1.0, 2.0, 3.0]), tf.constant([[True, False, True]])
    for score in (9.0, float("nan")):
        scores = tf.Variable([[0.9, score, 0.7]])
        with tf.GradientTape() as tape:
            attention = ATTENTIONS[name](scores, weights, listed)
            best = attention[0, 0]
        without = ATTENTIONS[name](tf.constant([[0.9, 0.7]]), tf.constant([1.0, 3.0]))
        np.testing.assert_allclose(attention.numpy()[:, [0, 2]], without, rtol=1e-5)
        assert attention.numpy()[0, 1] == 0
        gradient = tape.gradient(best, scores).numpy()
        assert np.isfinite(gradient).all()
        assert gradient[0, 1] == 0


@pytest.mark.parametrize("name", ATTENTIONS)
def test_a_query_that_can_list_nothing_gives_no_attention_and_a_finite_gradient(name):
    scores = tf.Variable(tf.repeat(SCORES, 2, axis=0))
    listed = tf.constant([[False] * 4, [True] * 4])
    with tf.GradientTape() as tape:
        attention = ATTENTIONS[name](scores, None, listed)
    np.testing.assert_array_equal(attention[0], np.zeros(4))
    assert float(tf.reduce_sum(attention[1])) > 0
    gradient = tape.gradient(attention, scores).numpy()
    np.testing.assert_array_equal(gradient[0], np.zeros(4))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention_follows_its_candidate_wherever_it_stands(name):
    scores, order = random_scores(7, 3, 8), np.random.default_rng(7).permutation(8)
    weights = np.arange(1.0, 9.0, dtype=np.float32)
    listed = np.random.default_rng(8).random((3, 8)) < 0.7
    attention = ATTENTIONS[name](scores, weights, listed).numpy()
    permuted = ATTENTIONS[name](scores[:, order], weights[order], listed[:, order])
    np.testing.assert_allclose(permuted, attention[:, order], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_no_queries_have_no_attention(name):
    assert ATTENTIONS[name](SCORES[:0]).shape == (0, 4)
