"""The popularity-correlation penalty: values by hand, properties, gradient."""

import doctest

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import fairness_losses
from fairness_losses.regularizers import popularity_correlation
from fairness_losses.regularizers.popularity_correlation import PopularityCorrelation

SCORES = np.array([[1.0, 2.0, 9.0], [3.0, 0.0, 2.0]], np.float32)
RELEVANCE = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]], np.float32)
FREQUENCY = np.array([1.0, 2.0, 6.0], np.float32)


def value(scores, relevance, frequency, weights=None):
    scores = tf.constant(scores)
    membership = tf.ones([scores.shape[1], 1], scores.dtype)
    return float(
        PopularityCorrelation()(
            scores,
            membership,
            weights,
            relevance=tf.constant(relevance),
            frequency=tf.constant(frequency),
        )
    )


def sampled(seed):
    rng = np.random.default_rng(seed)
    relevance = (rng.uniform(size=(3, 10)) < 0.5).astype(np.float32)
    frequency = rng.integers(1, 1000, 10).astype(np.float32)
    return rng.normal(size=(3, 10)).astype(np.float32), relevance, frequency


def test_positives_of_two_queries_by_hand():
    """Scores 1, 2, 2 with frequencies 1, 2, 6: means 5/3 and 3.

    Covariance times 3: 4/3 - 1/3 + 1 = 2; variances times 3: 2/3 and 14; 2^2 / (2/3 * 14) = 3/7.
    """
    assert value(SCORES, RELEVANCE, FREQUENCY) == pytest.approx(3 / 7, rel=1e-5)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_it_is_the_square_of_numpys_correlation(seed):
    scores, relevance, frequency = sampled(seed)
    positive = relevance > 0
    popularity = np.broadcast_to(frequency, positive.shape)[positive]
    expected = np.corrcoef(scores[positive], popularity)[0, 1] ** 2
    assert value(scores, relevance, frequency) == pytest.approx(expected, rel=1e-3, abs=1e-5)


@given(st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=6))
@settings(max_examples=20, deadline=None)
def test_it_is_zero_if_popular_and_unpopular_items_score_alike(scores):
    twice = np.array([scores * 2], np.float32)
    frequency = np.array([1.0] * len(scores) + [50.0] * len(scores), np.float32)
    assert value(twice, np.ones_like(twice), frequency) == pytest.approx(0, abs=1e-5)


@given(seed=st.integers(0, 1000), factor=st.sampled_from([-1.0, 1e-3, 1e4]))
@settings(max_examples=20, deadline=None)
def test_scale_and_order_do_not_matter(seed, factor):
    scores, relevance, frequency = sampled(seed)
    columns = np.random.default_rng(seed).permutation(10)
    penalty = value(scores, relevance, frequency)
    other = value(factor * scores[:, columns], relevance[:, columns], 10 * frequency[columns])
    assert other == pytest.approx(penalty, rel=1e-3, abs=1e-5)
    assert 0 <= penalty <= 1 + 1e-5


def test_a_candidate_counts_as_often_as_its_weight_says():
    scores, relevance, frequency = sampled(0)
    counts = np.random.default_rng(0).integers(1, 4, 10)
    repeated = np.repeat(np.arange(10), counts)
    assert value(scores, relevance, frequency, counts.astype(np.float32)) == pytest.approx(
        value(scores[:, repeated], relevance[:, repeated], frequency[repeated]), rel=1e-4
    )


