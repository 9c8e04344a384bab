"""The list of the highest total score within bounds per group."""

from __future__ import annotations

import tensorflow as tf

from serving.mix.bounds import Bounds


def select(codes: tf.Tensor, bounds: Bounds, k: int) -> tf.Tensor:
    """Chooses k candidates.

    First of all the `lower` best of every group; then the best of those that are among the `upper`
    best of their groups; then, where these do not fill the list, the best of the rest.

    No list within the bounds has a higher total score. Say L is such a list of the highest total.
    Within a group it can be taken to hold the best ones, as exchanging a better item for a worse
    one of the same group keeps the counts; so L holds the first kind. All that is left are free
    places, any filling of which with candidates of the second kind keeps the bounds, and taking
    the best is best. The bounds can be kept if the lower ones sum to at most k, the upper ones to
    at least k and no group has fewer candidates than its lower bound; where a group has fewer, the
    others get its places, so a list is short only if the candidates are.

    Args:
        codes: int32 `[num_queries, num_candidates]`, group of every candidate, best first; -1 for
            none, which are last. At least k.
        bounds: Of groups.
        k: Length of the lists.

    Returns:
        int32 `[num_queries, k]`, positions of the chosen candidates, ascending: best first.
    """
    of_group = tf.maximum(codes, 0)
    rank = ranks_in_group(codes, bounds.lower.shape[1])
    is_due = rank < tf.gather(bounds.lower, of_group, batch_dims=1)
    is_free = rank < tf.gather(bounds.upper, of_group, batch_dims=1)
    # 2 for what is due, 1 for what is free: no upper bound is below a lower one.
    kind = tf.cast(is_due, tf.int32) + tf.cast(is_free, tf.int32)
    # Of the same kind the first is the best, and `top_k` takes the first of equal ones.
    chosen = tf.math.top_k(tf.where(codes >= 0, kind, -1), k).indices
    return -tf.math.top_k(-chosen, k).values


def ranks_in_group(codes: tf.Tensor, num_groups: int) -> tf.Tensor:
    """How many of the same group come before.

    Args:
        codes: int32 `[num_queries, num_candidates]`; -1 for none.
        num_groups: Number of groups.

    Returns:
        int32 `[num_queries, num_candidates]`, from 0; 0 for none.
    """
    is_of = tf.one_hot(codes, num_groups, dtype=tf.int32)
    return tf.reduce_sum(is_of * tf.cumsum(is_of, axis=1, exclusive=True), axis=2)


def count_groups(codes: tf.Tensor, num_groups: int) -> tf.Tensor:
    """Returns int32 `[num_queries, num_groups]`, items per group; -1 is none's."""
    return tf.reduce_sum(tf.one_hot(codes, num_groups, dtype=tf.int32), axis=1)
