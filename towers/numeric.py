"""Numbers and dense vectors as features."""

from __future__ import annotations

import tensorflow as tf

from towers.feature_layer import FeatureLayer


class NumericLayer(FeatureLayer):
    """A normalised number; `[batch]` float32 to `[batch, 1]`."""

    raw_spec = tf.TensorSpec([None], tf.float32)
    example_spec = tf.io.FixedLenFeature([], tf.float32)

    def __init__(self, column: str, mean: float, variance: float) -> None:
        super().__init__(column)
        self._mean = mean
        # What was constant in the statistics has no scale of its own.
        self._scale = variance**-0.5 if variance > 0 else 1.0

    def lookup(self, raw: tf.Tensor) -> tf.Tensor:
        """Returns float32 `[batch]` with mean 0 and variance 1 over the statistics' rows."""
        return (tf.cast(raw, tf.float32) - self._mean) * self._scale

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Makes a column of it."""
        return inputs[:, tf.newaxis]


class VectorLayer(FeatureLayer):
    """A dense vector, projected linearly; `[batch, length]` float32 to `[batch, dim]`."""

    def __init__(self, column: str, length: int, normalize: bool, dim: int) -> None:
        super().__init__(column)
        self.raw_spec = tf.TensorSpec([None, length], tf.float32)
        self.example_spec = tf.io.FixedLenFeature([length], tf.float32)
        self._normalize = normalize
        self._projection = tf.keras.layers.Dense(dim, name="projection")

    def lookup(self, raw: tf.Tensor) -> tf.Tensor:
        """Returns the vectors, float32, of length 1 if `normalize`; zeros stay zeros."""
        vectors = tf.cast(raw, tf.float32)
        return tf.math.l2_normalize(vectors, axis=1) if self._normalize else vectors

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Projects them."""
        return self._projection(inputs)
