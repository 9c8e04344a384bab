"""The memory of recent candidates: a ring, weighted so that sums are those of the catalogue."""

import numpy as np
import pytest
import tensorflow as tf

from fairness_losses.candidate_memory import CandidateMemory

PROBABILITY = np.array([0.5, 0.25, 0.125, 0.125])


def memory(size: int = 4) -> CandidateMemory:
    return CandidateMemory(size, 2, PROBABILITY)


def vectors(*values: float) -> tf.Tensor:
    return tf.stack([tf.constant(values), -tf.constant(values)], axis=1)


def test_an_empty_memory_has_no_weight():
    held = memory().candidates()
    np.testing.assert_array_equal(held.rows, [-1] * 4)
    np.testing.assert_array_equal(held.weights, [0] * 4)
    np.testing.assert_array_equal(held.embedding, np.zeros((4, 2)))


def test_places_fill_one_after_the_other_and_weights_by_hand():
    """Of 3 candidates, items 0, 2 and 0: 1 / (3 * 1/2) = 2/3 and 1 / (3 * 1/8) = 8/3."""
    held = memory()
    held.push(vectors(1.0, 2.0), tf.constant([0, 2]))
    held.push(vectors(3.0), tf.constant([0]))
    found = held.candidates()
    np.testing.assert_array_equal(found.rows, [0, 2, 0, -1])
    np.testing.assert_array_equal(found.embedding[:, 0], [1, 2, 3, 0])
    np.testing.assert_allclose(found.weights, [2 / 3, 8 / 3, 2 / 3, 0], rtol=1e-6)
    assert int(held.filled) == 3


def test_the_oldest_are_replaced_first():
    held = memory()
    for value in range(6):
        held.push(vectors(float(value)), tf.constant([value % 4]))
    np.testing.assert_array_equal(held.candidates().embedding[:, 0], [4, 5, 2, 3])
    np.testing.assert_array_equal(held.candidates().rows, [0, 1, 2, 3])
    assert int(held.filled) == 4


def test_of_a_batch_larger_than_the_memory_the_last_are_kept():
    held = memory(size=3)
    held.push(vectors(9.0), tf.constant([1]))
    held.push(vectors(0.0, 1.0, 2.0, 3.0, 4.0), tf.constant([0, 1, 2, 3, 0]))
    np.testing.assert_array_equal(np.sort(held.candidates().embedding[:, 0]), [2, 3, 4])


def test_no_candidates_change_nothing():
    held = memory()
    held.push(tf.zeros([0, 2]), tf.zeros([0], tf.int32))
    assert int(held.filled) == 0


@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_works_in_a_graph_and_under_xla(jit_compile):
    held = memory()

    @tf.function(jit_compile=jit_compile)
    def step(embedding: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
        held.push(embedding, rows)
        found = held.candidates()
        return tf.reduce_sum(found.weights * found.embedding[:, 0])

    assert float(step(vectors(1.0, 2.0), tf.constant([0, 1]))) == pytest.approx(1 * 1 + 2 * 2)
    # 4 held: weights 1/2, 1, 2 and 1/2.
    expected = 0.5 * 1 + 1 * 2 + 2 * 3 + 0.5 * 4
    assert float(step(vectors(3.0, 4.0), tf.constant([2, 0]))) == pytest.approx(expected)


def test_no_gradient_goes_back_through_it():
    held, table = memory(), tf.Variable(tf.ones([2, 2]))
    with tf.GradientTape() as tape:
        held.push(table * 1.0, tf.constant([0, 1]))
        total = tf.reduce_sum(held.candidates().embedding)
    assert tape.gradient(total, table) is None
    assert held.trainable_variables == ()


def test_it_is_restored_from_a_checkpoint(tmp_path):
    held, again = memory(), memory()
    held.push(vectors(1.0, 2.0), tf.constant([3, 1]))
    path = tf.train.Checkpoint(memory=held).save(str(tmp_path / "state"))
    tf.train.Checkpoint(memory=again).restore(path).assert_consumed()
    again.push(vectors(3.0), tf.constant([0]))
    np.testing.assert_array_equal(again.candidates().rows, [3, 1, 0, -1])
    np.testing.assert_array_equal(again.candidates().embedding[:, 0], [1, 2, 3, 0])


def test_every_replica_of_a_strategy_has_its_own():
    strategy = tf.distribute.MirroredStrategy(["cpu:0"])
    with strategy.scope():
        held = memory()

    @tf.function
    def step() -> tf.Tensor:
        held.push(vectors(1.0), tf.constant([1]))
        return tf.reduce_sum(held.candidates().weights)

    assert float(strategy.run(step)) == pytest.approx(4)


def test_weighted_sums_are_unbiased_overall_and_per_group():
    """By simulation: 4000 memories of 50 draws, against 4 standard errors.

    A sum over a group of the catalogue is the mean of weighted sums over memories.
    """
    rng = np.random.default_rng(0)
    probability = 1 / np.arange(1, 41)
    probability /= probability.sum()
    group = np.eye(3)[np.repeat([0, 1, 2], [5, 15, 20])]
    value = rng.lognormal(size=40)
    held = CandidateMemory(50, 1, probability)
    drawn = tf.constant(rng.choice(40, (4000, 50), p=probability), tf.int32)

    @tf.function
    def weights(rows: tf.Tensor) -> tf.Tensor:
        held.push(tf.zeros([50, 1]), rows)
        return held.candidates().weights

    weight = np.stack([weights(rows).numpy() for rows in drawn])
    estimates = np.einsum("sd,sdg->sg", weight * value[drawn], group[drawn])
    error = estimates.std(axis=0) / np.sqrt(len(estimates))
    truth = value @ group
    assert (np.abs(estimates.mean(axis=0) - truth) <= 4 * error).all()
    # Without the weights the popular group would have far too much, and the last far too little.
    unweighted = (value[drawn][:, :, None] * group[drawn]).sum(axis=1).mean(axis=0) * 40 / 50
    assert (np.abs(unweighted - truth) > 20 * error)[[0, 2]].all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 2, PROBABILITY), r"`size` should be at least 1\. Received: 0\."),
        ((4, 0, PROBABILITY), r"`dim` should be at least 1\. Received: 0\."),
        ((4, 2, np.array([0.5, 0.0])), "`probability` should be positive for every item"),
        ((4, 2, np.array([0.5, np.nan])), "`probability` should be positive for every item"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CandidateMemory(*arguments)
