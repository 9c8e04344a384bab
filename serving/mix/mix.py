"""The candidate mix as one TensorFlow module: queries and controls in, lists out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from serving.mix.bounds import Bounds, quota_bounds, rescaled
from serving.mix.config import PolicyConfig
from serving.mix.dpp import select_diverse
from serving.mix.ordering import order_by_prefix, order_by_turns
from serving.mix.pools import Pool, Wanted
from serving.mix.prefix import minimum_tables
from serving.mix.selection import ranks_in_group, select
from serving.mix.steering import Prices
from serving.mix.targets import Targets
from serving.search import NO_ITEM, Search

_MORE_TO_CHOOSE_FROM = 4
"""Candidates per place of a group that `dpp` chooses among."""


class Controls(NamedTuple):
    """What a request says besides its features.

    Attributes:
        row: int32 `[num_queries]`, the policy row.
        excluded: int32 `[num_queries, num_excluded]`, rows of the catalogue, or `NO_ITEM`.
        bonus: float32 `[num_queries, num_groups]`, added to the scores of a group's items; -inf
            leaves the group out; None for no bonus.
    """

    row: tf.Tensor
    excluded: tf.Tensor
    bonus: tf.Tensor | None


class CandidateMix(tf.Module):
    """Makes lists under one policy.

    Every policy is, per query, fewest and most items per group and a bonus per group: `relevance`
    bounds nothing, `quota` bounds the groups with a target, `steered` bounds nothing and has prices
    for its bonus. Lists are the best within the bounds by score plus bonus.

    Bounds of a quota count the places of groups with a target. `unknown` has none: it keeps as many
    of the k places as it has among the k best candidates, and the others are divided.
    """

    def __init__(
        self,
        policy: PolicyConfig,
        targets: Targets,
        search: Search,
        pool: Pool,
        k: int,
        prices: Prices | None = None,
        vectors: tf.Variable | None = None,
    ) -> None:
        """Initialises the mix.

        Args:
            policy: How lists are made.
            targets: Of the groups of the catalogue.
            search: For lists by score alone.
            pool: Of candidates for all other lists.
            k: Length of the lists, at most the size of the catalogue.
            prices: For `steered`.
            vectors: For `diversify: dpp`, float32 `[num_items, dim]`.
        """
        super().__init__()
        self._policy, self._k = policy, k
        self._search, self._pool = search, pool
        self._codes = tf.constant(np.append(-1, targets.codes), tf.int32)
        self._shares = tf.constant(targets.shares, tf.float64)
        self._tolerance = tf.constant(targets.tolerance, tf.float64)
        self._sizes = np.bincount(targets.codes, minlength=len(targets.labels))
        self._has_target = (targets.shares > 0).any(axis=0)
        places = tf.fill([len(targets.shares)], k)
        # Of every policy row, for lists all places of which are for groups with a target.
        self._of_row = Bounds(
            *(b.numpy() for b in quota_bounds(targets.shares, targets.tolerance, places))
        )
        self._minimum = None
        if policy.prefix != "none":
            self._minimum = tf.constant(minimum_tables(policy, targets.shares, k))
        self._depths = self._enough_of_every_group(targets)
        self.prices, self._vectors = prices, vectors

    @property
    def k(self) -> int:
        """Length of the lists."""
        return self._k

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return len(self._sizes)

    @property
    def depths(self) -> tuple[int, ...]:
        """Items of every group that are enough for lists without controls."""
        return self._depths

    @property
    def names(self) -> list[str]:
        """What the lists of every policy row are called: `quota`, `quota/1`, ..."""
        kind = self._policy.kind
        return [kind, *(f"{kind}/{row}" for row in range(1, self._shares.shape[0]))]

    def codes_of(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the groups of rows of the catalogue, int32; -1 for `NO_ITEM`."""
        return tf.gather(self._codes, rows + 1)  # `NO_ITEM` is -1.

    def by_relevance(self, queries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The k highest scores, whatever the policy.

        Args:
            queries: float32 `[num_queries, dim]`.

        Returns:
            Rows, int32 `[num_queries, k]`, and dot products, float32 `[num_queries, k]`; `NO_ITEM`
            and -inf where the catalogue has no more.
        """
        if self.prices is not None:
            queries = tf.pad(queries, [[0, 0], [0, self.num_groups]])
        return self._search(queries, self._k, tf.zeros([tf.shape(queries)[0], 0], tf.int32))

    def by_policy(self, queries: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The lists of the default policy row; as `by_relevance`."""
        if self._policy.kind == "relevance":
            return self.by_relevance(queries)
        num_queries = tf.shape(queries)[0]
        nothing = Controls(
            tf.zeros([num_queries], tf.int32),
            tf.zeros([num_queries, 0], tf.int32),
            None,
        )
        return self._mix(queries, nothing, self._depths)

    def controlled(self, queries: tf.Tensor, controls: Controls) -> tuple[tf.Tensor, tf.Tensor]:
        """The lists that requests ask for; as `by_relevance`.

        A list is full whenever the catalogue has k items of the allowed groups that are not
        excluded. Targets are in the same proportions among the allowed groups; minimums of prefixes
        stay as they are, which is less than they would be in these proportions.
        """
        return self._mix(queries, controls, (self._k * self._more,) * self.num_groups)

    def _mix(
        self, queries: tf.Tensor, controls: Controls, depths: tuple[int, ...]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        shares = tf.gather(self._shares, controls.row)
        bonus = tf.zeros_like(shares, tf.float32)
        allowed = tf.ones_like(shares, tf.bool)
        if controls.bonus is not None:
            allowed = controls.bonus > -float("inf")
            bonus = tf.where(allowed, controls.bonus, 0.0)
            shares = rescaled(shares, allowed)
        if self.prices is not None:
            bonus += self.prices.of(controls.row)
        fewest = self._fewest(controls, shares, allowed, bonus)
        is_bounded = self._policy.kind == "quota"
        wanted = Wanted(depths, fewest, is_bounded, allowed, bonus, controls.excluded)
        rows, scores = self._pool(queries, wanted)
        if controls.bonus is None and self.prices is None:
            rows, scores, ranking = self._by_score(rows, scores)
        else:
            rows, scores, ranking = self._by_score_and_bonus(rows, scores, allowed, bonus)
        codes = self.codes_of(rows)
        order = self._choose(rows, ranking, codes, shares, controls, allowed, depths)
        return tf.gather(rows, order, batch_dims=1), tf.gather(scores, order, batch_dims=1)

    def _by_score(
        self, rows: tf.Tensor, scores: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Orders candidates by score, equal ones by their rows, and pads them to k."""
        if rows.shape[1] is None or rows.shape[1] < self._k:
            missing = tf.maximum(self._k - tf.shape(rows)[1], 0)
            rows = tf.pad(rows, [[0, 0], [0, missing]], constant_values=NO_ITEM)
            scores = tf.pad(scores, [[0, 0], [0, missing]], constant_values=-float("inf"))
        by_row = tf.argsort(rows, axis=1)
        rows, scores = (tf.gather(t, by_row, batch_dims=1) for t in (rows, scores))
        scores, order = tf.math.top_k(scores, tf.shape(scores)[1])
        return tf.gather(rows, order, batch_dims=1), scores, scores

    def _by_score_and_bonus(
        self, rows: tf.Tensor, scores: tf.Tensor, allowed: tf.Tensor, bonus: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The same with a bonus, and without what is not allowed."""
        codes = self.codes_of(rows)
        is_in = (codes >= 0) & tf.gather(allowed, tf.maximum(codes, 0), batch_dims=1)
        rows = tf.where(is_in, rows, NO_ITEM)
        scores = tf.where(is_in, scores, -float("inf"))
        of_group = tf.gather(bonus, tf.maximum(codes, 0), batch_dims=1)
        rows, ranking, _ = self._by_score(rows, scores + of_group)
        # The bonus is taken off again: what is returned are dot products.
        of_group = tf.gather(bonus, tf.maximum(self.codes_of(rows), 0), batch_dims=1)
        return rows, ranking - of_group, ranking

    def _choose(
        self,
        rows: tf.Tensor,
        ranking: tf.Tensor,
        codes: tf.Tensor,
        shares: tf.Tensor,
        controls: Controls,
        allowed: tf.Tensor,
        depths: tuple[int, ...],
    ) -> tf.Tensor:
        """Positions of the list's items among the candidates, in the list's order."""
        if self._policy.kind != "quota":
            return tf.tile(tf.range(self._k)[tf.newaxis], [tf.shape(codes)[0], 1])
        places = self._places(codes)
        minimum = self._minimum_of(controls.row, places, allowed)
        bounds = self._bounds(shares, controls, places, minimum)
        if self._vectors is not None:
            is_near = ranks_in_group(codes, self.num_groups) < tf.gather(
                tf.constant(depths), tf.maximum(codes, 0)
            )
            near = tf.where(is_near, codes, -1)
            vectors = tf.gather(self._vectors, tf.maximum(rows, 0))
            return select_diverse(ranking, near, vectors, bounds, self._k, self._policy.theta)
        chosen = select(codes, bounds, self._k)
        codes = tf.gather(codes, chosen, batch_dims=1)
        if minimum is not None:
            order = order_by_prefix(codes, minimum)
        elif self._policy.diversify == "round_robin":
            order = order_by_turns(codes, self.num_groups)
        else:
            return chosen
        return tf.gather(chosen, order, batch_dims=1)

    def _places(self, codes: tf.Tensor) -> tf.Tensor:
        """Places for groups with a target, int32 `[num_queries]`."""
        if self._has_target.all():
            return tf.fill([tf.shape(codes)[0]], self._k)
        unknown = len(self._has_target) - 1
        best = codes[:, : self._k]
        return self._k - tf.math.count_nonzero(best == unknown, axis=1, dtype=tf.int32)

    def _bounds(
        self, shares: tf.Tensor, controls: Controls, places: tf.Tensor, minimum: tf.Tensor | None
    ) -> Bounds:
        if controls.bonus is None and self._has_target.all():
            lower, upper = (tf.gather(bound, controls.row) for bound in self._of_row)
        else:
            tolerance = tf.gather(self._tolerance, controls.row)
            lower, upper = quota_bounds(shares, tolerance, places)
        if minimum is not None:
            lower = tf.maximum(lower, minimum[:, -1])
        if self._has_target.all():
            return Bounds(lower, upper)
        kept = (self._k - places)[:, tf.newaxis]
        return Bounds(
            tf.where(self._has_target, lower, kept), tf.where(self._has_target, upper, kept)
        )

    def _minimum_of(
        self, row: tf.Tensor, places: tf.Tensor, allowed: tf.Tensor
    ) -> tf.Tensor | None:
        """Fewest items in every prefix, int32 `[num_queries, k + 1, num_groups]`.

        Of the first i of k places, n of which are for groups with a target, floor(i n / k) count.
        """
        if self._minimum is None:
            return None
        counted = tf.range(self._k + 1) * places[:, tf.newaxis] // self._k
        minimum = tf.gather(tf.gather(self._minimum, row), counted, batch_dims=1)
        return tf.where(allowed[:, tf.newaxis], minimum, 0)

    def _fewest(
        self, controls: Controls, shares: tf.Tensor, allowed: tf.Tensor, bonus: tf.Tensor
    ) -> tf.Tensor:
        """How many of the best of every group the pool has to hold."""
        places = tf.fill([tf.shape(allowed)[0]], self._k)
        fewest = tf.zeros_like(allowed, tf.int32)
        if self._policy.kind == "quota":
            lower, _ = quota_bounds(shares, tf.gather(self._tolerance, controls.row), places)
            if self._minimum is not None:
                lower = tf.maximum(lower, tf.gather(self._minimum[:, -1], controls.row))
            fewest = tf.where(allowed, lower * self._more, 0)
        if self.prices is None and controls.bonus is not None:
            # The index does not know the bonus: it is on the safe side with k of every group.
            low = tf.reduce_min(tf.where(allowed, bonus, float("inf")), axis=1)
            high = tf.reduce_max(tf.where(allowed, bonus, -float("inf")), axis=1)
            fewest = tf.where((low < high)[:, tf.newaxis] & allowed, self._k, fewest)
        return fewest

    @property
    def _more(self) -> int:
        return _MORE_TO_CHOOSE_FROM if self._policy.diversify == "dpp" else 1

    def _enough_of_every_group(self, targets: Targets) -> tuple[int, ...]:
        """The most that a list without controls can hold of every group."""
        k, most = self._k, np.full(len(self._sizes), self._k)
        if self._policy.kind == "quota" and self._has_target.all():
            most = self._of_row.upper.max(axis=0)
            if np.minimum(most, self._sizes).sum() < k:
                most = np.full(len(most), k)
        return tuple(int(n) * self._more for n in most)
