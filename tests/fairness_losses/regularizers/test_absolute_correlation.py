"""The absolute-correlation penalty: values by hand, properties, gradient, published numbers."""

import doctest

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_model_remediation.min_diff import losses

import fairness_losses
from fairness_losses.regularizers import absolute_correlation
from fairness_losses.regularizers.absolute_correlation import AbsoluteCorrelation

SCORES = tf.constant([[0.0, 2.0, 1.0, 3.0]])
MEMBERSHIP = tf.gather(tf.eye(2), [0, 0, 1, 1])
seeds = st.integers(0, 1000)


def value(scores, membership, *args, excluded=(), **kwargs):
    regularizer = AbsoluteCorrelation(excluded)
    return float(regularizer(tf.constant(scores), tf.constant(membership), *args, **kwargs))


def sampled(seed, num_groups=3):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(3, 12)).astype(np.float32)
    return scores, np.eye(num_groups, dtype=np.float32)[np.arange(12) % num_groups]


def test_two_groups_by_hand():
    """Means 1 and 2 of 1.5, variance (2.25 + 0.25 + 0.25 + 2.25) / 4 = 1.25.

    Half of the pairs are in each group: both correlations are 0.5 / sqrt(1.25) in size.
    """
    assert value(SCORES, MEMBERSHIP) == pytest.approx(0.5 / np.sqrt(1.25), rel=1e-5)


def test_three_groups_by_hand():
    """A at 0 and 2, B at 1, C at 5: mean 2, variance (4 + 0 + 1 + 9) / 4 = 3.5.

    |corr| of A: sqrt(1) * 1 / d, of B: sqrt(1/3) * 1 / d, of C: sqrt(1/3) * 3 / d.
    """
    membership = tf.gather(tf.eye(3), [0, 0, 1, 2])
    expected = (1 + 4 / np.sqrt(3)) / 3 / np.sqrt(3.5)
    assert value([[0.0, 2.0, 1.0, 5.0]], membership) == pytest.approx(expected, rel=1e-5)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_it_is_the_mean_of_numpys_correlations_over_all_pairs(seed):
    scores, membership = sampled(seed)
    pairs = np.tile(membership, (3, 1))
    expected = [abs(np.corrcoef(scores.ravel(), pairs[:, group])[0, 1]) for group in range(3)]
    assert value(scores, membership) == pytest.approx(np.mean(expected), rel=1e-3, abs=1e-5)


def test_it_agrees_with_tensorflow_model_remediation():
    scores, membership = sampled(0, num_groups=2)
    weights = np.random.default_rng(1).uniform(1, 5, 12).astype(np.float32)
    expected = losses.AbsoluteCorrelationLoss()(
        tf.constant(np.tile(membership[:, :1], (3, 1))),
        tf.constant(scores.reshape(-1, 1)),
        tf.constant(np.tile(weights, 3)[:, np.newaxis]),
    )
    assert value(scores, membership, weights) == pytest.approx(float(expected), rel=1e-4)


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=6), st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_penalty_is_zero_if_the_groups_have_the_same_scores(scores, copies):
    both = np.array([scores + scores * copies], np.float32)
    membership = np.eye(2, dtype=np.float32)[[0] * len(scores) + [1] * len(scores) * copies]
    assert value(both, membership) == pytest.approx(0, abs=1e-5)


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=6), st.floats(0.1, 5))
@settings(max_examples=25, deadline=None)
def test_penalty_is_positive_within_its_bound_if_one_group_scores_higher(scores, shift):
    both = np.array([scores + [score + shift for score in scores]], np.float32)
    membership = np.repeat(np.eye(2, dtype=np.float32), len(scores), axis=0)
    assert 1e-3 < value(both, membership) <= 1 + 1e-5


def test_scores_that_tell_the_group_for_certain_are_correlated_by_1():
    assert value([[5.0, 5.0, -1.0, -1.0]], MEMBERSHIP) == pytest.approx(1.0)


@given(seed=seeds, factor=st.sampled_from([-1.0, 1e-6, 0.1, 1e6]))
@settings(max_examples=20, deadline=None)
def test_scale_sign_and_origin_of_the_scores_do_not_matter(seed, factor):
    scores, membership = sampled(seed)
    penalty = value(scores, membership)
    assert value(factor * (scores + 1), membership) == pytest.approx(penalty, rel=1e-3, abs=1e-5)


@given(seed=seeds)
@settings(max_examples=20, deadline=None)
def test_the_order_of_queries_candidates_and_groups_does_not_matter(seed):
    scores, membership = sampled(seed)
    rng = np.random.default_rng(seed)
    queries, columns, groups = (rng.permutation(size) for size in (3, 12, 3))
    shuffled = value(scores[queries][:, columns], membership[columns][:, groups])
    assert shuffled == pytest.approx(value(scores, membership), rel=1e-3, abs=1e-6)


def test_a_candidate_counts_as_often_as_its_weight_says():
    scores, membership = sampled(0)
    counts = np.random.default_rng(0).integers(1, 4, 12)
    repeated = np.repeat(np.arange(12), counts)
    assert value(scores, membership, counts.astype(np.float32)) == pytest.approx(
        value(scores[:, repeated], membership[repeated]), rel=1e-4
    )


