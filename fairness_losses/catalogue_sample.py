"""Samples of the catalogue in which every group is present.

The candidates of a training batch are as popular as the log made them, so exposure measured among
them is not exposure in the catalogue. Regularizers therefore compare each query with a sample of
the catalogue, stratified by group so that a small group is always there, and weighted back.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from fairness_losses.groups import Groups


class StratifiedSample:
    """Draws items, some of every group, with the number of items that each stands for.

    Half of the draws are spread evenly over the groups and half in proportion to their sizes. A
    group no larger than its draws is taken whole, the others with replacement. For any function f
    of an item, `sum(weights * f(rows))` has the expectation `sum of f over the catalogue`
    (Horvitz and Thompson, JASA 1952).

    Of a catalogue that is taken whole (`is_whole`) the rows are in order, 0, 1, 2 and so on.

    An item of several groups is drawn with the one it belongs to most.

    Attributes:
        size: Number of draws.
        weights: float32 `[size]`, how many items each draw stands for.
        expected_draws: float32 `[num_items]`, how often each item of the catalogue is drawn on
            average, the reciprocal of the weight that it has then.
        is_whole: Whether every item is drawn once, without chance.

    Args:
        groups: Groups of the catalogue.
        size: Number of draws, more only where every group would not get its one draw otherwise;
            a catalogue of at most this size is taken whole, without chance.
        seed: Of the draws.
    """

    def __init__(self, groups: Groups, size: int, seed: int) -> None:
        stratum = groups.codes
        items = np.bincount(stratum, minlength=len(groups.labels))
        draws = _allocate(items, size)
        first = np.cumsum(items) - items
        of_draw = np.repeat(np.arange(len(items)), draws)
        self._rows_by_stratum = tf.constant(np.argsort(stratum, kind="stable"), tf.int32)
        self._first = tf.constant(first[of_draw], tf.int32)
        self._items = tf.constant(items[of_draw], tf.int32)
        self._position = tf.constant(np.concatenate([np.arange(d) for d in draws]), tf.int32)
        self._whole = tf.constant((draws == items)[of_draw])
        self._seed = seed
        self.is_whole = bool((draws == items).all())
        self.weights = tf.constant((items / np.maximum(draws, 1))[of_draw], tf.float32)
        self.expected_draws = (draws / np.maximum(items, 1)).astype(np.float32)[stratum]
        self.size = int(draws.sum())

    def rows(self, step: tf.Tensor) -> tf.Tensor:
        """Returns the items drawn for a step.

        Args:
            step: int scalar; the same step draws the same items.

        Returns:
            int32 `[size]`, rows of the catalogue. `weights`, float32 `[size]`, says how many items
            each stands for and does not depend on the step.
        """
        if self.is_whole:
            return tf.range(self.size)
        seed = tf.stack([tf.constant(self._seed, tf.int64), tf.cast(step, tf.int64)])
        uniform = tf.random.stateless_uniform([self.size], seed)
        drawn = tf.cast(uniform * tf.cast(self._items, tf.float32), tf.int32)
        # A uniform number close to 1 times a large count can round up to the count itself.
        drawn = tf.minimum(drawn, self._items - 1)
        position = tf.where(self._whole, self._position, drawn)
        return tf.gather(self._rows_by_stratum, self._first + position)


def _allocate(items: np.ndarray, size: int) -> np.ndarray:
    """Draws per stratum: what a stratum cannot use goes to those that can, at least one each."""
    if items.sum() <= size:
        return items
    draws = np.zeros_like(items)
    open_strata = items > 0
    while open_strata.any():
        left = size - draws[~open_strata].sum()
        even = open_strata / open_strata.sum()
        proportional = np.where(open_strata, items, 0) / items[open_strata].sum()
        share = left * (even + proportional) / 2
        wanted = np.maximum(1, share.astype(int))
        full = open_strata & (wanted >= items)
        if not full.any():
            draws = np.where(open_strata, wanted, draws)
            # What rounding down left over goes where it cut off most.
            cut_off = np.where(open_strata, share - wanted, -np.inf)
            draws[np.argsort(-cut_off, kind="stable")[: max(0, size - draws.sum())]] += 1
            return draws
        draws = np.where(full, items, draws)
        open_strata &= ~full
    return draws
