"""Items that are not like each other, within bounds per group."""

from __future__ import annotations

import tensorflow as tf

from serving.mix.bounds import Bounds
from serving.mix.selection import count_groups

_SPANNED = 1e-4
"""What an item adds that is a mixture of those chosen before: there are at most as many others as
vectors have dimensions, and rounding should not choose among the rest."""
_NEVER = -1e9


def select_diverse(
    scores: tf.Tensor,
    codes: tf.Tensor,
    vectors: tf.Tensor,
    bounds: Bounds,
    k: int,
    theta: float,
) -> tf.Tensor:
    """Chooses k candidates one by one, each the one that adds most relevance and diversity.

    The greedy maximum a posteriori of a determinantal point process with the kernel

        L_ij = exp(a r_i) <v_i, v_j> exp(a r_j),    a = theta / (2 (1 - theta)),

    with vectors of length 1 and r the score less the highest one, in standard deviations of the k
    highest: each choice adds most to log det L of those chosen. Candidates of groups that have
    their `upper` number are passed over, and so are those of groups that have their `lower` one
    while only as many places are left as the others lack; the bounds hold as they do for
    `serving.mix.selection.select`.

    Source: Chen, Zhang and Zhou, "Fast Greedy MAP Inference for Determinantal Point Process to
    Improve Recommendation Diversity", NeurIPS 2018, algorithm 1, section 5.

    Args:
        scores: float32 `[num_queries, num_candidates]`, descending, -inf for none; at least k.
        codes: int32 of the same shape, groups; -1 for none.
        vectors: float32 `[num_queries, num_candidates, dim]`.
        bounds: Of groups.
        k: Length of the lists.
        theta: From 0, diversity alone, to below 1, relevance alone.

    Returns:
        int32 `[num_queries, k]`, positions of the candidates in the order of their choice.
    """
    num_queries, size = tf.shape(codes)[0], tf.shape(codes)[1]
    num_groups = bounds.lower.shape[1]
    units = tf.math.l2_normalize(vectors, axis=2)
    relevance = (theta / (1.0 - theta)) * _standardised(scores, k)
    lower = tf.minimum(bounds.lower, count_groups(codes, num_groups))
    index = tf.range(size)

    def choose(
        at: tf.Tensor,
        left: tf.Tensor,
        basis: tf.Tensor,
        taken: tf.Tensor,
        count: tf.Tensor,
        order: tf.TensorArray,
    ) -> tuple:
        lacks = tf.maximum(lower - count, 0)
        has_room = tf.reduce_sum(lacks, axis=1, keepdims=True) < k - at
        can = (count < bounds.upper) & (has_room | (lacks > 0))
        gain = relevance + tf.math.log(tf.maximum(left, _SPANNED))
        gain = tf.where(tf.gather(can, tf.maximum(codes, 0), batch_dims=1), gain, gain + _NEVER)
        gain = tf.where(codes >= 0, gain, 4 * _NEVER)
        gain = tf.where(taken, -float("inf"), gain)
        item = tf.argmax(gain, axis=1, output_type=tf.int32)
        own = tf.gather(basis, item, batch_dims=1)
        like = tf.einsum("qd,qpd->qp", tf.gather(units, item, batch_dims=1), units)
        spread = tf.sqrt(tf.maximum(tf.gather(left, item, batch_dims=1), _SPANNED))
        new = (like - tf.einsum("qs,qps->qp", own, basis)) / spread[:, tf.newaxis]
        # Steps to come have zeros there, so that the basis keeps its shape.
        basis += new[:, :, tf.newaxis] * tf.one_hot(at, k)
        group = tf.one_hot(tf.gather(codes, item, batch_dims=1), num_groups, dtype=tf.int32)
        taken |= index == item[:, tf.newaxis]
        return at + 1, left - new**2, basis, taken, count + group, order.write(at, item)

    start = (
        0,
        tf.ones([num_queries, size]),
        tf.zeros([num_queries, size, k]),
        tf.zeros([num_queries, size], tf.bool),
        tf.zeros([num_queries, num_groups], tf.int32),
        tf.TensorArray(tf.int32, k, element_shape=[None]),
    )
    *_, order = tf.while_loop(lambda at, *_: at < k, choose, start)
    return tf.ensure_shape(tf.transpose(order.stack()), [None, k])


def _standardised(scores: tf.Tensor, k: int) -> tf.Tensor:
    best = scores[:, :k]
    there = tf.math.is_finite(best)
    number = tf.reduce_sum(tf.cast(there, tf.float32), axis=1, keepdims=True)
    mean = tf.math.divide_no_nan(
        tf.reduce_sum(tf.where(there, best, 0.0), axis=1, keepdims=True), number
    )
    square = tf.where(there, (best - mean) ** 2, 0.0)
    spread = tf.sqrt(tf.math.divide_no_nan(tf.reduce_sum(square, axis=1, keepdims=True), number))
    below = tf.where(tf.math.is_finite(scores), scores - scores[:, :1], 0.0)
    return tf.math.divide_no_nan(below, spread)
