"""The MinDiff penalty: values by hand, properties, gradient, and the published implementation."""

import doctest
import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_model_remediation.min_diff import losses

import fairness_losses
from fairness_losses.regularizers import min_diff
from fairness_losses.regularizers.min_diff import MinDiff

TWO_AND_TWO = tf.gather(tf.eye(2), [0, 0, 1, 1])
KERNELS = ["gaussian", "laplacian"]
MATRIX = tf.TensorSpec([None, None], tf.float32)
COMPILED = {
    kernel: tf.function(MinDiff(kernel=kernel), input_signature=[MATRIX, MATRIX])
    for kernel in KERNELS
}
score_lists = st.lists(st.floats(-3, 3, width=32), min_size=1, max_size=6)


def value(regularizer, scores, membership, *args, **kwargs):
    return float(regularizer(tf.constant(scores), tf.constant(membership), *args, **kwargs))


def mmd_by_definition(kernel, bandwidth, a, b):
    """Squared MMD of two samples with equal weights, from three means over pairs."""

    def mean(x, y):
        distance = np.linalg.norm(np.asarray(x)[:, None] - np.asarray(y)[None], axis=-1)
        scaled = distance / bandwidth
        return np.exp(-(scaled**2) if kernel == "gaussian" else -scaled).mean()

    return mean(a, a) - 2 * mean(a, b) + mean(b, b)


def sampled(seed=0, num_queries=3, num_candidates=12, num_groups=3):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(num_queries, num_candidates)).astype(np.float32)
    membership = np.eye(num_groups, dtype=np.float32)[np.arange(num_candidates) % num_groups]
    return scores, membership


def test_two_groups_by_hand():
    """a at 0 and 1, b at 0 and 2, bandwidth 1.

    E k(a, a') = (2 + 2 e^-1) / 4, E k(b, b') = (2 + 2 e^-4) / 4, and from the distances 0, 2, 1, 1
    E k(a, b) = (1 + e^-4 + 2 e^-1) / 4. Together (1 - e^-1) / 2 = 0.3161.
    """
    penalty = value(MinDiff(bandwidth=1.0), [[0.0, 1.0, 0.0, 2.0]], TWO_AND_TWO)
    assert penalty == pytest.approx((1 - np.exp(-1)) / 2, rel=1e-5)


def test_the_median_is_the_bandwidth_by_hand():
    """a at 0, b at 4: the median is 4, the kernel between them e^-1, the penalty 2 - 2 e^-1."""
    for kernel in KERNELS:
        penalty = value(MinDiff(kernel=kernel), [[0.0, 4.0]], tf.eye(2))
        assert penalty == pytest.approx(2 - 2 * np.exp(-1), rel=1e-5)


@pytest.mark.parametrize("kernel", KERNELS)
def test_more_groups_and_queries_by_the_definition(kernel):
    scores, membership = sampled()
    expected = np.mean(
        [
            mmd_by_definition(
                kernel, 0.7, row[membership[:, a] == 1, None], row[membership[:, b] == 1, None]
            )
            for row in scores
            for a, b in itertools.combinations(range(3), 2)
        ]
    )
    assert value(MinDiff(kernel=kernel, bandwidth=0.7), scores, membership) == pytest.approx(
        expected, rel=1e-4
    )


@pytest.mark.parametrize("kernel", KERNELS)
def test_embeddings_by_the_definition(kernel):
    embeddings = np.random.default_rng(1).normal(size=(10, 4)).astype(np.float32)
    membership = np.eye(2, dtype=np.float32)[[0] * 4 + [1] * 6]
    regularizer = MinDiff("embeddings", kernel, bandwidth=2.0)
    penalty = value(regularizer, np.zeros((1, 10), np.float32), membership, embeddings=embeddings)
    expected = mmd_by_definition(kernel, 2.0, embeddings[:4], embeddings[4:])
    assert penalty == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_scores_agree_with_tensorflow_model_remediation(kernel):
    scores, membership = sampled(num_queries=1, num_groups=2)
    weights = np.random.default_rng(2).uniform(1, 5, 12).astype(np.float32)
    theirs = {"gaussian": losses.GaussianKernel, "laplacian": losses.LaplacianKernel}[kernel](0.6)
    expected = losses.MMDLoss(kernel=theirs)(
        tf.constant(membership[:, :1]),
        tf.constant(scores[0][:, np.newaxis]),
        tf.constant(weights[:, np.newaxis]),
    )
    penalty = value(MinDiff(kernel=kernel, bandwidth=0.6), scores, membership, weights)
    assert penalty == pytest.approx(float(expected), rel=1e-4)


