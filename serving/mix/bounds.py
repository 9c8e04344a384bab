"""How many items of each group a list may hold."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

_ROUNDING = 1e-6
"""So much is a number of items above a whole one without being above it."""


class Bounds(NamedTuple):
    """Fewest and most items per group.

    Attributes:
        lower: int32 `[num_queries, num_groups]`.
        upper: int32 `[num_queries, num_groups]`, not below `lower`.
    """

    lower: tf.Tensor
    upper: tf.Tensor


def quota_bounds(shares: tf.Tensor, tolerance: tf.Tensor, places: tf.Tensor) -> Bounds:
    """Whole numbers of items whose share of the places is within a tolerance of the target.

    For n places, target share p and tolerance t these are ceil(n (p - t)) to floor(n (p + t)).
    Where no whole number, or only one, is so near, the two next to n p are allowed as well: so
    the lower bounds of all groups never sum to more than n, nor the upper ones to less, and a list
    that keeps them exists whatever the targets.

    Args:
        shares: float64 `[num_queries, num_groups]`, rows sum to 1 (or 0: no group has a target).
        tolerance: float64 `[num_queries]`.
        places: int32 `[num_queries]`, n.
    """
    number = tf.cast(places, tf.float64)[:, tf.newaxis]
    target, slack = number * shares, number * tolerance[:, tf.newaxis]
    lower = tf.minimum(tf.math.ceil(target - slack - _ROUNDING), tf.math.floor(target + _ROUNDING))
    upper = tf.maximum(tf.math.floor(target + slack + _ROUNDING), tf.math.ceil(target - _ROUNDING))
    return Bounds(
        tf.cast(tf.maximum(lower, 0.0), tf.int32), tf.cast(tf.minimum(upper, number), tf.int32)
    )


def rescaled(shares: tf.Tensor, allowed: tf.Tensor) -> tf.Tensor:
    """Target shares among the groups that a request allows, in the same proportions.

    Args:
        shares: float64 `[num_queries, num_groups]`.
        allowed: bool `[num_queries, num_groups]`.

    Returns:
        float64 `[num_queries, num_groups]`; rows sum to 1, or to 0 where no group with a target is
        allowed.
    """
    shares = tf.where(allowed, shares, tf.zeros_like(shares))
    return tf.math.divide_no_nan(shares, tf.reduce_sum(shares, axis=1, keepdims=True))
