"""The examples of the documentation run as they stand, in a plain Keras model of somebody else."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

import fairness_losses

ROOT = pathlib.Path(__file__).resolve().parents[2]
GUIDE = (ROOT / "docs" / "regularizers.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", GUIDE, flags=re.DOTALL)


class SomebodysModel(tf.keras.Model):
    """Matrix factorisation with squared loss."""

    def __init__(self) -> None:
        super().__init__()
        self.users = tf.keras.layers.Embedding(8, 4)
        self.items = tf.keras.layers.Embedding(150, 4)

    def call(self, users: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        embeddings = self.items(tf.range(150))
        return tf.matmul(self.users(users), embeddings, transpose_b=True), embeddings


def test_every_regularizer_has_an_example():
    shown = re.findall(r'fairness_losses\.get\("(\w+)"', "".join(EXAMPLES))
    assert sorted(shown) == fairness_losses.available()


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_trains_a_model_of_somebody_else(example):
    tf.keras.utils.set_random_seed(0)
    model, users = SomebodysModel(), tf.range(8)
    make, use = example.split("\n", 1)
    place = {
        "fairness_losses": fairness_losses,
        "membership": tf.one_hot(tf.range(150) % 3 // 2, 2),
        "slices": tf.one_hot(users % 2, 2),
        "relevance": tf.cast(tf.random.uniform([8, 150]) < 0.1, tf.float32),
        "frequency": tf.range(150, dtype=tf.float32),
        "exposure_of_exact_lists": np.array([[1.0, 9.0], [2.0, 8.0]]),
    }
    exec(make, place)
    with tf.GradientTape() as tape:
        place["scores"], place["embeddings"] = model(users)
        place["loss"] = tf.reduce_mean(tf.square(place["scores"] - place["relevance"]))
        exec(use, place)
    loss = place["loss"]
    gradients = tape.gradient(loss, model.trainable_variables)
    assert np.isfinite(float(loss))
    assert len(gradients) == 2
    for gradient in gradients:
        dense = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(dense).all()
        assert (dense != 0).any()
