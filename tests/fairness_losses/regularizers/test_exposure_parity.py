"""The exposure-parity penalty: values by hand, properties, gradient, and use in a foreign model."""

import doctest
import textwrap

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import fairness_losses
from fairness_losses.regularizers import exposure_parity
from fairness_losses.regularizers.exposure_parity import ExposureParity

HARD = 1e-4
SCORES = tf.constant([[0.9, 0.8, 0.1, 0.0]])
MEMBERSHIP = tf.constant([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])

shares = st.lists(st.floats(0.05, 1.0), min_size=2, max_size=5)


def penalty_of_shares(share: list[float], target: list[float]) -> float:
    """Penalty where the groups have shares in these proportions.

    One candidate per group, all with the same score, hence with the same attention; candidate g
    stands for as many items as group g should have.
    """
    weights = tf.constant(np.array(share) / min(share), tf.float32)
    parity = ExposureParity(target, depth=1)
    return float(parity(tf.zeros([1, len(share)]), tf.eye(len(share)), weights))


def test_two_groups_by_hand():
    """One item of each on the list: (1/2 - 1/4)^2 / (1/4) + (1/2 - 3/4)^2 / (3/4) = 1/3."""
    parity = ExposureParity([0.25, 0.75], HARD, depth=2)
    assert float(parity(SCORES, MEMBERSHIP)) == pytest.approx(1 / 3, rel=1e-5)


def test_three_groups_over_two_queries_by_hand():
    """Lists A, A and A, B out of A, A, B, C: shares 3/4, 1/4, 0 of targets 1/2, 1/4, 1/4.

    (1/4)^2 / (1/2) + 0 + (1/4)^2 / (1/4) = 1/8 + 1/4.
    """
    scores = tf.constant([[0.9, 0.8, 0.1, 0.0], [0.9, 0.1, 0.8, 0.0]])
    membership = tf.gather(tf.eye(3), [0, 0, 1, 2])
    parity = ExposureParity([0.5, 0.25, 0.25], HARD, depth=2)
    assert float(parity(scores, membership)) == pytest.approx(0.375, rel=1e-5)


def test_items_stand_for_as_many_as_their_weights_say():
    """The items on the list stand for 1 and 3: the shares are the target, 1/4 and 3/4."""
    parity = ExposureParity([0.25, 0.75], HARD, depth=4)
    weights = tf.constant([1.0, 3.0, 3.0, 3.0])
    assert float(parity(SCORES, MEMBERSHIP, weights)) == pytest.approx(0, abs=1e-6)


def test_exposure_of_the_smallest_group_alone_has_the_largest_penalty():
    """(1 - t)^2 / t + (1 - t) = 1 / t - 1, here 1 / 0.25 - 1 = 3."""
    parity = ExposureParity([0.25, 0.75], HARD, depth=1)
    assert float(parity(SCORES, MEMBERSHIP)) == pytest.approx(3.0, rel=1e-5)


@given(
    st.integers(2, 5).flatmap(
        lambda n: st.tuples(*[st.lists(st.floats(0.05, 1.0), min_size=n, max_size=n)] * 2)
    )
)
@settings(max_examples=30, deadline=None)
def test_penalty_is_the_chi_squared_divergence_within_its_bounds(share_and_target):
    share, target = (np.array(x) / sum(x) for x in share_and_target)
    penalty = penalty_of_shares(list(share), list(target))
    assert penalty == pytest.approx(((share - target) ** 2 / target).sum(), rel=1e-3, abs=1e-5)
    assert 0 <= penalty <= 1 / target.min() - 1


@given(target=shares)
@settings(max_examples=30, deadline=None)
def test_penalty_is_zero_if_every_share_is_its_target(target):
    assert penalty_of_shares(target, target) == pytest.approx(0, abs=1e-6)


@given(target=shares, factor=st.floats(1.2, 3.0))
@settings(max_examples=30, deadline=None)
def test_penalty_is_positive_if_one_group_has_more_than_its_target(target, factor):
    assert penalty_of_shares([target[0] * factor, *target[1:]], target) > 1e-5


def test_items_without_a_target_neither_count_nor_are_pushed():
    """`unknown` takes the first rank; A and B share the other two as their target says."""
    scores = tf.Variable([[0.9, 0.8, 0.7, 0.1, 0.0]])
    membership = tf.gather(tf.eye(3), [2, 0, 1, 2, 0])
    hard = ExposureParity([0.5, 0.5, 0.0], HARD, depth=3)
    assert float(hard(scores, membership)) == pytest.approx(0, abs=1e-6)
    soft = ExposureParity([0.5, 0.5, 0.0], 0.5, depth=3)
    with tf.GradientTape() as tape:
        penalty = soft(scores, membership)
    gradient = tape.gradient(penalty, scores).numpy()[0]
    np.testing.assert_array_equal(gradient[[0, 3]], 0)
    assert (gradient[[1, 2, 4]] != 0).all()


def test_descent_pushes_the_under_exposed_up_and_the_over_exposed_down():
    """A has half of the exposure and should have a quarter."""
    scores = tf.Variable(SCORES)
    with tf.GradientTape() as tape:
        penalty = ExposureParity([0.25, 0.75], 0.2, depth=2)(scores, MEMBERSHIP)
    gradient = tape.gradient(penalty, scores).numpy()[0]
    assert gradient[0] > 0
    assert (gradient[1:] < 0).all()


