"""The differentiable policy: its limit, its noise, its gradient; merit for tensors."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.browsing import rbp_weights
from fairness_losses.expected_exposure import plackett_luce_exposure, ranked_exposure
from fairness_losses.metrics.expected_exposure import target_exposure
from fairness_losses.soft_ranking_policy import (
    SoftRankingPolicy,
    merit_exposure,
    soft_ranked_exposure,
)

HARD = 1e-5


def random_scores(seed: int, num_queries: int = 4, num_candidates: int = 20) -> np.ndarray:
    """Scores between 0 and 1, at least 1 / num_candidates apart within a query."""
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.random((num_queries, num_candidates)), axis=1)
    return (order / num_candidates).astype(np.float32)


def hard_policy(**arguments) -> SoftRankingPolicy:
    return SoftRankingPolicy(temperature=HARD, policy_temperature=0.0, **arguments)


def test_soft_ranks_by_hand():
    """Candidate 1 leads by ln 3 at the temperature 1: it is above with 3/4, below with 1/4.

    0.5^(3/4) and 0.5^(1/4).
    """
    scores = tf.math.log([[1.0, 3.0]])
    exposure = soft_ranked_exposure(scores, tf.ones([1, 2]), patience=0.5, temperature=1.0)
    np.testing.assert_allclose(exposure, [[0.5**0.75, 0.5**0.25]], rtol=1e-6)


def test_candidates_share_the_ranks_of_the_items_they_stand_for():
    """Two items on ranks 1 and 2, three on 3 to 5, patience 1/2: 1.5 / 2 and 0.4375 / 3."""
    exposure = hard_policy(patience=0.5).exposure(
        tf.constant([[0.1, 0.9]]), weights=tf.constant([3.0, 2.0])
    )
    np.testing.assert_allclose(exposure, [[0.4375 / 3, 0.75]], rtol=1e-6)


@given(seed=st.integers(0, 10_000), depth=st.integers(1, 25), some_listed=st.booleans())
@settings(max_examples=30, deadline=None)
def test_the_hard_limit_without_noise_is_the_exact_list(seed, depth, some_listed):
    scores = random_scores(seed)
    listed = np.random.default_rng(seed).random(scores.shape) < 0.6 if some_listed else None
    exposure = hard_policy(depth=depth).exposure(
        tf.constant(scores), listed=None if listed is None else tf.constant(listed)
    )
    expected = ranked_exposure(scores, rbp_weights(depth, 0.8), listed)
    np.testing.assert_allclose(exposure, expected, atol=1e-5)


def test_the_hard_limit_agrees_with_numpy_for_the_same_noise():
    """Gumbel noise on 8 lists for each query; scores closer than float32 tells are not drawn."""
    scores = random_scores(0)
    noise = np.random.default_rng(3).gumbel(size=(8, *scores.shape))
    perturbed = (scores + 0.3 * noise).astype(np.float32)
    soft = soft_ranked_exposure(tf.constant(perturbed), tf.ones(perturbed.shape), 0.8, 1e-7)
    exact = np.mean([ranked_exposure(drawn, rbp_weights(20, 0.8)) for drawn in perturbed], axis=0)
    np.testing.assert_allclose(tf.reduce_mean(soft, axis=0), exact, atol=1e-5)


def test_with_noise_it_is_the_plackett_luce_policy():
    """20 000 lists: a standard error of at most 1 / (2 * sqrt(20 000)) = 0.004 on either side."""
    scores = np.array([[0.0, 1.0, -1.0, 0.5]])
    policy = SoftRankingPolicy(
        temperature=1e-4, policy_temperature=0.7, num_samples=20_000, depth=3
    )
    expected = plackett_luce_exposure(scores, rbp_weights(4, 0.8), 0.7, depth=3, num_samples=20_000)
    np.testing.assert_allclose(policy.exposure(tf.constant(scores)), expected, atol=0.02)


def test_every_call_draws_other_lists_and_a_seed_the_same_sequence():
    scores = tf.constant(random_scores(0))
    one, other = (SoftRankingPolicy(policy_temperature=0.3, seed=5) for _ in range(2))
    first, second = one.exposure(scores), one.exposure(scores)
    assert (first != second).numpy().any()
    np.testing.assert_array_equal(first, other.exposure(scores))
    np.testing.assert_array_equal(second, other.exposure(scores))


def test_a_checkpoint_continues_the_sequence(tmp_path):
    scores = tf.constant(random_scores(0))
    one, other = (SoftRankingPolicy(policy_temperature=0.3, seed=s) for s in (1, 2))
    one.exposure(scores)
    path = tf.train.Checkpoint(policy=one).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(policy=other).restore(path)
    np.testing.assert_array_equal(one.exposure(scores), other.exposure(scores))


@pytest.mark.parametrize("policy_temperature", [0.0, 0.2])
def test_gradient_is_that_of_finite_differences(policy_temperature):
    """In float64, with all candidates ranked: which ones are has no gradient."""
    factors = tf.random.stateless_normal([2, 5], [1, 2], dtype=tf.float64)
    listed = tf.constant([[True] * 5, [True, False, True, True, True]])

    def weighted(scores):
        # The same noise every time.
        policy = SoftRankingPolicy(0.8, 0.3, policy_temperature, num_samples=3)
        weights = tf.constant([1.0, 2.0, 1.0, 4.0, 1.0], tf.float64)
        return tf.reduce_sum(factors * policy.exposure(scores, weights, listed))

    scores = tf.constant(random_scores(1, 2, 5), tf.float64)
    theoretical, numerical = tf.test.compute_gradient(weighted, [scores], delta=1e-5)
    np.testing.assert_allclose(theoretical[0], numerical[0], atol=1e-8)
    assert np.abs(theoretical[0]).max() > 0.01
    assert theoretical[0][0, 6] == 0


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e6])
def test_exposure_and_gradient_are_finite(jit_compile, scale):
    """Ties of all candidates, and scores so far apart that every comparison is certain."""
    policy = SoftRankingPolicy(num_samples=2, depth=7)
    listed = tf.constant(np.arange(80).reshape(4, 20) % 3 != 0) & (tf.range(4) > 0)[:, None]

    @tf.function(jit_compile=jit_compile, input_signature=[tf.TensorSpec([None, None], tf.float32)])
    def exposure_and_gradient(scores):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            exposure = policy.exposure(scores, 2 * tf.ones([20]), listed)
        return exposure, tape.gradient(exposure, scores)

    exposure, gradient = exposure_and_gradient(scale * tf.constant(random_scores(2)))
    assert np.isfinite(exposure).all()
    assert np.isfinite(gradient).all()
    assert ((exposure.numpy() >= 0) & (exposure.numpy() <= 1)).all()
    assert (exposure.numpy()[~listed.numpy()] == 0).all()


def test_a_score_that_is_nan_shows_in_its_query_alone():
    scores = random_scores(3, 2)
    scores[1, 4] = np.nan
    exposure = SoftRankingPolicy(depth=3).exposure(tf.constant(scores)).numpy()
    assert np.isnan(exposure[1]).all()
    assert np.isfinite(exposure[0]).all()


@given(
    grades=st.lists(st.integers(0, 3), min_size=6, max_size=6),
    seed=st.integers(0, 1000),
    patience=st.floats(0.1, 0.99),
)
@settings(max_examples=30, deadline=None)
def test_merit_agrees_with_numpy(grades, seed, patience):
    relevance = np.array([grades, grades[::-1]], np.float32)
    listed = np.random.default_rng(seed).random(relevance.shape) < 0.7
    merit = merit_exposure(tf.constant(relevance), patience, listed=tf.constant(listed))
    expected = target_exposure(relevance, rbp_weights(6, patience), listed)
    np.testing.assert_allclose(merit, expected, atol=1e-5)


def test_a_candidate_that_stands_for_items_merits_what_each_of_them_does():
    """The second candidate stands for 2 items, the third for 3, in a catalogue of 6."""
    merit = merit_exposure(tf.constant([[1.0, 0.0, 1.0]]), 0.8, tf.constant([1.0, 2.0, 3.0]))
    catalogue = target_exposure(np.array([[1.0, 0, 0, 1, 1, 1]]), rbp_weights(6, 0.8))
    np.testing.assert_allclose(merit, catalogue[:, [0, 1, 3]], rtol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("num_queries", [0, 3])
def test_merit_in_a_graph_of_unknown_shape(jit_compile, num_queries):
    relevance = np.random.default_rng(0).integers(0, 3, (num_queries, 5)).astype(np.float32)
    compiled = tf.function(
        lambda grades: merit_exposure(grades, 0.8),
        jit_compile=jit_compile,
        input_signature=[tf.TensorSpec([None, None], tf.float32)],
    )
    expected = target_exposure(relevance, rbp_weights(5, 0.8))
    np.testing.assert_allclose(compiled(tf.constant(relevance)), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("patience", 1.0, r"`patience` should be between 0 and 1\. Received: 1\.0\."),
        ("temperature", 0.0, r"`temperature` should be a positive float\. Received: 0\.0\."),
        ("policy_temperature", -1.0, r"`policy_temperature` should be 0 or positive\."),
        ("num_samples", 0, r"`num_samples` should be at least 1\. Received: 0\."),
        ("depth", 0, r"`depth` should be at least 1\. Received: 0\."),
    ],
)
def test_arguments_are_in_their_ranges(argument, value, message):
    with pytest.raises(ValueError, match=message):
        SoftRankingPolicy(**{argument: value})