@pytest.mark.parametrize("kernel", KERNELS)
def test_embeddings_agree_with_tensorflow_model_remediation(kernel):
    _, membership = sampled(num_groups=2)
    embeddings = np.random.default_rng(3).normal(size=(12, 5)).astype(np.float32)
    theirs = {"gaussian": losses.GaussianKernel, "laplacian": losses.LaplacianKernel}[kernel](2.0)
    expected = losses.MMDLoss(kernel=theirs)(
        tf.constant(membership[:, :1]), tf.constant(embeddings)
    )
    regularizer = MinDiff("embeddings", kernel, bandwidth=2.0)
    penalty = value(regularizer, np.zeros((1, 12), np.float32), membership, embeddings=embeddings)
    assert penalty == pytest.approx(float(expected), rel=1e-4)


@given(first=score_lists, copies=st.integers(1, 3), kernel=st.sampled_from(KERNELS))
@settings(max_examples=25, deadline=None)
def test_penalty_is_zero_if_the_groups_have_the_same_distribution(first, copies, kernel):
    """The second group has every score of the first, `copies` times as often."""
    scores = np.array([first + first * copies], np.float32)
    membership = np.eye(2, dtype=np.float32)[[0] * len(first) + [1] * len(first) * copies]
    assert value(COMPILED[kernel], scores, membership) == pytest.approx(0, abs=1e-6)


@given(first=score_lists, shift=st.floats(0.5, 5), kernel=st.sampled_from(KERNELS))
@settings(max_examples=25, deadline=None)
def test_penalty_is_positive_within_its_bound_if_one_group_scores_higher(first, shift, kernel):
    scores = np.array([first + [score + shift for score in first]], np.float32)
    membership = np.repeat(np.eye(2, dtype=np.float32), len(first), axis=0)
    assert 1e-4 < value(COMPILED[kernel], scores, membership) <= 2


@given(seed=st.integers(0, 1000), factor=st.sampled_from([1e-3, 0.1, 8.0, 1e4]))
@settings(max_examples=20, deadline=None)
def test_the_scale_of_scores_and_their_origin_do_not_matter_to_the_median_heuristic(seed, factor):
    scores, membership = sampled(seed)
    penalty = value(COMPILED["gaussian"], scores, membership)
    assert value(COMPILED["gaussian"], factor * (scores + 2), membership) == pytest.approx(
        penalty, rel=1e-3
    )


@given(seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_the_order_of_queries_candidates_and_groups_does_not_matter(seed):
    scores, membership = sampled(seed)
    rng = np.random.default_rng(seed)
    queries, columns, groups = (rng.permutation(size) for size in (3, 12, 3))
    shuffled = scores[queries][:, columns], membership[columns][:, groups]
    penalty = value(COMPILED["gaussian"], scores, membership)
    assert value(COMPILED["gaussian"], *shuffled) == pytest.approx(penalty, rel=1e-4, abs=1e-7)


def test_a_candidate_counts_as_often_as_its_weight_says():
    scores, membership = sampled(num_queries=2)
    counts = np.random.default_rng(0).integers(1, 4, 12)
    repeated = np.repeat(np.arange(12), counts)
    regularizer = MinDiff(bandwidth=1.0)
    assert value(regularizer, scores, membership, counts.astype(np.float32)) == pytest.approx(
        value(regularizer, scores[:, repeated], membership[repeated]), rel=1e-4
    )


def test_a_candidate_of_two_groups_counts_as_a_fraction_in_each():
    """As if it were two candidates, one in each group, of half its weight."""
    mixed = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0]], np.float32)
    split = np.eye(2, dtype=np.float32)[[0, 0, 1, 1]]
    regularizer = MinDiff(bandwidth=1.0)
    assert value(regularizer, [[0.1, 0.9, 0.5]], mixed) == pytest.approx(
        value(regularizer, [[0.1, 0.9, 0.9, 0.5]], split, tf.constant([1.0, 0.5, 0.5, 1.0]))
    )


def test_candidates_that_are_not_listed_are_left_out():
    listed = tf.constant([[True, True, False, True]])
    penalty = value(MinDiff(), [[0.1, 0.9, 7.0, 0.5]], TWO_AND_TWO, listed=listed)
    membership = tf.gather(TWO_AND_TWO, [0, 1, 3])
    assert penalty == pytest.approx(value(MinDiff(), [[0.1, 0.9, 0.5]], membership))


def test_with_positives_only_the_others_are_left_out():
    relevance = tf.constant([[1.0, 0.5, 0.0, 2.0]])
    penalty = value(
        MinDiff(positives_only=True), [[0.1, 0.9, 7.0, 0.5]], TWO_AND_TWO, relevance=relevance
    )
    membership = tf.gather(TWO_AND_TWO, [0, 1, 3])
    assert penalty == pytest.approx(value(MinDiff(), [[0.1, 0.9, 0.5]], membership))


