"""Dropout that a resumed training continues where the checkpoint left it."""

from __future__ import annotations

import random

import tensorflow as tf


class Dropout(tf.Module):
    """Replaces values at random while training.

    Keras leaves the state of its own dropout's generator out of checkpoints, so that a resumed
    training would draw what it had drawn before. This state is saved with the model.

    Args:
        rate: Probability with which a value is replaced, in [0, 1).
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
        # `tf.keras.utils.set_random_seed` seeds Python's generator, too.
        self._generator = (
            tf.random.Generator.from_seed(random.getrandbits(63), alg="philox") if rate else None
        )

    def replace(self, values: tf.Tensor, instead: int, training: bool | None) -> tf.Tensor:
        """Returns the values, each replaced by `instead` with the probability `rate`."""
        if self._generator is None or not training:
            return values
        replaced = self._generator.uniform(tf.shape(values)) < self.rate
        return tf.where(replaced, tf.constant(instead, values.dtype), values)

    def scale(self, values: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Returns float values times `1 / (1 - rate)`, which makes up for those left out."""
        return values / (1 - self.rate) if training else values

    def __call__(self, values: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Returns float values, each 0 with the probability `rate` and the others scaled up."""
        return self.scale(self.replace(values, 0, training), training)
