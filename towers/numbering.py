"""Strings to the small integers that embeddings are stored under."""

from __future__ import annotations

import abc
from collections.abc import Sequence

import tensorflow as tf

PADDING = 0
"""Number of "no value", written "" in raw columns."""

UNSEEN = 1
"""Number shared by all values that did not occur in training."""

_FIRST = 2
# Any fixed key will do; it is what numbers in a trained model mean, so it may never change.
_HASH_KEY = [0x66616972, 0x746F7765]


class Numbering(tf.Module, abc.ABC):
    """Numbers strings: `PADDING`, `UNSEEN`, and every other number from 2 on below `size`.

    Attributes:
        size: Numbers there are, with those of padding and of unseen values.
    """

    size: int

    @abc.abstractmethod
    def __call__(self, strings: tf.Tensor) -> tf.Tensor:
        """Returns int32 of the same shape."""


class Vocabulary(Numbering):
    """A number for each value seen in training.

    Keras' StringLookup refuses an empty vocabulary, and takes an id `[UNK]` for its own token.

    Args:
        values: Distinct values other than "".
    """

    def __init__(self, values: Sequence[str]) -> None:
        super().__init__()
        self.size = _FIRST + len(values)
        keys = tf.constant(["", *values])
        numbers = tf.constant([PADDING, *range(_FIRST, self.size)])
        self._table = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(keys, numbers), default_value=UNSEEN
        )

    def __call__(self, strings: tf.Tensor) -> tf.Tensor:
        """Returns int32 of the same shape."""
        return self._table.lookup(strings)


class HashBins(Numbering):
    """A number for each bin of a strong hash (SipHash), which no choice of ids can overfill.

    Nothing is ever unseen: a new value has the number of the values it shares its bin with.

    Args:
        bins: Number of bins, at least 2.
    """

    def __init__(self, bins: int) -> None:
        super().__init__()
        self.size = _FIRST + bins
        self._bins = bins

    def __call__(self, strings: tf.Tensor) -> tf.Tensor:
        """Returns int32 of the same shape."""
        bins = tf.strings.to_hash_bucket_strong(strings, self._bins, _HASH_KEY)
        return tf.where(strings == "", PADDING, _FIRST + tf.cast(bins, tf.int32))