def test_excluded_groups_neither_count_nor_set_the_bandwidth():
    membership = tf.gather(tf.eye(3), [0, 2, 1, 0, 2, 1])
    scores = np.array([[0.1, 50.0, 0.3, 0.4, -50.0, 0.9]], np.float32)
    penalty = value(MinDiff(excluded=[2]), scores, membership)
    kept = [0, 2, 3, 5]
    expected = value(MinDiff(), scores[:, kept], tf.gather(membership, kept)[:, :2])
    assert penalty == pytest.approx(expected, rel=1e-5)


def test_groups_without_candidates_are_left_out():
    membership = tf.pad(TWO_AND_TWO, [[0, 0], [1, 2]])
    scores = [[0.3, 0.2, 0.9, 0.7]]
    assert value(MinDiff(), scores, membership) == pytest.approx(
        value(MinDiff(), scores, TWO_AND_TWO)
    )


def test_queries_with_candidates_of_one_group_do_not_count_in_the_mean():
    scores = [[0.3, 0.2, 0.9, 0.7], [0.3, 0.2, 0.9, 0.7]]
    listed = tf.constant([[True] * 4, [True, True, False, False]])
    assert value(MinDiff(), scores, TWO_AND_TWO, listed=listed) == pytest.approx(
        value(MinDiff(), scores[:1], TWO_AND_TWO)
    )


@pytest.mark.parametrize(
    ("scores", "membership"),
    [
        (np.zeros((0, 4), np.float32), TWO_AND_TWO),
        (np.ones((2, 4), np.float32), TWO_AND_TWO),
        (np.eye(4, dtype=np.float32), tf.ones([4, 1])),
        (np.eye(4, dtype=np.float32), tf.one_hot([1] * 4, 3)),
    ],
    ids=["no queries", "equal scores", "one group", "one group present"],
)
@pytest.mark.parametrize("kernel", KERNELS)
def test_without_anything_to_compare_it_is_0_and_so_is_its_gradient(scores, membership, kernel):
    scores = tf.Variable(scores)
    with tf.GradientTape() as tape:
        penalty = MinDiff(kernel=kernel)(scores, membership)
    assert float(penalty) == 0
    np.testing.assert_array_equal(tape.gradient(penalty, scores), np.zeros(scores.shape))


def test_an_empty_batch_is_0_under_xla_as_well():
    compiled = tf.function(MinDiff(), jit_compile=True)
    assert float(compiled(tf.zeros([0, 4]), TWO_AND_TWO)) == 0


def test_nothing_listed_is_0():
    listed = tf.zeros([1, 4], tf.bool)
    assert value(MinDiff(), [[0.1, 0.9, 0.4, 0.5]], TWO_AND_TWO, listed=listed) == 0


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_score_that_is_nan_makes_the_penalty_nan(jit_compile):
    compiled = tf.function(MinDiff(), jit_compile=jit_compile)
    assert np.isnan(compiled(tf.constant([[0.1, np.nan, 0.4, 0.5]]), TWO_AND_TWO))


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradient_is_that_of_finite_differences(kernel):
    scores, membership = sampled(num_queries=2, num_candidates=6)
    membership = tf.constant(membership, tf.float64)
    weights = tf.constant([1.0, 2.0, 3.0, 1.0, 1.0, 2.0], tf.float64)
    regularizer = MinDiff(kernel=kernel, bandwidth=0.8)
    theoretical, numerical = tf.test.compute_gradient(
        lambda s: 3 * regularizer(s, membership, weights), [scores.astype(np.float64)]
    )
    np.testing.assert_allclose(theoretical[0], numerical[0], atol=1e-5)
    assert np.abs(theoretical[0]).max() > 1e-3


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradient_of_embeddings_is_that_of_finite_differences(kernel):
    embeddings = np.random.default_rng(4).normal(size=(6, 3))
    membership = tf.constant(np.eye(2)[[0, 0, 0, 1, 1, 1]])
    scores, weights = tf.zeros([1, 6], tf.float64), tf.ones([6], tf.float64)
    regularizer = MinDiff("embeddings", kernel, bandwidth=1.5)
    theoretical, numerical = tf.test.compute_gradient(
        lambda e: regularizer(scores, membership, weights, embeddings=e), [embeddings]
    )
    np.testing.assert_allclose(theoretical[0], numerical[0], atol=1e-5)