@pytest.mark.parametrize(
    ("scores", "relevance", "frequency"),
    [
        (np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), FREQUENCY),
        (SCORES, np.zeros_like(SCORES), FREQUENCY),
        (SCORES, np.eye(2, 3, dtype=np.float32) * [[1], [0]], FREQUENCY),
        (np.full_like(SCORES, 0.1), RELEVANCE, FREQUENCY),
        (SCORES, RELEVANCE, np.full_like(FREQUENCY, 7)),
        (SCORES, RELEVANCE, np.zeros_like(FREQUENCY)),
    ],
    ids=["no queries", "no positives", "one", "equal scores", "equally popular", "never chosen"],
)
def test_where_nothing_can_correlate_it_is_0_with_a_finite_gradient(scores, relevance, frequency):
    scores = tf.Variable(scores)
    with tf.GradientTape() as tape:
        penalty = PopularityCorrelation()(
            scores,
            tf.ones([3, 1]),
            relevance=tf.constant(relevance, tf.float32),
            frequency=tf.constant(frequency),
        )
    assert float(penalty) == pytest.approx(0, abs=1e-5)
    assert np.isfinite(tape.gradient(penalty, scores)).all()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_score_that_is_nan_makes_the_penalty_nan(jit_compile):
    scores = tf.constant([[np.nan, 2.0, 9.0], [3.0, 0.0, 2.0]])
    compiled = tf.function(PopularityCorrelation(), jit_compile=jit_compile)
    inputs = {"relevance": tf.constant(RELEVANCE), "frequency": tf.constant(FREQUENCY)}
    assert np.isnan(compiled(scores, tf.ones([3, 1]), **inputs))


def test_gradient_is_that_of_finite_differences():
    scores, relevance, frequency = (values.astype(np.float64) for values in sampled(0))
    theoretical, numerical = tf.test.compute_gradient(
        lambda s: PopularityCorrelation()(
            s, tf.ones([10, 1], tf.float64), relevance=relevance, frequency=frequency
        ),
        [scores],
    )
    np.testing.assert_allclose(theoretical[0], numerical[0], atol=1e-5)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_float32_inside_tf_function_with_shapes_unknown_until_it_runs(jit_compile):
    matrix, vector = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.float32)

    @tf.function(input_signature=[matrix, matrix, vector], jit_compile=jit_compile)
    def compiled(scores, relevance, frequency):
        membership = tf.ones([tf.shape(scores)[1], 1])
        return PopularityCorrelation()(scores, membership, relevance=relevance, frequency=frequency)

    penalty = compiled(SCORES, RELEVANCE, FREQUENCY)
    assert penalty.dtype == tf.float32
    assert penalty.shape == []
    assert float(penalty) == pytest.approx(3 / 7, rel=1e-5)


def test_a_foreign_keras_model_learns_scores_without_popularity():
    """Popularity is a feature of the candidates, and counts for every query at first."""
    frequency = tf.range(1.0, 21.0)
    noise = tf.random.stateless_normal([20, 3], seed=[1, 2])
    candidates = tf.concat([noise, frequency[:, tf.newaxis] / 3], axis=1)
    regularizer = fairness_losses.get("popularity_correlation")

    class TheirModel(tf.keras.Model):
        def __init__(self):
            super().__init__()
            identity = tf.keras.initializers.Identity()
            self.dense = tf.keras.layers.Dense(4, kernel_initializer=identity)

        def call(self, inputs):
            scores = tf.matmul(self.dense(inputs), candidates, transpose_b=True)
            relevance = tf.ones_like(scores)
            membership = tf.ones([20, 1])
            penalty = regularizer(scores, membership, relevance=relevance, frequency=frequency)
            self.add_loss(penalty)
            return scores

    model = TheirModel()
    # Tracing would take longer than all of the training.
    model.compile(optimizer=tf.keras.optimizers.Adam(0.1), run_eagerly=True)
    queries = 1 + 0.1 * tf.random.stateless_normal([8, 4], seed=[3, 4])
    history = model.fit(queries, batch_size=8, epochs=15, verbose=0).history["loss"]
    assert history[0] > 0.1
    assert history[-1] < 0.5 * history[0]


def test_examples_in_the_docstrings_hold():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for example in finder.find(popularity_correlation, globs=vars(popularity_correlation).copy()):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0


def test_a_config_makes_an_equal_regularizer():
    config = {"labels": ["a", "b"]}
    assert fairness_losses.get("popularity_correlation", **config).get_config() == config


def test_relevance_and_frequency_have_to_be_given():
    with pytest.raises(ValueError, match="`popularity_correlation` needs `frequency`"):
        PopularityCorrelation()(SCORES, tf.ones([3, 1]), relevance=RELEVANCE)
