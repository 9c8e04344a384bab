"""A memory of the candidates of recent batches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf


class Remembered(NamedTuple):
    """What a memory holds, `size` candidates.

    Attributes:
        embedding: float32 `[size, dim]`, vectors as they were when they were pushed. No gradient
            goes back through them.
        rows: int32 `[size]`, rows of the catalogue, -1 in a place that is still empty.
        weights: float32 `[size]`, how many items of the catalogue each candidate stands for, 0 in
            a place that is still empty.
    """

    embedding: tf.Tensor
    rows: tf.Tensor
    weights: tf.Tensor


class CandidateMemory(tf.Module):
    """The latest candidates of past batches, as negatives or as a sample of the catalogue.

    Vectors change little from one step to the next, so those of past batches serve as well as
    new ones and cost no tower. They are as popular as the log made them: with the
    probability `q_j` that a draw of the log is item j, and `n` candidates held, each has the weight

        w_j = 1 / (n * q_j),

    so that for any function f of an item `sum(weights * f(rows))` has the expectation
    `sum of f over the catalogue` (Horvitz and Thompson, JASA 1952), as far as vectors are not out
    of date. The weight of a rare item is large, and a memory much smaller than the catalogue is a
    noisy sample of its rare groups: prefer a `StratifiedSample` where exposure is measured.

    Source: Wang et al., "Cross-Batch Negative Sampling for Training Two-Tower Recommenders",
    SIGIR 2021, section 3, who push the candidates of every batch into a queue in the same way;
    they begin after some steps, when vectors have become steadier.

    The memory is saved in checkpoints of whatever holds it.

    Args:
        size: Candidates that it holds, the oldest being replaced first.
        dim: Length of the vectors.
        probability: `[num_items]`, with which a draw of the log is each item of the catalogue;
            positive.
    """

    def __init__(self, size: int, dim: int, probability: np.ndarray) -> None:
        super().__init__(name="candidate_memory")
        if size < 1:
            raise ValueError(f"`size` should be at least 1. Received: {size}.")
        if dim < 1:
            raise ValueError(f"`dim` should be at least 1. Received: {dim}.")
        if not (np.asarray(probability) > 0).all():
            raise ValueError("`probability` should be positive for every item.")
        self.size = size
        self._probability = tf.constant(probability, tf.float32)
        self._embedding = _state(np.zeros((size, dim), np.float32))
        self._rows = _state(np.full(size, -1, np.int32))
        self._pushed = _state(np.int64(0))

    @property
    def filled(self) -> tf.Tensor:
        """Candidates held so far, int32 scalar."""
        return tf.cast(tf.minimum(self._pushed, self.size), tf.int32)

    def push(self, embedding: tf.Tensor, rows: tf.Tensor) -> None:
        """Remembers the candidates of a batch, of which the last `size`.

        An item that occurs in the batch repeatedly has to be pushed as often: the weights count on
        candidates being draws of the log.

        Args:
            embedding: float `[batch, dim]`.
            rows: int `[batch]`, rows of the catalogue.
        """
        embedding, rows = embedding[-self.size :], rows[-self.size :]
        new = tf.cast(tf.size(rows), tf.int64)
        places = (self._pushed + tf.range(new))[:, tf.newaxis] % self.size
        for held, pushed in ((self._embedding, embedding), (self._rows, rows)):
            # Variables of a `tf.distribute` strategy cannot be updated in part.
            pushed = tf.cast(tf.stop_gradient(pushed), held.dtype)
            held.assign(tf.tensor_scatter_nd_update(held, places, pushed))
        self._pushed.assign_add(new)

    def candidates(self) -> Remembered:
        """Returns what is held."""
        rows = tf.convert_to_tensor(self._rows)
        expected = tf.gather(self._probability, tf.maximum(rows, 0)) * tf.cast(
            self.filled, tf.float32
        )
        weights = tf.where(rows >= 0, tf.math.reciprocal_no_nan(expected), 0.0)
        return Remembered(tf.convert_to_tensor(self._embedding), rows, weights)


def _state(initial: np.ndarray | np.int64) -> tf.Variable:
    """A variable that every replica of a `tf.distribute` strategy has for itself."""
    return tf.Variable(
        initial,
        trainable=False,
        synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )
