"""The head-tail alignment: values by hand, properties, gradient, and use in a foreign model."""

import doctest

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import fairness_losses
from fairness_losses.regularizers import head_tail
from fairness_losses.regularizers.head_tail import HeadTailAlignment


def value(embeddings, frequency, weights=None, head_share=0.8):
    embeddings = tf.constant(embeddings, tf.float32)
    size = embeddings.shape[0]
    return float(
        HeadTailAlignment(head_share)(
            tf.zeros([1, size]),
            tf.ones([size, 1]),
            None if weights is None else tf.constant(weights, tf.float32),
            embeddings=embeddings,
            frequency=tf.constant(frequency, tf.float32),
        )
    )


def is_head(frequency, weights, head_share):
    frequency, weights = (tf.constant(values, tf.float32) for values in (frequency, weights))
    return head_tail._is_head(frequency, weights, head_share).numpy().tolist()


def sampled(seed=0, size=12, dim=3):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(size, dim)), rng.permutation(np.arange(1, size + 1)) ** 2


def test_the_head_makes_its_share_of_the_choices():
    """Of 10 choices the two most chosen items make 5 + 3 = 8."""
    assert is_head([1, 5, 1, 3], [1, 1, 1, 1], 0.8) == [False, True, False, True]
    assert is_head([1, 5, 1, 3], [1, 1, 1, 1], 0.81) == [True, True, True, True]
    assert is_head([1, 5, 1, 3], [1, 1, 1, 1], 0.5) == [False, True, False, False]


def test_choices_of_the_items_a_candidate_stands_for_count_as_well():
    """4 items chosen twice and 1 chosen 5 times: 5 of 13 choices, then 13 of 13."""
    assert is_head([2, 5], [4, 1], 0.3) == [False, True]
    assert is_head([2, 5], [4, 1], 0.4) == [True, True]


def test_means_by_hand():
    """Head at (1, 0), tail at (0, 0) twice: 1 apart, no covariance."""
    assert value([[1, 0], [0, 0], [0, 0]], [9, 1, 1]) == pytest.approx(1.0)


def test_covariances_by_hand():
    """Head at 1 and -1, tail at 2 and -2: equal means, variances 1 and 4, (4 - 1)^2 = 9."""
    assert value([[1], [-1], [2], [-2]], [9, 9, 1, 1]) == pytest.approx(9.0)


def test_means_and_covariances_of_many_by_numpy():
    embeddings, frequency = sampled()
    head = np.array(is_head(frequency, np.ones(12), 0.8))
    first, second = embeddings[head], embeddings[~head]
    expected = ((first.mean(0) - second.mean(0)) ** 2).sum()
    expected += ((np.cov(first.T, bias=True) - np.cov(second.T, bias=True)) ** 2).sum()
    assert value(embeddings, frequency) == pytest.approx(expected, rel=1e-4)


def test_vectors_of_length_1_are_at_most_4_apart():
    assert value([[1, 0], [-1, 0]], [9, 1]) == pytest.approx(4.0)


@given(seed=st.integers(0, 1000), copies=st.integers(1, 3))
@settings(max_examples=20, deadline=None)
def test_it_is_zero_if_head_and_tail_have_the_same_vectors(seed, copies):
    embeddings, _ = sampled(seed, size=4)
    both = np.concatenate([embeddings] * (copies + 1))
    frequency = [100] * 4 + [1] * 4 * copies
    assert value(both, frequency) == pytest.approx(0, abs=1e-5)


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_it_is_positive_if_the_tail_is_shifted_or_spread(seed):
    embeddings, _ = sampled(seed, size=4)
    frequency = [100] * 4 + [1] * 4
    assert value(np.concatenate([embeddings, embeddings + 0.3]), frequency) > 0.01
    centred = embeddings - embeddings.mean(axis=0)
    assert value(np.concatenate([centred, 2 * centred]), frequency) > 0.01


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_order_and_rotation_do_not_matter(seed):
    embeddings, frequency = sampled(seed)
    rng = np.random.default_rng(seed)
    order, (rotation, _) = rng.permutation(12), np.linalg.qr(rng.normal(size=(3, 3)))
    other = value(embeddings[order] @ rotation, frequency[order])
    assert other == pytest.approx(value(embeddings, frequency), rel=1e-3)


def test_a_candidate_counts_as_often_as_its_weight_says():
    embeddings, frequency = sampled()
    counts = np.random.default_rng(0).integers(1, 4, 12)
    repeated = np.repeat(np.arange(12), counts)
    assert value(embeddings, frequency, counts) == pytest.approx(
        value(embeddings[repeated], frequency[repeated]), rel=1e-4
    )


