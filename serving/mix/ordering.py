"""The order of a list whose items are chosen."""

from __future__ import annotations

import tensorflow as tf

from serving.mix.selection import count_groups, ranks_in_group


def order_by_prefix(codes: tf.Tensor, minimum: tf.Tensor) -> tf.Tensor:
    """Orders lists so that every prefix holds enough of every group.

    The j-th best item of a group is due at the first place whose prefix should hold j of it. From
    the last place backwards, the worst of the items that are not due before is placed (Lawler,
    "Optimal Sequencing of a Single Machine Subject to Precedence Constraints", Management Science
    1973, for unit-time jobs with deadlines). No order that keeps the minimums has a higher sum of
    attention times score, whatever the attention, if it does not rise with the place: exchange, in
    any order, the item of the last place with the one the rule puts there; both are then in time,
    and the better one is no longer below. And so on with the places before.

    Args:
        codes: int32 `[num_queries, k]`, groups of the chosen items, best first; -1 for none, which
            are last.
        minimum: int32 `[num_queries, k + 1, num_groups]`, fewest items among the first i, i from 0;
            not falling, and over all groups not more than i. Where a list holds fewer of a group,
            the first places hold what there is.

    Returns:
        int32 `[num_queries, k]`, positions in `codes`.
    """
    num_queries, k = tf.shape(codes)[0], codes.shape[1]
    num_groups = minimum.shape[2]
    there = count_groups(codes, num_groups)
    minimum = tf.minimum(minimum, there[:, tf.newaxis, :])
    of_item = tf.gather(
        tf.transpose(minimum, [0, 2, 1]), tf.maximum(codes, 0), batch_dims=1
    )  # [num_queries, k, k + 1]
    rank = ranks_in_group(codes, num_groups)
    due = tf.math.count_nonzero(of_item <= rank[:, :, tf.newaxis], axis=2, dtype=tf.int32)
    due = tf.where(codes >= 0, due, k + 1)
    index = tf.range(k)

    def place(at: tf.Tensor, is_placed: tf.Tensor, order: tf.TensorArray) -> tuple:
        can = ~is_placed & (due >= at)
        item = tf.reduce_max(tf.where(can, index, -1), axis=1)
        return at - 1, is_placed | (index == item[:, tf.newaxis]), order.write(at - 1, item)

    _, _, order = tf.while_loop(
        lambda at, *_: at > 0,
        place,
        [k, tf.zeros([num_queries, k], tf.bool), tf.TensorArray(tf.int32, k, element_shape=[None])],
        shape_invariants=[tf.TensorShape([]), tf.TensorShape([None, k]), tf.TensorShape(None)],
    )
    return tf.ensure_shape(tf.transpose(order.stack()), [None, k])


def order_by_turns(codes: tf.Tensor, num_groups: int) -> tf.Tensor:
    """Orders lists so that every group is spread over them evenly.

    The j-th of a group's n items stands at (j - 1/2) / n of the way, of two at the same the better
    one first: with equal counts the groups take turns. This is the order in which the method of
    Webster and Sainte-Laguë would hand out the seats.

    Args:
        codes: int32 `[num_queries, k]`, groups of the chosen items, best first; -1 for none, which
            are last.
        num_groups: Number of groups.

    Returns:
        int32 `[num_queries, k]`, positions in `codes`.
    """
    of_group = tf.maximum(codes, 0)
    count = tf.gather(count_groups(codes, num_groups), of_group, batch_dims=1)
    rank = ranks_in_group(codes, num_groups)
    way = tf.math.divide_no_nan(tf.cast(2 * rank + 1, tf.float32), tf.cast(count, tf.float32))
    return tf.argsort(tf.where(codes >= 0, way, float("inf")), axis=1, stable=True)
