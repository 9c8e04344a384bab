"""A catalogue in shards, whose merged lists are those of the catalogue in one piece.

Shards are ranges of rows. For exact search that is all there is to it. For ScaNN, every shard has
the tree and the codebook of the whole catalogue with the leaves, codes and vectors of its own rows;
so the leaves looked into and the scores of the codes are the same however many shards there are.
What ScaNN does within an index, choosing `reorder` candidates by the scores of their codes, is here
done over all shards together, and only then exact scores are computed. Any number of shards gives
the same lists, one included.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from serving.scann_state import State, as_module, take_rows, without_vectors
from serving.search import NO_ITEM, Count, LeafSearch, Search, cleaned, search_state, without_hidden

_SPARE = 64
"""Candidates that a shard gives beyond those asked for. Codes are coarse, so several candidates may
have the last one's score; all of them have to be seen for the choice not to depend on shards."""


def shard_starts(num_items: int, shards: int) -> np.ndarray:
    """Returns the first row of each shard, and the number of items as the last entry."""
    return np.linspace(0, num_items, shards + 1).astype(np.int32)


class ShardedSearch(tf.Module):
    """Asks a search per range of rows and merges; of equal scores the lower row comes first."""

    def __init__(self, shards: Sequence[Search], starts: np.ndarray) -> None:
        """Initialises the search.

        Args:
            shards: Each over its own rows, numbered from 0.
            starts: What `shard_starts` returned.
        """
        super().__init__()
        self._shards = list(shards)
        self._starts = [int(start) for start in starts]

    def __call__(
        self, queries: tf.Tensor, k: int, excluded: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Search`."""
        answers = []
        for shard, start, end in zip(
            self._shards, self._starts[:-1], self._starts[1:], strict=True
        ):
            is_here = (excluded >= start) & (excluded < end)
            local = tf.where(is_here, excluded - start, NO_ITEM)
            rows, scores = shard(queries, tf.minimum(k, end - start), local)
            answers.append((_shift(rows, start), scores))
        rows, scores = (tf.concat(parts, axis=1) for parts in zip(*answers, strict=True))
        # Ranges follow each other, so equal scores are in the order of their rows already.
        scores, order = tf.math.top_k(scores, k)
        return tf.gather(rows, order, batch_dims=1), scores


class ShardedScannSearch(LeafSearch):
    """Approximate search in a ScaNN index that is held in shards; see the module."""

    def __init__(
        self, state: State, shards: int, leaves: int, leaves_to_search: int, reorder: int
    ) -> None:
        """Initialises the search.

        Args:
            state: The index of the whole catalogue.
            shards: Their number.
            leaves: See `LeafSearch`.
            leaves_to_search: See `LeafSearch`.
            reorder: See `LeafSearch`; over all shards together.
        """
        vectors = state["dataset"]
        super().__init__(len(vectors), leaves, leaves_to_search, reorder)
        starts = shard_starts(len(vectors), shards)
        self._starts = [int(start) for start in starts[:-1]]
        self._shards = [
            as_module(without_vectors(take_rows(state, slice(start, end))))
            for start, end in itertools.pairwise(starts)
        ]
        self._vectors = tf.Variable(vectors, trainable=False)

    def fetch(
        self, queries: tf.Tensor, wanted: Count, reorder: Count, leaves: Count
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `LeafSearch`."""
        rows = tf.sort(self._nearest_codes(queries, reorder, leaves), axis=1)
        scores = tf.linalg.matvec(tf.gather(self._vectors, tf.maximum(rows, 0)), queries)
        scores = tf.where(rows == NO_ITEM, -float("inf"), scores)
        scores, order = tf.math.top_k(scores, tf.minimum(wanted, tf.shape(rows)[1]))
        return without_hidden(tf.gather(rows, order, batch_dims=1), scores), scores

    def _nearest_codes(self, queries: tf.Tensor, number: Count, leaves: Count) -> tf.Tensor:
        """Rows of the candidates with the best codes, int32 `[num_queries, <= number]`."""

        def ask(size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            answers = [
                self._ask_shard(state, start, queries, size, leaves)
                for state, start in zip(self._shards, self._starts, strict=True)
            ]
            rows, scores = (tf.concat(parts, axis=1) for parts in zip(*answers, strict=True))
            best, order = tf.math.top_k(scores, tf.minimum(number, tf.shape(scores)[1]))
            border = best[:, -1:]
            last = tf.stack([scores[:, -1] for _, scores in answers], axis=1)
            is_settled = tf.reduce_all((last < border) | (last == -float("inf")))
            rows = tf.gather(rows, order, batch_dims=1)
            return size * 2, without_hidden(rows, best), is_settled

        any_shape = tf.TensorShape([None, None])
        _, rows, _ = tf.while_loop(
            lambda size, rows, is_settled: ~is_settled,
            lambda size, rows, is_settled: ask(size),
            ask(tf.convert_to_tensor(number) + _SPARE),
            shape_invariants=(tf.TensorShape([]), any_shape, tf.TensorShape([])),
        )
        return rows

    @staticmethod
    def _ask_shard(
        state: tf.Module, start: int, queries: tf.Tensor, size: tf.Tensor, leaves: Count
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """A shard's candidates by the scores of their codes, `[num_queries, size]`."""
        rows, scores = cleaned(*search_state(state, queries, size, size, leaves))
        padding = [[0, 0], [0, size - tf.shape(rows)[1]]]
        rows = tf.pad(_shift(rows, start), padding, constant_values=NO_ITEM)
        return rows, tf.pad(scores, padding, constant_values=-float("inf"))


def _shift(rows: tf.Tensor, start: int) -> tf.Tensor:
    return tf.where(rows == NO_ITEM, NO_ITEM, rows + start)
