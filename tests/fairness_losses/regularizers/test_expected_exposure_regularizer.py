"""The expected-exposure penalty: values by hand, its metric, gradient, use in a foreign model."""

import doctest

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
from hypothesis import given, settings
from hypothesis import strategies as st

import fairness_losses
from fairness_losses.browsing import rbp_weights
from fairness_losses.expected_exposure import ranked_exposure
from fairness_losses.metrics.expected_exposure import expected_exposure as metric
from fairness_losses.metrics.expected_exposure import target_exposure
from fairness_losses.regularizers import expected_exposure
from fairness_losses.regularizers.expected_exposure import ExpectedExposure

HARD = {"temperature": 1e-5, "policy_temperature": 0.0}
SCORES = tf.constant([[0.9, 0.5, 0.1], [0.1, 0.5, 0.9]])
RELEVANCE = tf.constant([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
MEMBERSHIP = tf.constant([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])


def random_batch(seed: int, num_queries: int = 4, num_candidates: int = 9) -> dict[str, np.ndarray]:
    """Scores at least 1 / num_candidates apart within a query, grades 0 to 2."""
    rng = np.random.default_rng(seed)
    shape = num_queries, num_candidates
    return {
        "scores": (np.argsort(rng.random(shape), axis=1) / num_candidates).astype(np.float32),
        "membership": rng.dirichlet(np.ones(3), num_candidates).astype(np.float32),
        "relevance": rng.integers(0, 3, shape).astype(np.float32),
        "listed": rng.random(shape) < 0.8,
    }


def test_items_by_hand():
    """Patience 1/2. Query 1: E = 1, 1/2, 1/4 and E* = 1, 3/8, 3/8: 2 * (1/8)^2 = 1/32.

    Query 2: E = 1/4, 1/2, 1 and E* = 3/4, 3/4, 1/4: 1/4 + 1/16 + 9/16 = 7/8.
    """
    merit = ExpectedExposure(patience=0.5, **HARD)
    penalty = merit(SCORES, MEMBERSHIP, relevance=RELEVANCE)
    assert float(penalty) == pytest.approx((1 / 32 + 7 / 8) / 2, rel=1e-5)


def test_groups_by_hand():
    """Query 1: both groups at their target. Query 2: item 1 and items 2, 3 are off by 1/2."""
    merit = ExpectedExposure(by_group=True, patience=0.5, **HARD)
    penalty = merit(SCORES, MEMBERSHIP, relevance=RELEVANCE)
    assert float(penalty) == pytest.approx((0 + 2 * 0.25) / 2, rel=1e-5)
    alone = ExpectedExposure(by_group=True, patience=0.5, excluded=[1], **HARD)
    assert float(alone(SCORES, MEMBERSHIP, relevance=RELEVANCE)) == pytest.approx(0.125, rel=1e-5)


@given(seed=st.integers(0, 10_000), by_group=st.booleans(), depth=st.integers(1, 9))
@settings(max_examples=30, deadline=None)
def test_in_the_hard_limit_it_is_the_metric(seed, by_group, depth):
    batch = random_batch(seed)
    penalty = ExpectedExposure(by_group, depth=depth, **HARD)(**to_tensors(batch))
    attention, listed = rbp_weights(9, 0.8), batch["listed"]
    exact = metric(
        ranked_exposure(batch["scores"], attention[:depth], listed),
        target_exposure(batch["relevance"], attention, listed),
        batch["membership"] if by_group else None,
    )
    assert float(penalty) == pytest.approx(exact.loss.mean(), abs=1e-5)
    assert 0 <= float(penalty) <= (2 / 0.2**2 if by_group else 2 / (1 - 0.8**2))


def to_tensors(batch: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(values) for name, values in batch.items()}


@pytest.mark.parametrize("by_group", [False, True])
def test_zero_if_every_item_is_ranked_by_a_merit_of_its_own(by_group):
    batch = to_tensors(random_batch(0))
    batch["relevance"] = batch["scores"]
    assert float(ExpectedExposure(by_group, **HARD)(**batch)) == pytest.approx(0, abs=1e-9)
    batch["relevance"] = -batch["scores"]
    assert float(ExpectedExposure(by_group, **HARD)(**batch)) > 0.1


def test_a_random_order_is_at_the_target_where_all_items_merit_the_same():
    """Noise 1000 times the spread of the scores: exposure is equal but for 4000 samples' chance.

    Without noise the penalty is |E|^2 - |E*|^2, here 1.3125 - 3 * (7/12)^2 = 0.2917.
    """
    inputs = {"membership": MEMBERSHIP, "relevance": tf.zeros([2, 3])}
    noisy = ExpectedExposure(
        patience=0.5, temperature=1e-3, policy_temperature=1000.0, num_samples=4000
    )
    assert float(noisy(SCORES, **inputs)) < 0.001
    without = ExpectedExposure(patience=0.5, **HARD)
    assert float(without(SCORES, **inputs)) == pytest.approx(0.2917, abs=1e-4)


def test_a_candidate_that_stands_for_items_counts_as_often():
    """The second of two stands for 3 items: E = 1 and 7/24, E* = 1/8 and 7/12, patience 1/2."""
    merit = ExpectedExposure(patience=0.5, **HARD)
    penalty = merit(
        tf.constant([[0.9, 0.1]]),
        tf.eye(2),
        tf.constant([1.0, 3.0]),
        relevance=tf.constant([[0.0, 1.0]]),
    )
    assert float(penalty) == pytest.approx((7 / 8) ** 2 + 3 * (7 / 24) ** 2, rel=1e-5)


def test_order_and_shift_do_not_matter():
    batch = random_batch(3)
    columns = np.random.default_rng(3).permutation(9)
    moved = {
        name: values[columns] if name == "membership" else values[:, columns]
        for name, values in batch.items()
    }
    moved["scores"] = moved["scores"] + np.float32(2.0)
    merit = ExpectedExposure(by_group=True, temperature=0.1, policy_temperature=0.0)
    assert float(merit(**to_tensors(moved))) == pytest.approx(
        float(merit(**to_tensors(batch))), rel=1e-4
    )


@pytest.mark.parametrize("by_group", [False, True])
@pytest.mark.parametrize("policy_temperature", [0.0, 0.2])
def test_gradient_is_that_of_finite_differences(by_group, policy_temperature):
    batch = random_batch(5, 2, 5)
    double = {
        name: tf.constant(values, tf.bool if name == "listed" else tf.float64)
        for name, values in batch.items()
    }
    scores = double.pop("scores")

    def penalty(scores):
        # The same noise every time.
        merit = ExpectedExposure(by_group, 0.8, 0.3, policy_temperature, num_samples=3)
        return merit(scores, **double)

    theoretical, numerical = tf.test.compute_gradient(penalty, [scores], delta=1e-5)
    np.testing.assert_allclose(theoretical[0], numerical[0], atol=1e-7)
    assert np.abs(theoretical[0]).max() > 0.01


@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_with_unknown_shapes_it_is_the_same(jit_compile):
    merit = ExpectedExposure(temperature=0.1, policy_temperature=0.0, depth=5)
    matrix = tf.TensorSpec([None, None], tf.float32)
    compiled = tf.function(
        lambda scores, membership, relevance: merit(scores, membership, relevance=relevance),
        jit_compile=jit_compile,
        input_signature=[matrix] * 3,
    )
    inputs = to_tensors(random_batch(1))
    inputs = [inputs[name] for name in ("scores", "membership", "relevance")]
    expected = float(merit(inputs[0], inputs[1], relevance=inputs[2]))
    assert float(compiled(*inputs)) == pytest.approx(expected, rel=1e-5)
    assert float(compiled(inputs[0][:0], inputs[1], inputs[2][:0])) == 0


def test_descent_on_the_scores_lifts_what_merits_it():
    scores = tf.Variable(SCORES)
    merit = ExpectedExposure(patience=0.5, temperature=0.2, policy_temperature=0.2)

    @tf.function
    def descend():
        for _ in tf.range(60):
            with tf.GradientTape() as tape:
                penalty = merit(scores, MEMBERSHIP, relevance=RELEVANCE)
            scores.assign_sub(0.5 * tape.gradient(penalty, scores))

    descend()
    assert float(merit(scores, MEMBERSHIP, relevance=RELEVANCE)) < 0.2
    assert scores[1, 0] > scores[1, 2]
    assert scores[1, 1] > scores[1, 2]


def test_edge_cases_are_defined():
    """No query; nothing listed; one candidate; a score that is NaN."""
    merit = ExpectedExposure(num_samples=2)
    assert float(merit(SCORES[:0], MEMBERSHIP, relevance=RELEVANCE[:0])) == 0
    nothing = tf.zeros([2, 3], tf.bool)
    assert float(merit(SCORES, MEMBERSHIP, relevance=RELEVANCE, listed=nothing)) == 0
    alone = merit(SCORES[:, :1], MEMBERSHIP[:1], relevance=RELEVANCE[:, :1])
    assert float(alone) == pytest.approx(0, abs=1e-9)
    assert np.isnan(float(merit(SCORES * np.nan, MEMBERSHIP, relevance=RELEVANCE)))


def test_a_step_of_fit_changes_the_weights_of_a_tfrs_model():
    batch = to_tensors(random_batch(2, 16, 12))

    class TheirModel(tfrs.Model):
        def __init__(self):
            super().__init__()
            self.dense = tf.keras.layers.Dense(12)
            self.merit = fairness_losses.get("expected_exposure", temperature=0.1)

        def compute_loss(self, inputs, training=False):
            scores = self.dense(inputs["features"])
            return self.merit(scores, batch["membership"], relevance=inputs["relevance"])

    model = TheirModel()
    # Tracing would take longer than all of the training.
    model.compile(optimizer=tf.keras.optimizers.Adam(0.05), run_eagerly=True)
    features = tf.random.stateless_normal([16, 6], [1, 2])
    data = {"features": features, "relevance": batch["relevance"]}
    model.dense(features)
    before = model.dense.get_weights()
    losses = model.fit(data, batch_size=16, epochs=20, verbose=0).history["loss"]
    assert (model.dense.get_weights()[0] != before[0]).any()
    assert losses[-1] < 0.8 * losses[0]


def test_examples_in_the_docstrings_hold():
    finder = doctest.DocTestFinder()
    runner = doctest.DocTestRunner()
    for example in finder.find(expected_exposure, globs=vars(expected_exposure).copy()):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0


def test_a_config_makes_an_equal_regularizer():
    merit = ExpectedExposure(True, 0.7, 0.1, 0.2, 3, 7, 9, [1], ["a", "b"])
    config = merit.get_config()
    assert config == {
        "labels": ["a", "b"],
        "by_group": True,
        "patience": 0.7,
        "temperature": 0.1,
        "policy_temperature": 0.2,
        "num_samples": 3,
        "depth": 7,
        "seed": 9,
        "excluded": [1],
    }
    assert fairness_losses.get("expected_exposure", **config).get_config() == config


def test_bad_input():
    with pytest.raises(ValueError, match="`expected_exposure` needs `relevance`"):
        ExpectedExposure()(SCORES, MEMBERSHIP)
    with pytest.raises(ValueError, match="`excluded` should be numbers of groups, from 0 to 1"):
        ExpectedExposure(True, excluded=[2])(SCORES, MEMBERSHIP, relevance=RELEVANCE)
    with pytest.raises(ValueError, match="`patience` should be between 0 and 1"):
        ExpectedExposure(patience=0.0)
