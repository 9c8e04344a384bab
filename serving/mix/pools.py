"""Where the candidates of a list come from, before its mix is decided."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from serving.search import NO_ITEM, ExactSearch, Search, without_hidden


class Wanted(NamedTuple):
    """What a pool should hold.

    Attributes:
        depths: Items of every group that are certainly enough, `[num_groups]`.
        fewest: int32 `[num_queries, num_groups]`; so many of the best of every group a list may
            need, whatever else is found.
        is_bounded: Whether lists have bounds; without any, the best k of the allowed groups by
            score plus bonus are enough.
        allowed: bool `[num_queries, num_groups]`, groups that may be on the list.
        bonus: float32 `[num_queries, num_groups]`, added to the scores of a group's items.
        excluded: int32 `[num_queries, num_excluded]`, rows that are left out, or `NO_ITEM`.
    """

    depths: tuple[int, ...]
    fewest: tf.Tensor
    is_bounded: bool
    allowed: tf.Tensor
    bonus: tf.Tensor
    excluded: tf.Tensor


class Pool(Protocol):
    """Finds candidates enough for the best list within bounds."""

    def __call__(self, queries: tf.Tensor, wanted: Wanted) -> tuple[tf.Tensor, tf.Tensor]:
        """Finds candidates.

        Args:
            queries: float32 `[num_queries, dim]`.
            wanted: What is needed of which group.

        Returns:
            Rows, int32 `[num_queries, num_candidates]`, each once, and dot products, float32, of
            the same shape; `NO_ITEM` and -inf where there is none. In no order, at least k.
        """


class ExactPool(tf.Module):
    """The best of every group, of all items. Core TF ops only."""

    def __init__(self, search: ExactSearch, codes: np.ndarray, num_groups: int, k: int) -> None:
        """Initialises the pool.

        Args:
            search: Over the catalogue.
            codes: Group of every item, int `[num_items]`.
            num_groups: Number of groups.
            k: Length of the lists.
        """
        super().__init__()
        self._search, self._k = search, k
        self._codes = tf.constant(codes, tf.int32)
        self._rows = [tf.constant(np.flatnonzero(codes == g), tf.int32) for g in range(num_groups)]

    def __call__(self, queries: tf.Tensor, wanted: Wanted) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Pool`."""
        scores = self._search.scores(queries, wanted.excluded)
        if not wanted.is_bounded:
            bonus = tf.where(wanted.allowed, wanted.bonus, -float("inf"))
            raised = scores + tf.gather(bonus, self._codes, axis=1)
            best, rows = tf.math.top_k(raised, self._k)
            found_scores = tf.gather(scores, rows, batch_dims=1)
            return tf.where(best > -float("inf"), rows, NO_ITEM), found_scores
        found = []
        for rows, depth in zip(self._rows, wanted.depths, strict=True):
            best = tf.math.top_k(tf.gather(scores, rows, axis=1), min(depth, len(rows)))
            found.append((without_hidden(tf.gather(rows, best.indices), best.values), best.values))
        return join(found)


class GroupIndex(tf.Module):
    """The index of one group, which knows its items by their rows in the catalogue."""

    def __init__(self, search: Search, rows: np.ndarray, num_items: int) -> None:
        """Initialises the index.

        Args:
            search: Over the group's items.
            rows: Their rows in the catalogue, int `[size]`.
            num_items: Size of the catalogue.
        """
        super().__init__()
        self._search = search
        self.size = len(rows)
        # `NO_ITEM` is -1: each row is looked up one place further on, after that of none.
        self._row_of = tf.constant(np.append(NO_ITEM, rows), tf.int32)
        inverse = np.full(num_items + 1, NO_ITEM, np.int32)
        inverse[rows + 1] = np.arange(len(rows))
        self._own_row_of = tf.constant(inverse)

    def __call__(
        self, queries: tf.Tensor, depth: int, excluded: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns rows of the catalogue and scores, both `[num_queries, min(depth, size)]`."""
        if excluded.shape[1] != 0:
            excluded = tf.gather(self._own_row_of, excluded + 1)
        rows, scores = self._search(queries, min(depth, self.size), excluded)
        return tf.gather(self._row_of, rows + 1), scores


class BucketPool(tf.Module):
    """The best of every group, each from an index of its own."""

    def __init__(self, indexes: Mapping[int, GroupIndex]) -> None:
        """Initialises the pool.

        Args:
            indexes: Of every group, by its number.
        """
        super().__init__()
        self._indexes = [indexes[group] for group in sorted(indexes)]

    def __call__(self, queries: tf.Tensor, wanted: Wanted) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Pool`."""
        pairs = zip(self._indexes, wanted.depths, strict=True)
        return join([index(queries, depth, wanted.excluded) for index, depth in pairs])


def join(found: list[tuple[tf.Tensor, tf.Tensor]]) -> tuple[tf.Tensor, tf.Tensor]:
    """Puts rows and scores of several searches side by side."""
    rows, scores = (tf.concat(parts, axis=1) for parts in zip(*found, strict=True))
    return rows, scores