def test_descent_on_the_scores_reaches_the_target():
    rng = np.random.default_rng(0)
    membership = tf.gather(tf.eye(3), rng.integers(0, 3, 60))
    noise = tf.constant(rng.normal(size=(8, 60)), tf.float32)
    scores = tf.Variable(noise + 2.0 * membership[:, 0])
    parity = ExposureParity([0.2, 0.3, 0.5], 0.3, depth=10)
    before = float(parity(scores, membership))

    @tf.function
    def descend():
        for _ in tf.range(200):
            with tf.GradientTape() as tape:
                penalty = parity(scores, membership)
            scores.assign_sub(5.0 * tape.gradient(penalty, scores))

    descend()
    assert before > 0.5
    assert float(parity(scores, membership)) < 0.001


def test_lists_full_of_items_without_a_target_keep_penalty_and_gradient_finite():
    """Scores so far apart that the attention to all others is 0 in float32."""
    scores = tf.Variable([[500.0, 500.0, 0.0, 0.0]])
    membership = tf.gather(tf.eye(3), [2, 2, 0, 1])
    with tf.GradientTape() as tape:
        penalty = ExposureParity([0.5, 0.5, 0.0], depth=1)(scores, membership)
    assert np.isfinite(float(penalty))
    assert np.isfinite(tape.gradient(penalty, scores).numpy()).all()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_float32_inside_tf_function_with_and_without_xla(jit_compile):
    parity = ExposureParity([0.25, 0.75], 0.1, depth=2)
    compiled = tf.function(parity, jit_compile=jit_compile)
    penalty = compiled(SCORES, MEMBERSHIP)
    assert penalty.dtype == tf.float32
    assert penalty.shape == []
    assert float(penalty) == pytest.approx(float(parity(SCORES, MEMBERSHIP)), rel=1e-5)


def test_shapes_may_be_unknown_until_the_graph_runs():
    parity = ExposureParity([0.25, 0.75], HARD, depth=2)
    matrix = tf.TensorSpec([None, None], tf.float32)
    compiled = tf.function(parity, input_signature=[matrix, matrix])
    assert float(compiled(SCORES, MEMBERSHIP)) == pytest.approx(1 / 3, rel=1e-5)


def test_three_lines_of_the_package_docstring_work_in_a_plain_keras_model():
    """The lines are run as printed, inside a model that knows nothing of this package.

    Its scores are a dense layer's; half of the candidates are in each group, the target is
    0.3 and 0.7, and training has nothing to do but to reach it.
    """
    lines = textwrap.dedent(fairness_losses.__doc__.split("::")[1]).strip()
    assert len([line for line in lines.splitlines() if line]) == 3
    membership = tf.repeat(tf.eye(2), 200, axis=0)
    candidates = tf.concat([tf.random.stateless_normal([400, 6], seed=[1, 2]), membership], axis=1)

    class TheirModel(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = tf.keras.layers.Dense(
                8, kernel_initializer=tf.keras.initializers.Identity()
            )

        def call(self, inputs):
            scores = tf.matmul(self.dense(inputs), candidates, transpose_b=True)
            local = {"loss": tf.constant(0.0), "scores": scores, "membership": membership}
            exec(lines, local)
            self.add_loss(local["loss"])
            return scores

    model = TheirModel()
    # Tracing would take longer than all of the training.
    model.compile(optimizer=tf.keras.optimizers.Adam(0.1), run_eagerly=True)
    queries = tf.random.stateless_normal([32, 8], seed=[3, 4])
    history = model.fit(queries, batch_size=32, epochs=30, verbose=0).history["loss"]
    assert history[0] > 0.1
    assert history[-1] < 0.1 * history[0]


def test_examples_in_the_docstrings_hold():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for example in finder.find(exposure_parity, globs=vars(exposure_parity).copy()):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0


def test_a_config_makes_an_equal_regularizer():
    parity = ExposureParity([1, 3, 0], temperature=0.2, depth=7)
    config = parity.get_config()
    assert config == {
        "labels": None,
        "target": [0.25, 0.75, 0.0],
        "temperature": 0.2,
        "depth": 7,
    }
    assert fairness_losses.get("exposure_parity", **config).get_config() == config


@pytest.mark.parametrize("temperature", [-1.0, 0.0, float("nan")])
def test_temperature_is_positive(temperature):
    message = rf"`temperature` should be a positive float\. Received: {temperature}\."
    with pytest.raises(ValueError, match=message):
        ExposureParity([0.5, 0.5], temperature=temperature)


def test_depth_is_at_least_1():
    with pytest.raises(ValueError, match=r"`depth` should be at least 1\. Received: 0\."):
        ExposureParity([0.5, 0.5], depth=0)


@pytest.mark.parametrize(
    "target", [[], [0.0, 0.0], [-0.5, 1.5], [float("nan"), 1.0], [float("inf"), 1.0], [[1.0]], 0.5]
)
def test_target_is_a_list_of_shares(target):
    with pytest.raises(ValueError, match=r"`target` should be a list of shares.*Received: "):
        ExposureParity(target)


def test_a_depth_that_lists_every_candidate_is_refused():
    """Otherwise there would be no gradient, and nobody would notice."""
    parity = ExposureParity(target=[0.5, 0.5], depth=4)
    with pytest.raises(ValueError, match=r"less than the number of candidates, 4.*Received: 4"):
        parity(tf.zeros([2, 4]), tf.one_hot([0, 1, 0, 1], 2))
