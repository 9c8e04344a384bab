"""Exact search: the best items of the whole catalogue, without sorting all of it."""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf

_GROUP = 8
"""Items whose best score stands for them in the first round."""

_LANES = 8
"""Groups that interleave, so that their maxima are taken eight at a time."""


class ExactSearch:
    """Finds the items with the highest inner products, exactly, in two rounds.

    The best `k` items are in the `k` groups whose best items score highest, so only these groups
    are looked into: of a million items that leaves 125,000 best ones of groups and, for `k = 100`,
    800 items to choose from. Equal scores would leave it open which group is meant; a query where
    they occur among its best is searched once more in full.

    Args:
        candidate: float32 `[num_items, dim]`.
        k: Length of the lists, from 1 to `num_items`.
    """

    def __init__(self, candidate: np.ndarray, k: int) -> None:
        self._k = k
        num_padding = -len(candidate) % (_GROUP * _LANES)
        padded = tf.pad(tf.constant(candidate, tf.float32), [[0, num_padding], [0, 0]])
        self._transposed = tf.transpose(padded)
        self._searches = _compiled(*candidate.shape, k)
        # With few groups the first round would leave most of them.
        self._has_rounds = len(candidate) > 4 * _GROUP * k

    def __call__(self, query: np.ndarray, excluded: np.ndarray) -> np.ndarray:
        """Returns the best items of some queries.

        Args:
            query: float32 `[num_queries, dim]`.
            excluded: int `[n, 2]`, pairs of a query and an item that its list leaves out,
                ascending.

        Returns:
            int32 `[num_queries, k]`, best first, ties by item; -1 where fewer than `k` are left.
        """
        excluded = excluded.astype(np.int32)
        in_rounds, in_full = self._searches
        if not self._has_rounds:
            return self._listed(*in_full(query, excluded, self._transposed))
        found = in_rounds(query, excluded, self._transposed)
        values, rows = (part.numpy() for part in found)
        lists = self._listed(values, rows)
        unsure = np.flatnonzero((values[:, 1:] == values[:, :-1]).any(axis=1))
        if len(unsure):
            position = np.full(len(query), -1, np.int32)
            position[unsure] = np.arange(len(unsure))
            pairs = np.stack([position[excluded[:, 0]], excluded[:, 1]], axis=1)
            pairs = pairs[pairs[:, 0] >= 0]
            lists[unsure] = self._listed(*in_full(query[unsure], pairs, self._transposed))
        return lists

    def _listed(self, values: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.where(np.isneginf(values), -1, rows)[:, : self._k]


@functools.lru_cache(maxsize=16)
def _compiled(num_items: int, dim: int, k: int) -> tuple[Callable, Callable]:
    """Both searches, traced once for a shape: training searches anew every few steps."""
    num_padded = num_items + -num_items % (_GROUP * _LANES)
    signature = [
        tf.TensorSpec([None, dim], tf.float32),
        tf.TensorSpec([None, 2], tf.int32),
        tf.TensorSpec([dim, num_padded], tf.float32),
    ]

    def scores(query: tf.Tensor, excluded: tf.Tensor, transposed: tf.Tensor) -> tf.Tensor:
        """Float `[num_queries, num_padded]`, minus infinity for what is left out."""
        queries, padding = tf.range(tf.shape(query)[0]), tf.range(num_items, num_padded)
        for_all = tf.stack(tf.meshgrid(queries, padding, indexing="ij"), axis=-1)
        pairs = tf.concat([excluded, tf.reshape(for_all, [-1, 2])], axis=0)
        nothing = tf.fill([tf.shape(pairs)[0]], np.float32(-np.inf))
        return tf.tensor_scatter_nd_update(tf.matmul(query, transposed), pairs, nothing)

    @tf.function(input_signature=signature)
    def in_rounds(
        query: tf.Tensor, excluded: tf.Tensor, transposed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One more item than asked for, so that a tie with the last one shows."""
        found, size = scores(query, excluded, transposed), tf.shape(query)[0]
        grouped = tf.reshape(found, [size, -1, _GROUP, _LANES])
        maxima = tf.reshape(tf.reduce_max(grouped, axis=2), [size, -1])
        _, groups = tf.math.top_k(maxima, k + 1, sorted=False)
        first = groups // _LANES * (_GROUP * _LANES) + groups % _LANES
        rows = first[:, :, tf.newaxis] + tf.range(0, _GROUP * _LANES, _LANES)
        rows = tf.reshape(rows, [size, (k + 1) * _GROUP])
        # A `gather` with `batch_dims` is several times slower.
        places = rows + (tf.range(size) * num_padded)[:, tf.newaxis]
        looked_into = tf.gather(tf.reshape(found, [-1]), places)
        values, positions = tf.math.top_k(looked_into, k + 1)
        return values, tf.gather(rows, positions, batch_dims=1)

    @tf.function(input_signature=signature)
    def in_full(
        query: tf.Tensor, excluded: tf.Tensor, transposed: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return tf.math.top_k(scores(query, excluded, transposed), k)

    return in_rounds, in_full
