"""What every feature of a tower is."""

from __future__ import annotations

import abc

import tensorflow as tf


class FeatureLayer(tf.keras.layers.Layer, abc.ABC):
    """One feature of a tower.

    Attributes:
        column: Name of the raw column.
        raw_spec: Shape (with the batch dimension) and dtype of the raw column.
        example_spec: How the column is parsed from a `tf.Example`; None if examples leave it out,
            since it is looked up in the table of users.
    """

    raw_spec: tf.TensorSpec
    example_spec: tf.io.FixedLenFeature | tf.io.RaggedFeature | None

    def __init__(self, column: str) -> None:
        super().__init__(name=column)
        self.column = column

    @abc.abstractmethod
    def lookup(self, raw: tf.Tensor) -> tf.Tensor:
        """Turns a raw column into integers or floats, rank 1 or 2."""


def embedding_table(size: int, dim: int, name: str) -> tf.keras.layers.Embedding:
    """Returns `size` embeddings, float32 `[size, dim]`, all of them there at once.

    Args:
        size: Number of embeddings.
        dim: Dimension of each.
        name: Name of the layer.
    """
    initializer = tf.keras.initializers.RandomNormal(stddev=0.05)
    table = tf.keras.layers.Embedding(size, dim, embeddings_initializer=initializer, name=name)
    table.build(None)
    return table
