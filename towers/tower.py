"""One tower: the features of one side to a vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from towers.config import TowersConfig
from towers.dropout import Dropout
from towers.feature_layer import embedding_table
from towers.features import (
    FeatureLayer,
    HistoryLayer,
    NumericLayer,
    item_ids,
    lookup_columns,
)


class HiddenLayer(tf.keras.layers.Layer):
    """Affine map, layer norm if wanted, activation, dropout; `[batch, n]` to `[batch, size]`.

    Args:
        size: Units; by default those of the input, which are then shifted but not mixed.
        config: What they are like.
    """

    def __init__(self, size: int | None, config: TowersConfig) -> None:
        super().__init__()
        self._dense = tf.keras.layers.Dense(size) if size else Shift()
        self._norm = tf.keras.layers.LayerNormalization() if config.layer_norm else None
        self._activation = tf.keras.activations.get(config.activation)
        self._dropout = Dropout(config.dropout)

    def call(self, inputs: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """See the class."""
        units = self._dense(inputs)
        if self._norm is not None:
            units = self._norm(units)
        return self._dropout(self._activation(units), training)


class Shift(tf.keras.layers.Layer):
    """Adds a learned constant to every unit; `[batch, n]` to `[batch, n]`."""

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the constants."""
        self._shift = self.add_weight(name="shift", shape=[input_shape[-1]], initializer="zeros")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """See the class."""
        return inputs + self._shift


class Tower(tf.keras.layers.Layer):
    """Concatenated features, hidden layers, vector.

    A single feature whose embedding already has the tower's dimension, with no hidden layers, is
    the vector itself: plain matrix factorisation.

    With `bias` the last component of a query is the constant 1, so that the last component of a
    candidate is added to all its scores: `<q, c> + b`, within the inner product of any index.

    Args:
        features: Features of the side.
        config: Shape of the tower.
        name: Name of the layer.
        side: Which of the two towers it is; needed for a `bias`.
    """

    def __init__(
        self,
        features: Sequence[FeatureLayer],
        config: TowersConfig,
        name: str,
        side: Literal["query", "candidate"] | None = None,
    ) -> None:
        super().__init__(name=name)
        if config.bias and side is None:
            raise ValueError("`side` should be `query` or `candidate`, as `bias` is set.")
        self.features = list(features)
        is_vector = (
            not config.hidden and len(self.features) == 1 and _gives(features[0], config.dim)
        )
        sizes = [None] if config.activate_features and not is_vector else []
        self._hidden = [HiddenLayer(size, config) for size in [*sizes, *config.hidden]]
        self._projection = None if is_vector else tf.keras.layers.Dense(config.dim)
        self._dropout = Dropout(config.vector_dropout if side == "query" else 0.0)
        self._unit_norm = config.unit_norm
        self._ends_with_one = config.bias and side == "query"
        self._biased = item_ids(self.features) if config.bias and side == "candidate" else None
        if self._biased is not None:
            self._bias = embedding_table(self._biased.numbering.size, 1, "bias")

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool | None = None) -> tf.Tensor:
        """Encodes looked-up columns.

        Args:
            inputs: One tensor per feature, as `FeatureLayer.lookup` returns it, `[batch]` or
                `[batch, values]`.
            training: Whether ids, items and hidden units are dropped out, where they are to be.

        Returns:
            float32 `[batch, dim]` whatever the precision inside, of length 1 if `unit_norm`.
        """
        # Keras hands `training` on to the layers that take it.
        parts = [layer(inputs[layer.column]) for layer in self.features]
        vectors = parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)
        for layer in self._hidden:
            vectors = layer(vectors)
        if self._projection is not None:
            vectors = self._projection(vectors)
        vectors = self._dropout(tf.cast(vectors, tf.float32), training)
        if self._biased is not None:
            bias = tf.cast(self._bias(inputs[self._biased.column]), tf.float32)
            vectors += tf.pad(bias, [[0, 0], [vectors.shape[1] - 1, 0]])
        if self._ends_with_one:
            return tf.concat([vectors[:, :-1], tf.ones_like(vectors[:, :1])], axis=1)
        return tf.math.l2_normalize(vectors, axis=1) if self._unit_norm else vectors

    def start_from_popularity(
        self, item_numbers: np.ndarray, frequency: np.ndarray, temperature: float
    ) -> None:
        """Sets the biases of items so that at first the softmax is their share of the training.

        Args:
            item_numbers: int `[num_items]`, the looked-up `item_id` of every item.
            frequency: int `[num_items]`.
            temperature: Divides the scores in the softmax.
        """
        if self._biased is not None:
            size = self._biased.numbering.size
            # Ids that share a hash bin share a bias; what is unseen counts as seen once.
            counts = np.bincount(item_numbers, frequency, minlength=size)
            share = (counts + 1) / frequency.sum()
            self._bias.set_weights([temperature * np.log(share)[:, np.newaxis]])


def _gives(feature: FeatureLayer, dim: int) -> bool:
    """Whether a feature on its own is a vector of the tower's dimension."""
    if isinstance(feature, HistoryLayer):
        return feature.embedding.output_dim == dim
    return not isinstance(feature, NumericLayer)


class ServedTower(tf.Module):
    """A tower that takes raw columns, for export: strings in, vectors out."""

    def __init__(self, tower: Tower) -> None:
        super().__init__(name=tower.name)
        self.tower = tower
        specs = {
            layer.column: tf.TensorSpec(layer.raw_spec.shape, layer.raw_spec.dtype, layer.column)
            for layer in tower.features
        }
        self.embed = tf.function(self._embed, input_signature=[specs])

    def _embed(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        columns = lookup_columns(self.tower.features, raw)
        return {"embedding": self.tower(columns, training=False)}

    def save(self, path: str) -> None:
        """Writes a SavedModel with the signature `serving_default`: raw columns -> `embedding`."""
        tf.saved_model.save(self, path, signatures={"serving_default": self.embed})