def test_a_candidate_of_two_groups_counts_as_a_fraction_in_each():
    mixed = [[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]]
    split = tf.constant([1.0, 0.5, 0.5, 1.0])
    assert value([[0.1, 0.9, 0.5]], mixed) == pytest.approx(
        value([[0.1, 0.9, 0.9, 0.5]], MEMBERSHIP, split)
    )


def test_pairs_that_are_not_listed_and_excluded_groups_are_left_out():
    membership = tf.gather(tf.eye(3), [0, 0, 2, 1, 1, 1])
    listed = tf.constant([[True, True, True, True, True, False]])
    scores = [[0.0, 2.0, -50.0, 1.0, 3.0, 90.0]]
    penalty = value(scores, membership, listed=listed, excluded=[2])
    assert penalty == pytest.approx(value(SCORES, MEMBERSHIP), rel=1e-5)


def test_groups_without_candidates_are_left_out():
    membership = tf.pad(MEMBERSHIP, [[0, 0], [1, 2]])
    assert value(SCORES, membership) == pytest.approx(value(SCORES, MEMBERSHIP))


@pytest.mark.parametrize(
    ("scores", "membership"),
    [
        (np.zeros((0, 4), np.float32), MEMBERSHIP),
        (np.zeros((2, 4), np.float32), MEMBERSHIP),
        (np.full((50, 4), 0.1, np.float32), MEMBERSHIP),
        (np.eye(4, dtype=np.float32), tf.ones([4, 1])),
        (np.eye(4, dtype=np.float32), tf.one_hot([1] * 4, 3)),
    ],
    ids=["no queries", "zeros", "constant", "one group", "one group present"],
)
@pytest.mark.parametrize("jit_compile", [False, True])
def test_where_nothing_can_correlate_it_is_0_with_a_finite_gradient(
    scores, membership, jit_compile
):
    @tf.function(jit_compile=jit_compile)
    def penalty_and_gradient(scores):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            penalty = AbsoluteCorrelation()(scores, membership)
        return penalty, tape.gradient(penalty, scores)

    penalty, gradient = penalty_and_gradient(tf.constant(scores))
    assert float(penalty) == pytest.approx(0, abs=1e-5)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_score_that_is_nan_makes_the_penalty_nan(jit_compile):
    compiled = tf.function(AbsoluteCorrelation(), jit_compile=jit_compile)
    assert np.isnan(compiled(tf.constant([[0.0, np.nan, 1.0, 3.0]]), MEMBERSHIP))


def test_gradient_is_that_of_finite_differences():
    scores, membership = sampled(0)
    membership = tf.constant(membership, tf.float64)
    weights = tf.constant(np.random.default_rng(1).uniform(1, 5, 12))
    theoretical, numerical = tf.test.compute_gradient(
        lambda s: AbsoluteCorrelation()(s, membership, weights), [scores.astype(np.float64)]
    )
    np.testing.assert_allclose(theoretical[0], numerical[0], atol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_float32_inside_tf_function_with_shapes_unknown_until_it_runs(jit_compile):
    matrix = tf.TensorSpec([None, None], tf.float32)
    compiled = tf.function(
        AbsoluteCorrelation(), input_signature=[matrix, matrix], jit_compile=jit_compile
    )
    penalty = compiled(SCORES, MEMBERSHIP)
    assert penalty.dtype == tf.float32
    assert penalty.shape == []
    assert float(penalty) == pytest.approx(0.5 / np.sqrt(1.25), rel=1e-5)


def test_a_foreign_keras_model_learns_scores_without_correlation():
    """Half of the candidates are in each group, and the group is a feature of theirs."""
    membership = tf.repeat(tf.eye(2), 20, axis=0)
    candidates = tf.concat([tf.random.stateless_normal([40, 4], seed=[1, 2]), membership], axis=1)
    regularizer = fairness_losses.get("absolute_correlation")

    class TheirModel(tf.keras.Model):
        def __init__(self):
            super().__init__()
            identity = tf.keras.initializers.Identity()
            self.dense = tf.keras.layers.Dense(6, kernel_initializer=identity)

        def call(self, inputs):
            scores = tf.matmul(self.dense(inputs), candidates, transpose_b=True)
            self.add_loss(regularizer(scores, membership))
            return scores

    model = TheirModel()
    # Tracing would take longer than all of the training.
    model.compile(optimizer=tf.keras.optimizers.Adam(0.03), run_eagerly=True)
    queries = tf.abs(tf.random.stateless_normal([8, 6], seed=[3, 4])) * [1, 1, 1, 1, 1, 3]
    history = model.fit(queries, batch_size=8, epochs=20, verbose=0).history["loss"]
    assert history[0] > 0.1
    assert history[-1] < 0.3 * history[0]


def test_examples_in_the_docstrings_hold():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for example in finder.find(absolute_correlation, globs=vars(absolute_correlation).copy()):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0


def test_a_config_makes_an_equal_regularizer():
    config = {"labels": ["a", "b"], "excluded": [1]}
    assert fairness_losses.get("absolute_correlation", **config).get_config() == config


def test_an_excluded_group_has_to_be_one():
    with pytest.raises(ValueError, match=r"`excluded` should be numbers of groups.*Received: 2"):
        value(SCORES, MEMBERSHIP, excluded=[2])