@pytest.mark.parametrize("dim", [8, 64])
def test_with_a_fixed_narrow_bandwidth_embeddings_have_no_gradient_and_with_the_median_they_do(dim):
    """At dimension 8 squared distances are about 16: exp(-16 / 0.1^2) is 0 in float32."""
    rng = np.random.default_rng(0)
    apart = rng.normal(size=(32, dim)) + np.repeat([[0.0], [2.0]], 16, axis=0)
    embeddings = tf.Variable(apart.astype(np.float32))
    membership = np.repeat(np.eye(2, dtype=np.float32), 16, axis=0)

    def gradient(bandwidth):
        with tf.GradientTape() as tape:
            penalty = MinDiff("embeddings", bandwidth=bandwidth)(
                tf.zeros([1, 32]), membership, embeddings=embeddings
            )
        return tape.gradient(penalty, embeddings).numpy()

    np.testing.assert_array_equal(gradient(0.1), 0)
    assert np.linalg.norm(gradient(None)) > 0.01


def test_descent_brings_the_groups_together():
    rng = np.random.default_rng(0)
    membership = np.eye(2, dtype=np.float32)[np.arange(40) % 2]
    scores = tf.Variable((rng.normal(size=(4, 40)) + 2 * membership[:, 0]).astype(np.float32))
    regularizer = MinDiff()

    @tf.function
    def descend():
        for _ in tf.range(100):
            with tf.GradientTape() as tape:
                penalty = regularizer(scores, membership)
            scores.assign_sub(20.0 * tape.gradient(penalty, scores))

    before = float(regularizer(scores, membership))
    descend()
    assert before > 0.3
    assert float(regularizer(scores, membership)) < 0.05


@pytest.mark.parametrize("on", ["scores", "embeddings"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_float32_inside_tf_function_with_and_without_xla(on, jit_compile):
    scores, membership = sampled()
    embeddings = tf.constant(np.random.default_rng(5).normal(size=(12, 4)).astype(np.float32))
    regularizer = MinDiff(on)

    def penalty_and_gradient(scores, embeddings):
        with tf.GradientTape() as tape:
            tape.watch((scores, embeddings))
            penalty = regularizer(scores, membership, embeddings=embeddings)
        return penalty, tape.gradient(penalty, {"scores": scores, "embeddings": embeddings}[on])

    inputs = tf.constant(scores), embeddings
    penalty, gradient = tf.function(penalty_and_gradient, jit_compile=jit_compile)(*inputs)
    expected_penalty, expected_gradient = penalty_and_gradient(*inputs)
    assert penalty.dtype == tf.float32
    assert penalty.shape == []
    assert float(penalty) == pytest.approx(float(expected_penalty), rel=1e-4)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-6)


def test_shapes_may_be_unknown_until_the_graph_runs():
    compiled = tf.function(MinDiff(bandwidth=1.0), input_signature=[MATRIX, MATRIX])
    penalty = float(compiled(tf.constant([[0.0, 1.0, 0.0, 2.0]]), TWO_AND_TWO))
    assert penalty == pytest.approx((1 - np.exp(-1)) / 2, rel=1e-5)


def test_a_foreign_keras_model_learns_to_score_the_groups_alike():
    """Half of the candidates are in each group, and the group is a feature of theirs."""
    membership = tf.repeat(tf.eye(2), 20, axis=0)
    candidates = tf.concat([tf.random.stateless_normal([40, 4], seed=[1, 2]), membership], axis=1)
    regularizer = fairness_losses.get("min_diff")

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
    model.compile(optimizer=tf.keras.optimizers.Adam(0.1), run_eagerly=True)
    queries = 2 * tf.random.stateless_normal([4, 6], seed=[3, 4])
    history = model.fit(queries, batch_size=4, epochs=8, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]


def test_examples_in_the_docstrings_hold():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for example in finder.find(min_diff, globs=vars(min_diff).copy()):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0


def test_a_config_makes_an_equal_regularizer():
    config = {
        "labels": ["a", "b"],
        "on": "scores",
        "kernel": "laplacian",
        "bandwidth": 0.5,
        "positives_only": True,
        "excluded": [1, 2],
    }
    regularizer = fairness_losses.get("min_diff", **config)
    assert regularizer.get_config() == config
    assert MinDiff(excluded=[2, 1, 1]).get_config()["excluded"] == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on": "ranks"}, r"`on` should be `scores` or `embeddings`\. Received: ranks\."),
        ({"kernel": "rbf"}, r"`kernel` should be one of gaussian, laplacian\. Received: rbf\."),
        ({"bandwidth": 0.0}, r"`bandwidth` should be a positive float\. Received: 0\.0\."),
        ({"bandwidth": np.nan}, r"`bandwidth` should be a positive float\. Received: nan\."),
        ({"on": "embeddings", "positives_only": True}, r"`positives_only` should be False"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MinDiff(**arguments)


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [({"on": "embeddings"}, "embeddings"), ({"positives_only": True}, "relevance")],
)
def test_what_is_to_be_compared_has_to_be_given(arguments, missing):
    with pytest.raises(ValueError, match=rf"needs `{missing}`\. Received: None"):
        MinDiff(**arguments)(tf.zeros([1, 4]), TWO_AND_TWO)
