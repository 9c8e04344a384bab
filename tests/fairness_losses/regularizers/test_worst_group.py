"""The worst-group loss: losses and weights by hand, its equilibrium, state and gradient."""

import doctest

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import fairness_losses
from fairness_losses.regularizers import worst_group
from fairness_losses.regularizers.base import ScoredCandidates
from fairness_losses.regularizers.worst_group import WorstGroup

LN2, LN3 = np.log(2), np.log(3)

# Softmax of [ln 2, 0, 0] is 1/2, 1/4, 1/4. Users of two slices; the first chose the first item.
SCORES = tf.constant([[LN2, 0.0, 0.0]] * 2, tf.float32)
RELEVANCE = tf.constant([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
SLICES = tf.eye(2)
MEMBERSHIP = tf.ones([3, 1])


def penalty_of(worst: WorstGroup, scores=SCORES, relevance=RELEVANCE, slices=SLICES, **more):
    membership = tf.ones([scores.shape[1], 1], scores.dtype)
    return worst(scores, membership, relevance=relevance, slices=slices, **more)


def test_two_slices_by_hand():
    """Losses ln 2 and ln 4. A step of 1 makes the weights 1/2 * 2 and 1/2 * 4, so 1/3 and 2/3.

    ln 2 / 3 + 2 ln 4 / 3 = 5 ln 2 / 3.
    """
    worst = WorstGroup(num_slices=2, step_size=1.0, temperature=1.0)
    assert float(penalty_of(worst)) == pytest.approx(5 * LN2 / 3, rel=1e-5)
    np.testing.assert_allclose(worst.slice_weights, [1 / 3, 2 / 3], rtol=1e-5)
    # The second step starts from there: 1/3 * 2 and 2/3 * 4, so 1/5 and 4/5.
    assert float(penalty_of(worst)) == pytest.approx(9 * LN2 / 5, rel=1e-5)
    np.testing.assert_allclose(worst.slice_weights, [1 / 5, 4 / 5], rtol=1e-5)


def test_a_step_of_0_is_the_average_over_slices():
    """(ln 2 + ln 4) / 2."""
    worst = WorstGroup(2, step_size=0.0, temperature=1.0)
    for _ in range(3):
        assert float(penalty_of(worst)) == pytest.approx(1.5 * LN2, rel=1e-5)


def test_several_positives_are_averaged():
    """The query chose the first item (1/2) and the second (1/4): (ln 2 + ln 4) / 2."""
    penalty = penalty_of(
        WorstGroup(1, temperature=1.0), SCORES[:1], tf.constant([[1.0, 1.0, 0.0]]), tf.ones([1, 1])
    )
    assert float(penalty) == pytest.approx(1.5 * LN2, rel=1e-5)


def test_temperature_divides_the_scores():
    """Halved, ln 4 is the ln 2 of before."""
    penalty = penalty_of(WorstGroup(2, 0.0, temperature=2.0), 2 * SCORES)
    assert float(penalty) == pytest.approx(1.5 * LN2, rel=1e-5)


def test_a_candidate_that_stands_for_three_counts_as_three():
    """Of 2 + 1 + 3 the first item has 2 and the second 1: (ln 3 + ln 6) / 2."""
    penalty = penalty_of(WorstGroup(2, 0.0, 1.0), weights=tf.constant([1.0, 1.0, 3.0]))
    assert float(penalty) == pytest.approx((LN3 + np.log(6)) / 2, rel=1e-5)


def test_a_positive_that_stands_for_two_is_two_positives():
    """As items of their own: the first twice, then the others, of a total of 6.

    The first slice chose both of the first, each 2/6; the second chose the second item, 1/6.
    """
    penalty = penalty_of(WorstGroup(2, 0.0, 1.0), weights=tf.constant([2.0, 1.0, 1.0]))
    assert float(penalty) == pytest.approx((LN3 + np.log(6)) / 2, rel=1e-5)


def test_what_was_chosen_before_is_no_alternative_but_may_be_the_positive():
    """Without the third item 2/3 and 1/3 are left; the positives are not listed and still count."""
    listed = tf.constant([[False, True, False], [True, False, False]])
    penalty = penalty_of(WorstGroup(2, 0.0, 1.0), listed=listed)
    assert float(penalty) == pytest.approx((np.log(1.5) + LN3) / 2, rel=1e-5)


def test_a_query_of_several_slices_counts_in_each():
    """Slice 0 has both queries, (ln 2 + ln 4) / 2; slice 1 the second, ln 4."""
    slices = tf.constant([[1.0, 0.0], [1.0, 1.0]])
    penalty = penalty_of(WorstGroup(2, 0.0, 1.0), slices=slices)
    assert float(penalty) == pytest.approx((1.5 + 2) / 2 * LN2, rel=1e-5)


def test_a_query_without_a_positive_counts_nowhere():
    """A third query, of slice 1, chose nothing."""
    worst = WorstGroup(2, 1.0, 1.0)
    penalty = penalty_of(
        worst,
        tf.concat([SCORES, SCORES[:1]], axis=0),
        tf.concat([RELEVANCE, tf.zeros([1, 3])], axis=0),
        tf.constant([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]),
    )
    assert float(penalty) == pytest.approx(5 * LN2 / 3, rel=1e-5)


def test_a_slice_that_is_absent_keeps_its_weight():
    """Of three slices the first two share 2/3 as 2 to 4: 2/9 and 4/9."""
    worst = WorstGroup(3, 1.0, 1.0)
    slices = tf.concat([SLICES, tf.zeros([2, 1])], axis=1)
    penalty = penalty_of(worst, slices=slices)
    np.testing.assert_allclose(worst.slice_weights, [2 / 9, 4 / 9, 1 / 3], rtol=1e-5)
    assert float(penalty) == pytest.approx(10 * LN2 / 9, rel=1e-5)


@pytest.mark.parametrize(
    "inputs",
    [
        {"scores": SCORES[:0], "relevance": RELEVANCE[:0], "slices": SLICES[:0]},
        {"scores": SCORES[:, :0], "relevance": RELEVANCE[:, :0]},
        {"relevance": tf.zeros([2, 3])},
        {"slices": tf.zeros([2, 2])},
    ],
    ids=["no query", "no item", "no positive", "no slice"],
)
def test_where_there_is_nothing_to_weigh_it_is_zero_and_weights_stay(inputs):
    worst = WorstGroup(2, 1.0, 1.0)
    scores = inputs.pop("scores", SCORES)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        penalty = penalty_of(worst, scores, **inputs)
    assert float(penalty) == 0
    assert np.isfinite(tape.gradient(penalty, scores).numpy()).all()
    np.testing.assert_allclose(worst.slice_weights, [0.5, 0.5], rtol=1e-6)


@pytest.mark.parametrize("row", [0, 1, 2])
def test_a_score_that_is_nan_makes_the_penalty_nan_and_leaves_the_weights(row):
    """Also in a query without a positive, and at a candidate that is not listed."""
    scores = np.zeros((3, 3), np.float32)
    scores[row, 2] = np.nan
    worst = WorstGroup(2, 1.0, 1.0)
    listed = tf.constant([[True, True, False]] * 3)
    relevance = tf.concat([RELEVANCE, tf.zeros([1, 3])], axis=0)
    slices = tf.gather(SLICES, [0, 1, 1])
    penalty = penalty_of(worst, tf.constant(scores), relevance, slices, listed=listed)
    assert np.isnan(float(penalty))
    assert np.isfinite(worst.slice_weights.numpy()).all()


def test_a_weight_that_was_hardly_anything_grows_again():
    """Five steps for the one, 500 ln 2 nats apart, then five for the other."""
    worst = WorstGroup(2, step_size=100.0, temperature=1.0)
    for relevance in (RELEVANCE, RELEVANCE[::-1]):
        for _ in range(5):
            penalty_of(worst, relevance=relevance)
    np.testing.assert_allclose(worst.slice_weights, [0.5, 0.5], atol=1e-2)


@given(seed=st.integers(0, 2**32 - 1), num_slices=st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_weights_sum_to_one_and_order_does_not_matter(seed, num_slices):
    rng = np.random.default_rng(seed)
    inputs = {
        "scores": rng.normal(size=(6, 5)),
        "relevance": (rng.random((6, 5)) < 0.3) * 1.0,
        "slices": (rng.random((6, num_slices)) < 0.5) * 1.0,
    }
    one, other = (WorstGroup(num_slices, 0.5, 1.0) for _ in range(2))
    first = penalty_of(one, **inputs)
    queries, items, columns = (rng.permutation(n) for n in (6, 5, num_slices))
    second = penalty_of(
        other,
        inputs["scores"][queries][:, items],
        inputs["relevance"][queries][:, items],
        inputs["slices"][queries][:, columns],
    )
    assert float(first) == pytest.approx(float(second), abs=1e-6)
    assert float(first) >= 0
    np.testing.assert_allclose(one.slice_weights.numpy()[columns], other.slice_weights, atol=1e-6)
    assert tf.reduce_sum(one.slice_weights).numpy() == pytest.approx(1, abs=1e-5)


def test_it_is_zero_only_where_every_positive_is_certain():
    """100 apart, the softmax of the positive is 1 in float32; where it is not, there is a loss."""
    worst = WorstGroup(2, 1.0, 1.0)
    assert float(penalty_of(worst, 100 * RELEVANCE)) == pytest.approx(0, abs=1e-6)
    assert float(penalty_of(worst, 100 * RELEVANCE[::-1])) > 10


def test_gradient_is_that_of_the_losses_under_fixed_weights():
    """With a step of 0 nothing moves between the evaluations of finite differences."""
    rng = np.random.default_rng(0)
    worst = WorstGroup(2, step_size=0.0, temperature=0.5)
    worst._log_weights.assign(tf.math.log([0.2, 0.8]))
    relevance = (rng.random((6, 5)) < 0.3) * 1.0
    more = {"weights": rng.uniform(1, 3, 5), "listed": rng.random((6, 5)) < 0.8}
    slices = np.eye(2)[rng.integers(0, 2, 6)]
    theirs, numeric = tf.test.compute_gradient(
        lambda scores: penalty_of(worst, scores, relevance, slices, **more),
        [tf.constant(rng.normal(size=(6, 5)))],
        delta=1e-5,
    )
    np.testing.assert_allclose(theirs[0], numeric[0], atol=1e-7)
    assert np.abs(theirs[0]).max() > 1e-2


def descend(worst: WorstGroup, slices: tf.Tensor) -> np.ndarray:
    """Losses of two slices of users after training scores that all users share.

    Eight users choose item 0, the easy slice; one chooses item 1 and one item 2, the hard one.
    """
    scores = tf.Variable(tf.zeros([1, 3]))
    relevance = tf.gather(tf.eye(3), [0] * 8 + [1, 2])

    @tf.function
    def train():
        for _ in tf.range(3000):
            with tf.GradientTape() as tape:
                penalty = penalty_of(worst, tf.tile(scores, [10, 1]), relevance, slices)
            scores.assign_sub(0.1 * tape.gradient(penalty, scores))

    train()
    loss = -tf.nn.log_softmax(scores)[0].numpy()
    return np.array([loss[0], (loss[1] + loss[2]) / 2])


def test_the_worst_slice_is_better_off_than_under_the_average_loss():
    """The average over users makes the softmax 0.8, 0.1, 0.1: losses 0.223 and ln 10 = 2.303.

    With probability p of item 0 the slices have the losses -ln p and -ln((1 - p) / 2). Their
    maximum is least where they are equal, at p = 1/3: ln 3 = 1.099 for both.
    """
    of_user = tf.gather(SLICES, [0] * 8 + [1] * 2)
    average = descend(WorstGroup(1, 0.0, 1.0), tf.ones([10, 1]))
    np.testing.assert_allclose(average, [-np.log(0.8), np.log(10)], atol=0.01)
    worst = WorstGroup(2, 0.02, 1.0)
    np.testing.assert_allclose(descend(worst, of_user), [LN3, LN3], atol=0.02)
    # At p = 1/3 the gradients of the two slices cancel if the hard one has the weight 2/3.
    np.testing.assert_allclose(worst.slice_weights, [1 / 3, 2 / 3], atol=0.02)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_weights_move_inside_tf_function_with_and_without_xla(jit_compile):
    worst = WorstGroup(2, 1.0, 1.0)
    candidates = ScoredCandidates(
        SCORES, MEMBERSHIP, tf.ones(3), slices=SLICES, relevance=RELEVANCE
    )
    compiled = tf.function(worst.penalty, jit_compile=jit_compile)
    assert float(compiled(candidates)) == pytest.approx(5 * LN2 / 3, rel=1e-5)
    penalty = compiled(candidates)
    assert (penalty.dtype, penalty.shape) == (tf.float32, [])
    assert float(penalty) == pytest.approx(9 * LN2 / 5, rel=1e-5)


def test_shapes_may_be_unknown_until_the_graph_runs():
    worst, matrix = WorstGroup(2, 1.0, 1.0), tf.TensorSpec([None, None], tf.float32)

    @tf.function(input_signature=[matrix] * 4)
    def compiled(scores, membership, slices, relevance):
        return worst(scores, membership, slices=slices, relevance=relevance)

    penalty = compiled(SCORES, MEMBERSHIP, SLICES, RELEVANCE)
    assert float(penalty) == pytest.approx(5 * LN2 / 3, rel=1e-5)


class TheirModel(tf.keras.Model):
    """A Keras model that knows nothing of this package but one of its losses."""

    def __init__(self):
        super().__init__()
        initializer = tf.keras.initializers.GlorotUniform(seed=0)
        self.items = tf.keras.layers.Dense(3, kernel_initializer=initializer)
        self.worst = WorstGroup(2)

    def call(self, inputs):
        scores = self.items(inputs)
        self.add_loss(self.worst(scores, MEMBERSHIP, relevance=RELEVANCE, slices=SLICES))
        return scores


def test_a_fit_step_of_a_keras_model_uses_it_and_its_checkpoint_stores_the_weights(tmp_path):
    model = TheirModel()
    model.compile(optimizer=tf.keras.optimizers.SGD(0.01), run_eagerly=True)
    queries = tf.random.stateless_normal([2, 4], seed=[1, 2])
    model.items.build([None, 4])
    before = model.items.kernel.numpy()
    losses = model.fit(queries, batch_size=2, epochs=5, shuffle=False, verbose=0).history["loss"]
    assert (model.items.kernel.numpy() != before).any()
    assert losses[-1] < losses[0]
    assert len(model.trainable_variables) == 2
    path = tf.train.Checkpoint(model=model).save(str(tmp_path / "checkpoint"))
    restored = TheirModel()
    tf.train.Checkpoint(model=restored).restore(path).expect_partial()
    weights = model.worst.slice_weights.numpy()
    assert weights[0] != weights[1]
    np.testing.assert_array_equal(restored.worst.slice_weights, weights)


def test_weights_are_logged_by_the_number_of_the_slice(tmp_path):
    worst = WorstGroup(2, 1.0, 1.0, labels=["all"])
    with tf.summary.create_file_writer(str(tmp_path)).as_default(step=0):
        penalty_of(worst)
        penalty_of(worst)
    logged = [
        (value.tag, float(tf.make_ndarray(value.tensor)))
        for path in tmp_path.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    ]
    weights = [(tag, weight) for tag, weight in logged if "/weight/" in tag]
    assert [tag for tag, _ in weights] == ["worst_group/weight/0", "worst_group/weight/1"] * 2
    # Before each step: equal, then what the first step made of them.
    np.testing.assert_allclose([w for _, w in weights], [1 / 2, 1 / 2, 1 / 3, 2 / 3], rtol=1e-5)
    assert "worst_group/candidates/all" in dict(logged)


def test_examples_in_the_docstrings_hold():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for example in finder.find(worst_group, globs=vars(worst_group).copy()):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0


def test_a_config_makes_an_equal_regularizer():
    config = WorstGroup(3, step_size=0.1, temperature=0.5).get_config()
    assert config == {"labels": None, "num_slices": 3, "step_size": 0.1, "temperature": 0.5}
    assert fairness_losses.get("worst_group", **config).get_config() == config


@pytest.mark.parametrize("field", ["slices", "relevance"])
def test_slices_and_relevance_are_needed(field):
    inputs = {"slices": SLICES, "relevance": RELEVANCE, field: None}
    with pytest.raises(ValueError, match=rf"`worst_group` needs `{field}`"):
        WorstGroup(2)(SCORES, MEMBERSHIP, **inputs)


def test_slices_are_as_many_as_announced():
    with pytest.raises(ValueError, match=r"`slices` should have 3 columns.*Received: 2\."):
        penalty_of(WorstGroup(3))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_slices": 0}, r"`num_slices` should be at least 1\. Received: 0\."),
        ({"step_size": -0.1}, r"`step_size` should be a float.*Received: -0\.1\."),
        ({"step_size": float("nan")}, r"`step_size` should be a float.*Received: nan\."),
        ({"step_size": float("inf")}, r"`step_size` should be a float.*Received: inf\."),
        ({"temperature": 0.0}, r"`temperature` should be a positive float\. Received: 0\.0\."),
        ({"temperature": float("nan")}, r"`temperature` should be a positive.*Received: nan\."),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ValueError, match=message):
        WorstGroup(**{"num_slices": 2, **arguments})
