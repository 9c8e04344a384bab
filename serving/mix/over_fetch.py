"""Candidates of one index, as many as it takes."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from serving.mix.pools import GroupIndex, Wanted, join
from serving.mix.selection import count_groups
from serving.search import NO_ITEM, Search

_MORE = 8
"""Factor by which more is fetched where it was not enough."""


class OverFetchPool(tf.Module):
    """More candidates of one index than a list has places, until its bounds can be kept.

    The best D candidates hold the best list as soon as they hold the `fewest` of every group, and k
    that are allowed: what is not among them scores no higher than what is. So D grows until that
    is so, at last to the catalogue. Groups that have an index of their own are filled from that
    instead (strategy `hybrid`).
    """

    def __init__(
        self,
        search: Search,
        codes: np.ndarray,
        num_groups: int,
        k: int,
        first: int,
        indexes: Mapping[int, GroupIndex] | None = None,
        price_unit: float | None = None,
    ) -> None:
        """Initialises the pool.

        Args:
            search: Over the catalogue.
            codes: Group of every item, int `[num_items]`.
            num_groups: Number of groups.
            k: Length of the lists.
            first: Candidates that are fetched at first.
            indexes: Of the groups that the one index comes short of, by their number.
            price_unit: What the columns hold that `serving.mix.steering.with_groups` has added to
                the items' vectors, so that the bonus is searched with; None if there are none.
        """
        super().__init__()
        self._search = search
        self._codes = tf.constant(np.append(-1, codes), tf.int32)
        self._sizes = np.bincount(codes, minlength=num_groups).astype(np.int32)
        self._k = k
        self._own_groups = list(indexes or {})
        self._own_indexes = list((indexes or {}).values())
        self._price_unit = price_unit
        num_items = len(codes)
        self._levels = [min(first, num_items)]
        while self._levels[-1] < num_items:
            self._levels.append(min(self._levels[-1] * _MORE, num_items))

    def __call__(self, queries: tf.Tensor, wanted: Wanted) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Pool`."""
        asked = queries
        if self._price_unit is not None:
            asked = tf.concat([queries, wanted.bonus / self._price_unit], axis=1)
        available = self._available(wanted)
        own = [g in self._own_groups for g in range(len(self._sizes))]
        # What a group's own index can give need not be among what the one index has found.
        given = tf.where(own, tf.minimum(np.asarray(wanted.depths, np.int32), available), 0)
        rows, scores = self._fetch(asked, wanted, available, given, self._levels)
        if self._price_unit is not None:
            codes = self._codes_of(rows)
            bonus = tf.gather(wanted.bonus, tf.maximum(codes, 0), batch_dims=1)
            scores = tf.where(codes >= 0, scores - bonus, scores)
        return self._with_own(queries, wanted, rows, scores, available)

    def _fetch(
        self,
        asked: tf.Tensor,
        wanted: Wanted,
        available: tf.Tensor,
        given: tf.Tensor,
        levels: list[int],
    ) -> tuple[tf.Tensor, tf.Tensor]:
        rows, scores = self._search(asked, levels[0], wanted.excluded)
        if len(levels) == 1:
            return rows, scores
        there = tf.maximum(self._count(rows, wanted), given)
        is_enough = tf.reduce_all(there >= tf.minimum(wanted.fewest, available)) & tf.reduce_all(
            tf.reduce_sum(there, 1) >= tf.minimum(tf.reduce_sum(available, 1), self._k)
        )
        return tf.cond(
            is_enough,
            lambda: (_free(rows), _free(scores)),
            lambda: _freed(self._fetch(asked, wanted, available, given, levels[1:])),
        )

    def _with_own(
        self,
        queries: tf.Tensor,
        wanted: Wanted,
        rows: tf.Tensor,
        scores: tf.Tensor,
        available: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Replaces what was found of groups that came short by what their own indexes find."""
        if not self._own_groups:
            return rows, scores
        there = self._count(rows, wanted)
        is_short = tf.reduce_sum(there, 1) < self._k
        fewest = tf.where(is_short[:, tf.newaxis], self._k, wanted.fewest)
        lacks = tf.reduce_any(there < tf.minimum(fewest, available), axis=0)
        found = []
        for group, index in zip(self._own_groups, self._own_indexes, strict=True):
            depth = wanted.depths[group]

            def search(index: GroupIndex = index, depth: int = depth) -> tuple:
                return index(queries, depth, wanted.excluded)

            def skip(width: int = min(depth, index.size)) -> tuple:
                shape = [tf.shape(queries)[0], width]
                return tf.fill(shape, NO_ITEM), tf.fill(shape, -float("inf"))

            found.append(_freed(tf.cond(lacks[group], search, skip)))
            is_replaced = lacks[group] & (self._codes_of(rows) == group)
            rows = tf.where(is_replaced, NO_ITEM, rows)
            scores = tf.where(is_replaced, -float("inf"), scores)
        return join([(rows, scores), *found])

    def _codes_of(self, rows: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._codes, rows + 1)  # `NO_ITEM` is -1.

    def _count(self, rows: tf.Tensor, wanted: Wanted) -> tf.Tensor:
        count = count_groups(self._codes_of(rows), len(self._sizes))
        return tf.where(wanted.allowed, count, 0)

    def _available(self, wanted: Wanted) -> tf.Tensor:
        """Items per allowed group that are not excluded, int32 `[num_queries, num_groups]`."""
        excluded = tf.sort(wanted.excluded, axis=1)
        before = tf.pad(excluded[:, :-1], [[0, 0], [1, 0]], constant_values=NO_ITEM)
        once = tf.where(excluded == before[:, : tf.shape(excluded)[1]], NO_ITEM, excluded)
        hidden = count_groups(self._codes_of(once), len(self._sizes))
        return tf.where(wanted.allowed, self._sizes - hidden, 0)


def _free(tensor: tf.Tensor) -> tf.Tensor:
    """Of no known width, as both branches of a condition should be."""
    return tf.ensure_shape(tf.identity(tensor), [None, None])


def _freed(pair: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
    return _free(pair[0]), _free(pair[1])