@pytest.mark.parametrize("frequency", [[5, 5, 5], [0, 0, 0], [100, 99, 98]])
def test_without_a_head_or_a_tail_it_is_0_with_a_finite_gradient(frequency):
    embeddings = tf.Variable(np.eye(3, dtype=np.float32))
    with tf.GradientTape() as tape:
        penalty = HeadTailAlignment()(
            tf.zeros([1, 3]),
            tf.ones([3, 1]),
            embeddings=embeddings,
            frequency=tf.constant(frequency, tf.float32),
        )
    assert float(penalty) == 0
    np.testing.assert_array_equal(tape.gradient(penalty, embeddings), np.zeros((3, 3)))


@pytest.mark.parametrize("frequency", [[9, 1], [5, 5]])
def test_a_vector_with_nan_makes_the_penalty_nan(frequency):
    assert np.isnan(value([[np.nan, 0], [1, 0]], frequency))


def test_gradient_is_that_of_finite_differences():
    embeddings, frequency = sampled(size=6)
    theoretical, numerical = tf.test.compute_gradient(
        lambda e: HeadTailAlignment()(
            tf.zeros([1, 6], tf.float64),
            tf.ones([6, 1], tf.float64),
            embeddings=e,
            frequency=tf.constant(frequency, tf.float64),
        ),
        [embeddings],
    )
    np.testing.assert_allclose(theoretical[0], numerical[0], atol=1e-4)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_float32_inside_tf_function_with_shapes_unknown_until_it_runs(jit_compile):
    matrix, vector = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None], tf.float32)

    @tf.function(input_signature=[matrix, vector], jit_compile=jit_compile)
    def compiled(embeddings, frequency):
        scores = tf.matmul(embeddings, embeddings, transpose_b=True)
        membership = tf.ones([tf.shape(embeddings)[0], 1])
        return HeadTailAlignment()(scores, membership, embeddings=embeddings, frequency=frequency)

    penalty = compiled(
        tf.constant([[1.0], [-1.0], [2.0], [-2.0]]), tf.constant([9.0, 9.0, 1.0, 1.0])
    )
    assert penalty.dtype == tf.float32
    assert penalty.shape == []
    assert float(penalty) == pytest.approx(9.0, rel=1e-5)


def test_a_foreign_keras_model_learns_to_align_its_items():
    frequency = tf.constant([100.0] * 10 + [1.0] * 30)
    features = tf.random.stateless_normal([40, 4], seed=[1, 2])
    features += tf.constant([[0.0]] * 10 + [[2.0]] * 30)
    regularizer = fairness_losses.get("head_tail")

    class TheirModel(tf.keras.Model):
        def __init__(self):
            super().__init__()
            identity = tf.keras.initializers.Identity()
            self.dense = tf.keras.layers.Dense(4, kernel_initializer=identity)

        def call(self, inputs):
            embeddings = tf.math.l2_normalize(self.dense(features), axis=1)
            scores = tf.matmul(inputs, embeddings, transpose_b=True)
            membership = tf.ones([40, 1])
            penalty = regularizer(scores, membership, embeddings=embeddings, frequency=frequency)
            self.add_loss(penalty)
            return scores

    model = TheirModel()
    # Tracing would take longer than all of the training.
    model.compile(optimizer=tf.keras.optimizers.Adam(0.05), run_eagerly=True)
    queries = tf.random.stateless_normal([8, 4], seed=[3, 4])
    history = model.fit(queries, batch_size=8, epochs=20, verbose=0).history["loss"]
    assert history[0] > 0.2
    assert history[-1] < 0.5 * history[0]


def test_examples_in_the_docstrings_hold():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for example in finder.find(head_tail, globs=vars(head_tail).copy()):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0


def test_a_config_makes_an_equal_regularizer():
    config = {"labels": ["a", "b"], "head_share": 0.5}
    assert fairness_losses.get("head_tail", **config).get_config() == config


@pytest.mark.parametrize("head_share", [0.0, 1.0, float("nan")])
def test_the_share_of_the_head_is_between_0_and_1(head_share):
    message = rf"`head_share` should be in \(0, 1\)\. Received: {head_share}\."
    with pytest.raises(ValueError, match=message):
        HeadTailAlignment(head_share)


def test_embeddings_and_frequency_have_to_be_given():
    with pytest.raises(ValueError, match="`head_tail` needs `embeddings`"):
        HeadTailAlignment()(tf.zeros([1, 2]), tf.eye(2), frequency=tf.ones([2]))
