"""Lazy Adam: Adam on the rows that occur, nothing on the others."""

import numpy as np
import pytest
import tensorflow as tf

from towers.config import IdFeature, TowersConfig
from towers.features import FeatureStatistics, build_feature
from towers.fused import fused_by_xla
from towers.lazy_adam import LazyAdam
from towers.tower import Tower

ADAM = tf.keras.optimizers.Adam
START = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)


def sparse(rows, values) -> tf.IndexedSlices:
    values = tf.constant(np.asarray(values, np.float32))
    return tf.IndexedSlices(values, tf.constant(rows), tf.constant([6, 3]))


def trained(optimizer, gradients, in_graph: bool = False) -> np.ndarray:
    """The table after a step for each gradient."""
    table = tf.Variable(START)
    optimizer.build([table])
    for gradient in gradients:
        apply = lambda g: optimizer.apply_gradients([(g, table)])  # noqa: E731
        (tf.function(apply) if in_graph else apply)(gradient)
    return table.numpy()


def random_gradients(steps: int, rows) -> list[tf.IndexedSlices]:
    rng = np.random.default_rng(1)
    return [sparse(rows, rng.normal(size=(len(rows), 3))) for _ in range(steps)]


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("rows", [range(6), [5, 3, 3, 0, 1, 2, 4, 4, 4]])
def test_it_is_adam_where_every_row_occurs(rows, in_graph):
    gradients = random_gradients(7, list(rows))
    expected = trained(ADAM(0.05), gradients)
    np.testing.assert_allclose(
        trained(LazyAdam(0.05), gradients, in_graph), expected, rtol=1e-5, atol=1e-6
    )


def test_it_is_adam_for_dense_gradients():
    gradients = [tf.constant(START * scale) for scale in (1.0, -2.0, 0.3)]
    np.testing.assert_array_equal(
        trained(LazyAdam(0.05), gradients), trained(ADAM(0.05), gradients)
    )


def test_the_first_step_by_hand():
    """Gradients 3 and -1 of row 2 add up to 2: m = 0.2, v = 0.004, bias corrections 0.1 and 0.001.

    The change is 0.5 * (0.2 / 0.1) / sqrt(0.004 / 0.001) = 0.5, the learning rate.
    """
    table = trained(LazyAdam(0.5), [sparse([2, 2], [[3.0] * 3, [-1.0] * 3])])
    np.testing.assert_allclose(table[2], START[2] - 0.5, rtol=1e-5)
    np.testing.assert_array_equal(np.delete(table, 2, 0), np.delete(START, 2, 0))


def test_rows_that_do_not_occur_are_left_alone_with_their_moments():
    """Adam would move row 0 in the second step, too, by its momentum."""
    optimizer = LazyAdam(0.05)
    first, second = sparse([0], [[1.0] * 3]), sparse([4], [[1.0] * 3])
    table = tf.Variable(START)
    optimizer.build([table])
    optimizer.apply_gradients([(first, table)])
    after_first = table.numpy()
    moments = [m.numpy()[0] for m in (optimizer._momentums[0], optimizer._velocities[0])]
    optimizer.apply_gradients([(second, table)])
    np.testing.assert_array_equal(table[0], after_first[0])
    np.testing.assert_array_equal(optimizer._momentums[0][0], moments[0])
    np.testing.assert_array_equal(optimizer._velocities[0][0], moments[1])
    assert (trained(ADAM(0.05), [first, second])[0] != trained(ADAM(0.05), [first])[0]).any()


def test_an_absent_row_goes_on_where_it_stopped_by_hand():
    """Row 0 has the gradient 1 in steps 1 and 3: m = 0.1 then 0.19, v = 0.001 then 0.001999.

    Step 3 moves it by rate * (0.19 / (1 - 0.9^3)) / sqrt(0.001999 / (1 - 0.999^3)) = 0.859 * rate.
    """
    once, other = sparse([0], [[1.0] * 3]), sparse([1], [[1.0] * 3])
    table = trained(LazyAdam(0.05), [once, other, once])
    last = 0.05 * (0.19 / (1 - 0.9**3)) / np.sqrt(0.001999 / (1 - 0.999**3))
    np.testing.assert_allclose(table[0], START[0] - 0.05 - last, rtol=1e-4)


def test_a_step_costs_the_same_whatever_the_size_of_the_table():
    """No operation of the step has an output of the size of the table."""
    optimizer, table = LazyAdam(), tf.Variable(tf.zeros([5000, 3]))
    optimizer.build([table])

    @tf.function
    def step(values: tf.Tensor) -> None:
        optimizer.apply_gradients([(tf.IndexedSlices(values, tf.constant([7, 9])), table)])

    operations = step.get_concrete_function(tf.TensorSpec([2, 3])).graph.get_operations()
    shapes = [output.shape for op in operations for output in op.outputs]
    assert not any(shape.rank and 5000 in shape.as_list() for shape in shapes)


def test_gradients_of_embeddings_stay_sparse_through_a_tower():
    statistics = FeatureStatistics(vocabulary=["a", "b", "c"])
    feature = build_feature(IdFeature(kind="id", column="item_id"), statistics, 4)
    tower = Tower([feature], TowersConfig(dim=4), "tower")
    loss = fused_by_xla(lambda parts: tf.reduce_sum(parts[0] ** 3))
    with tf.GradientTape() as tape:
        value = loss([tower({"item_id": tf.constant([2, 4])})])
    (gradient,) = tape.gradient(value, tower.trainable_variables)
    assert isinstance(gradient, tf.IndexedSlices)
    np.testing.assert_array_equal(gradient.indices, [2, 4])


def test_it_is_saved_and_made_again_from_its_settings():
    optimizer = LazyAdam(0.02, beta_1=0.8, epsilon=1e-5)
    config = tf.keras.optimizers.serialize(optimizer)
    again = tf.keras.optimizers.deserialize(config)
    assert isinstance(again, LazyAdam)
    assert again.get_config() == optimizer.get_config()


def test_moments_are_restored_from_a_checkpoint(tmp_path):
    gradients = random_gradients(4, [0, 2, 2])
    table, optimizer = tf.Variable(START), LazyAdam(0.05)
    optimizer.build([table])
    for gradient in gradients[:2]:
        optimizer.apply_gradients([(gradient, table)])
    path = tf.train.Checkpoint(table=table, optimizer=optimizer).save(str(tmp_path / "state"))
    resumed, new = tf.Variable(START), LazyAdam(0.05)
    new.build([resumed])
    tf.train.Checkpoint(table=resumed, optimizer=new).restore(path).assert_consumed()
    for gradient in gradients[2:]:
        new.apply_gradients([(gradient, resumed)])
    np.testing.assert_array_equal(resumed, trained(LazyAdam(0.05), gradients))


@pytest.mark.parametrize("argument", [{"weight_decay": 0.1}, {"amsgrad": True}])
def test_what_looks_at_every_row_is_refused(argument):
    with pytest.raises(ValueError, match=f"`{next(iter(argument))}` is not for a lazy optimizer"):
        LazyAdam(**argument)
