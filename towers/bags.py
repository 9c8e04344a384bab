"""Bags of values: categories and words, their embeddings averaged."""

from __future__ import annotations

import tensorflow as tf

from towers.feature_layer import FeatureLayer, embedding_table
from towers.numbering import PADDING, Numbering


class BagLayer(FeatureLayer):
    """The mean embedding of a bag of values; `[batch, values]` integers to `[batch, dim]`."""

    def __init__(self, column: str, size: int, dim: int) -> None:
        super().__init__(column)
        self._embedding = embedding_table(size, dim, "values")

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        """Averages the embeddings of the integers that are not `PADDING`; zeros if none is."""
        present = tf.cast(inputs != PADDING, self.compute_dtype)[..., tf.newaxis]
        total = tf.reduce_sum(self._embedding(inputs) * present, axis=1)
        return tf.math.divide_no_nan(total, tf.reduce_sum(present, axis=1))


class CategoricalLayer(BagLayer):
    """The mean embedding of a row's categories; `[batch, values]` string, padded with ""."""

    raw_spec = tf.TensorSpec([None, None], tf.string)
    example_spec = tf.io.RaggedFeature(tf.string)

    def __init__(self, column: str, numbering: Numbering, dim: int) -> None:
        super().__init__(column, numbering.size, dim)
        self._numbering = numbering

    def lookup(self, raw: tf.Tensor) -> tf.Tensor:
        """Returns int32 `[batch, values]`: 0 padding, 1 not seen in training."""
        return self._numbering(raw)


class TextLayer(BagLayer):
    """The mean embedding of hashed word n-grams; `[batch]` string.

    Args:
        column: Name of the raw column.
        bins: Number of hash bins.
        max_words: Words beyond this number are left out.
        ngrams: Sequences of up to so many words have an embedding each.
        dim: Dimension of the embeddings.
    """

    raw_spec = tf.TensorSpec([None], tf.string)
    example_spec = tf.io.FixedLenFeature([], tf.string, default_value="")

    def __init__(self, column: str, bins: int, max_words: int, ngrams: int, dim: int) -> None:
        super().__init__(column, bins + 1, dim)
        self._bins = bins
        self._max_words = max_words
        self._widths = tuple(range(1, min(ngrams, max_words) + 1))

    def lookup(self, raw: tf.Tensor) -> tf.Tensor:
        """Returns int32 `[batch, n]`: 0 padding, else 1 + the n-gram's hash bin.

        `n` is the number of n-grams of `max_words` words: 4 + 3 for 4 words and `ngrams=2`.
        """
        letters = tf.strings.regex_replace(tf.strings.lower(raw, "utf-8"), r"[\pP\pS\s]+", " ")
        words = tf.strings.split(tf.strings.strip(letters))[:, : self._max_words]
        bins = tf.ragged.map_flat_values(
            lambda ngram: tf.cast(tf.strings.to_hash_bucket_fast(ngram, self._bins), tf.int32) + 1,
            tf.strings.ngrams(words, self._widths),
        )
        most = sum(self._max_words + 1 - width for width in self._widths)
        return bins.to_tensor(PADDING, shape=[None, most])
