"""Differentiable ranks, and the attention of a browsing model on them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from fairness_losses.soft_exposure import scores_and_items


def soft_rank_attention(
    scores: tf.Tensor,
    rank_weights: np.ndarray,
    temperature: float,
    weights: tf.Tensor | None = None,
    listed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Attention of a browsing model on the soft rank of each candidate.

    The soft rank of candidate `j` for query `i` is 1 plus the items above it,

        r_ij = 1 + sum over l other than j of w_l * sigmoid((s_il - s_ij) / temperature),

    and its attention is `v(r_ij)`, where the attention `v` per rank is extended to real numbers
    by straight lines between neighbouring ranks, and falls to 0 at rank `depth + 1`. A candidate
    that stands for `w` items holds the ranks from `r_ij` to `r_ij + w - 1` and has their mean
    attention. As the temperature tends to 0 this is the attention that `exposure.list_exposure`
    gives the list sorted by score. Candidates with the same score share their ranks.

    Unlike with `soft_top_k`, every score moves every rank. At higher temperatures many candidates
    a little worse push a good one down, so that the attention sums to less than the browsing
    model's, and there is none where no soft rank is within the depth: choose a temperature well
    below the spread of the scores.

    Time is of `num_queries * num_candidates^2`, memory of `num_candidates^2`: queries are gone
    through one by one, and their comparisons made again for the gradient.

    Source: Qin, Liu and Li, "A general approximation framework for direct optimization of
    information retrieval measures", Information Retrieval 2010, section 4.1; for exposure: Wu,
    Mitra, Ma, Diaz and Liu, "Joint Multisided Exposure Fairness for Recommendation", SIGIR 2022.

    Args:
        scores: float `[num_queries, num_candidates]`.
        rank_weights: float `[depth]`, attention per rank (`fairness_losses.browsing`).
        temperature: Softness, in units of the scores.
        weights: float `[num_candidates]`, how many items of the catalogue each candidate stands
            for; by default 1 each.
        listed: bool `[num_queries, num_candidates]`, candidates that can be on the list at all;
            by default all.

    Returns:
        float `[num_queries, num_candidates]`, not above the largest of `rank_weights`.
    """
    scores, items = scores_and_items(scores, weights, listed)
    above = _items_above(scores, items, temperature)
    held = _attention_until(above + items, rank_weights) - _attention_until(above, rank_weights)
    return tf.math.divide_no_nan(held, items)


def _items_above(scores: tf.Tensor, items: tf.Tensor, temperature: float) -> tf.Tensor:
    """Soft number of items with a better score, `[num_queries, num_candidates]`."""

    def is_above(score: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid((score - score[:, tf.newaxis]) / temperature)

    def count(query: tuple[tf.Tensor, ...]) -> tf.Tensor:
        score, stands_for = query
        # Compared with itself, a candidate is half above.
        return tf.linalg.matvec(is_above(score), stands_for) - stands_for / 2

    def count_gradient(query: tuple[tf.Tensor, ...]) -> tf.Tensor:
        score, stands_for, upstream = query
        above = is_above(score)
        slope = above * (1.0 - above) / temperature
        pushed_down = upstream * tf.linalg.matvec(slope, stands_for)
        return stands_for * tf.linalg.matvec(slope, upstream) - pushed_down

    # Differentiating the loop itself would keep the comparisons of all queries.
    @tf.custom_gradient
    def above(scores: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return _by_query(count_gradient, scores, items, upstream)

        return _by_query(count, scores, items), gradient

    return above(scores)


def _by_query(function: Callable[..., tf.Tensor], *arguments: tf.Tensor) -> tf.Tensor:
    # XLA compiles no loop over nothing, so that there is always one query more.
    padded = tuple(tf.pad(argument, [[0, 1], [0, 0]]) for argument in arguments)
    return tf.map_fn(function, padded, fn_output_signature=arguments[0].dtype)[:-1]


def _attention_until(rank: tf.Tensor, rank_weights: np.ndarray) -> tf.Tensor:
    """Attention on the ranks up to a real number: their sum, with straight lines in between."""
    depth = len(rank_weights)
    # A rank that is NaN has to remain one, but has nothing to look up. XLA would clip it away.
    rank = tf.where(rank < 0, tf.zeros_like(rank), rank)
    rank = tf.where(rank > depth, tf.constant(depth, rank.dtype), rank)
    whole = tf.clip_by_value(tf.cast(rank, tf.int32), 0, depth)
    until = tf.constant(np.append(0.0, np.cumsum(rank_weights)), rank.dtype)
    following = tf.constant(np.append(rank_weights, 0.0), rank.dtype)
    part = rank - tf.cast(whole, rank.dtype)
    return tf.gather(until, whole) + part * tf.gather(following, whole)
