"""Dropout that continues where a checkpoint left it."""

import numpy as np
import pytest
import tensorflow as tf

from towers.dropout import Dropout


@pytest.fixture(autouse=True)
def _seed():
    tf.keras.utils.set_random_seed(1)


def test_float_values_are_dropped_and_the_others_scaled_so_that_the_mean_stays():
    """A quarter of 40,000 ones is dropped, and the others are 4/3: the mean is 1 +- 0.003."""
    values = Dropout(0.25)(tf.ones([40_000]), training=True).numpy()
    np.testing.assert_allclose(np.unique(values), [0, 4 / 3], rtol=1e-6)
    assert values.mean() == pytest.approx(1, abs=0.015)


def test_integers_are_replaced_by_what_stands_for_nothing():
    values = Dropout(0.5).replace(tf.fill([10, 100], 7), 1, training=True).numpy()
    assert values.shape == (10, 100)
    assert set(np.unique(values)) == {1, 7}


@pytest.mark.parametrize("training", [False, None])
def test_outside_training_nothing_is_dropped(training):
    np.testing.assert_array_equal(Dropout(0.9)(tf.ones([100]), training), np.ones(100))


def test_a_rate_of_0_drops_nothing_and_has_no_state():
    dropout = Dropout(0.0)
    np.testing.assert_array_equal(dropout(tf.ones([100]), training=True), np.ones(100))
    assert tf.train.Checkpoint(dropout=dropout).save_counter is not None
    assert not hasattr(dropout._generator, "state")


def test_a_seed_fixes_what_is_dropped_and_two_layers_drop_differently():
    first, second = Dropout(0.5), Dropout(0.5)
    drawn = first(tf.ones([100]), training=True).numpy()
    assert (drawn != second(tf.ones([100]), training=True).numpy()).any()
    tf.keras.utils.set_random_seed(1)
    np.testing.assert_array_equal(Dropout(0.5)(tf.ones([100]), training=True), drawn)


def test_a_restored_checkpoint_goes_on_with_the_draws_that_would_have_come(tmp_path):
    """Inside a graph, as in training; the layer belongs to a Keras layer, as in a tower."""

    class Layer(tf.keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.dropout = Dropout(0.5)

        @tf.function
        def draw(self):
            return self.dropout(tf.ones([100]), training=True)

    layer = Layer()
    layer.draw()
    path = tf.train.Checkpoint(model=layer).write(str(tmp_path / "checkpoint"))
    expected = [layer.draw().numpy() for _ in range(2)]
    assert (expected[0] != expected[1]).any()

    resumed = Layer()
    tf.train.Checkpoint(model=resumed).read(path).assert_consumed()
    for draw in expected:
        np.testing.assert_array_equal(resumed.draw(), draw)
