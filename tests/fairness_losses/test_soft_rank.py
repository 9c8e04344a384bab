"""Soft ranks: values by hand, hard limit of a weighted sample, gradient."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.browsing import dcg_weights
from fairness_losses.exposure import list_exposure
from fairness_losses.soft_rank import soft_rank_attention

HARD = 1e-4
# Straight lines between these make other real ranks easy: v(1.5) = 0.75, v(3.25) = 0.15.
WEIGHTS = np.array([1.0, 0.5, 0.2])


def shuffled(seed: int, num_candidates: int) -> np.ndarray:
    """Scores of one query, in steps of 0.1."""
    order = np.random.default_rng(seed).permutation(num_candidates)
    return (order[np.newaxis] / 10).astype(np.float32)


def test_soft_ranks_by_hand():
    """Scores ln 3 and 0: sigmoid(-ln 3) = 1/4 and sigmoid(ln 3) = 3/4, so ranks 1.25 and 1.75.

    Attention 1 - 0.25 * 0.5 and 1 - 0.75 * 0.5.
    """
    scores = tf.math.log(tf.constant([[3.0, 1.0]]))
    attention = soft_rank_attention(scores, WEIGHTS, temperature=1.0)
    np.testing.assert_allclose(attention, [[0.875, 0.625]], rtol=1e-6)


def test_candidates_with_the_same_score_share_their_ranks():
    """Three equal scores are all at rank 2, four at rank 2.5: 0.5, and (0.5 + 0.2) / 2."""
    for size, expected in ((3, 0.5), (4, 0.35)):
        attention = soft_rank_attention(tf.zeros([1, size]), WEIGHTS, HARD)
        np.testing.assert_allclose(attention, np.full((1, size), expected), rtol=1e-5)


def test_attention_falls_to_nothing_between_the_last_rank_and_the_next():
    """A good candidate and seven equal ones below: ranks 1 and 1 + 1 + 3 = 5, off the list of 3.

    With three equal ones below, these are at rank 1 + 1 + 1 = 3, and with four at 3.5.
    """
    for below, expected in ((7, 0.0), (3, 0.2), (4, 0.1)):
        scores = tf.constant([[1.0] + [0.0] * below])
        attention = soft_rank_attention(scores, WEIGHTS, HARD)
        np.testing.assert_allclose(attention, [[1.0] + [expected] * below], atol=1e-6)


def test_a_candidate_has_the_mean_attention_of_the_ranks_it_stands_for():
    """Items 2 and 4: ranks 1-2 of mean (1 + 0.5) / 2, ranks 3-6 of mean 0.2 / 4."""
    attention = soft_rank_attention(
        tf.constant([[1.0, 0.0]]), WEIGHTS, HARD, weights=tf.constant([2.0, 4.0])
    )
    np.testing.assert_allclose(attention, [[0.75, 0.05]], rtol=1e-5)


@given(seed=st.integers(0, 10_000), depth=st.integers(1, 30))
@settings(max_examples=40, deadline=None)
def test_the_hard_limit_of_a_weighted_sample_is_the_list_of_all_items_it_stands_for(seed, depth):
    """Every candidate is written down as often as it stands for an item, in order of score."""
    rng = np.random.default_rng(seed)
    scores, weights = shuffled(seed, 12), rng.integers(1, 5, 12)
    membership = rng.dirichlet(np.ones(3), size=12)
    catalogue = np.repeat(np.argsort(-scores[0]), weights[np.argsort(-scores[0])])[:depth]
    model = dcg_weights(len(catalogue))
    exact = list_exposure(catalogue[np.newaxis], membership, model)[0]
    attention = soft_rank_attention(
        scores, model, HARD, weights=tf.constant(weights, tf.float32)
    ).numpy()
    np.testing.assert_allclose((attention[0] * weights) @ membership, exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("listed", [None, [[True] * 5, [True, False, True, True, False]]])
def test_gradient_is_that_of_finite_differences(listed, jit_compile):
    """Every score moves every rank: the gradient is checked whole, with a tape from outside."""
    scores = tf.constant(np.random.default_rng(1).random((2, 5)))
    weights = tf.constant([1.0, 2.0, 1.0, 3.0, 1.0], tf.float64)
    listed = None if listed is None else tf.constant(listed)

    @tf.function(jit_compile=jit_compile)
    def attention(scores):
        return soft_rank_attention(scores, dcg_weights(6), 0.3, weights, listed)

    theoretical, numerical = tf.test.compute_gradient(attention, [scores], delta=1e-6)
    np.testing.assert_allclose(theoretical[0], numerical[0], atol=1e-6)
    assert np.abs(theoretical[0]).max() > 0.1


def test_a_better_score_has_more_attention():
    attention = soft_rank_attention(tf.constant(shuffled(2, 10)), dcg_weights(10), 0.1).numpy()
    assert (np.diff(attention[0][np.argsort(shuffled(2, 10)[0])]) > 0).all()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_score_that_is_not_a_number_makes_the_attention_of_its_query_nan(jit_compile):
    scores = tf.constant([[0.5, float("nan"), 0.1], [0.5, 0.3, 0.1]])
    attention = tf.function(
        lambda s: soft_rank_attention(s, WEIGHTS, 0.1), jit_compile=jit_compile
    )(scores).numpy()
    assert np.isnan(attention[0]).all()
    assert np.isfinite(attention[1]).all()
