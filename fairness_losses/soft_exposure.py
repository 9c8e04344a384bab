"""Differentiable exposure: the attention on each candidate, as a smooth function of the scores.

Candidates may stand for several items of the catalogue each (`weights`), and may be left out of a
query's list (`listed`): an unlisted candidate gets no attention and no gradient, and counts in no
rank. `soft_rank` has one more attention.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf


def soft_top_k(
    scores: tf.Tensor,
    depth: int,
    temperature: float,
    weights: tf.Tensor | None = None,
    listed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Degree to which each candidate is among its query's best `depth` items of the catalogue.

    With the score `t_i` at which the list of query `i` ends,

        a_ij = sigmoid((s_ij - t_i) / temperature),

    which tends to the indicator of the top `depth` as the temperature tends to 0: the list ends
    half way between its last item and the first one off it. The threshold is treated as a
    constant: it is the score to beat. Where candidates are a weighted sample, rank is counted in
    items of the catalogue, so that the threshold estimates that of the whole catalogue.

    A list as long as the catalogue holds all of it, whatever the scores: 1, and no gradient.

    Args:
        scores: float `[num_queries, num_candidates]`.
        depth: Length of the list, in items of the catalogue.
        temperature: Softness, in units of the scores.
        weights: float `[num_candidates]`, at least 1: how many items of the catalogue each
            candidate stands for; by default 1 each.
        listed: bool `[num_queries, num_candidates]`, candidates that can be on the list at all;
            by default all.

    Returns:
        float `[num_queries, num_candidates]` in [0, 1].
    """
    scores, items = scores_and_items(scores, weights, listed)
    return _on_lists(scores, items, np.array([depth]), temperature)[:, 0]


def soft_browsing_attention(
    scores: tf.Tensor,
    rank_weights: np.ndarray,
    temperature: float,
    weights: tf.Tensor | None = None,
    listed: tf.Tensor | None = None,
    num_cuts: int = 8,
) -> tf.Tensor:
    """Attention of a browsing model on each candidate, as a mixture of soft lists.

    Any attention `v` per rank is a mixture of lists cut at ranks `k`,

        v(r) = sum over k of (v(k) - v(k + 1)) * 1[r <= k].

    Here a few cuts, geometrically spaced up to the depth, make a staircase whose steps are the
    means of `v` over their ranks, and each indicator is a `soft_top_k`, scaled so that it holds
    exactly `k` items (all items, if fewer). The attention over a query's catalogue therefore sums
    to that of the browsing model, whatever temperature and sample. As the temperature tends to 0
    it tends to the staircase; with a cut at every rank, to `v` itself.

    The candidates are sorted once. Thresholds are constants, as in `soft_top_k`. Memory is of
    `num_queries * num_cuts * num_candidates`.

    Args:
        scores: float `[num_queries, num_candidates]`.
        rank_weights: float `[depth]`, attention per rank (`fairness_losses.browsing`).
        temperature: Softness, in units of the scores.
        weights: float `[num_candidates]`, at least 1: how many items of the catalogue each
            candidate stands for; by default 1 each.
        listed: bool `[num_queries, num_candidates]`, candidates that can be on the list at all;
            by default all.
        num_cuts: Steps of the staircase, at most; with `depth` or more, every rank is a cut.

    Returns:
        float `[num_queries, num_candidates]`, not negative where `rank_weights` do not increase.
    """
    cuts = _cuts(len(rank_weights), num_cuts)
    heights = np.add.reduceat(rank_weights, np.append(0, cuts[:-1])) / np.diff(cuts, prepend=0)
    steps = tf.constant(heights - np.append(heights[1:], 0.0), scores.dtype)
    scores, items = scores_and_items(scores, weights, listed)
    on_lists = _on_lists(scores, items, cuts, temperature)
    held = tf.einsum("qcn,qn->qc", on_lists, items)
    length = tf.minimum(tf.constant(cuts, held.dtype), tf.reduce_sum(items, axis=1, keepdims=True))
    return tf.einsum("qcn,qc->qn", on_lists, steps * tf.math.divide_no_nan(length, held))


def softmax_attention(
    scores: tf.Tensor,
    temperature: float,
    weights: tf.Tensor | None = None,
    listed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Probability that each item is the first one that a Plackett-Luce policy draws.

        a_ij = exp(s_ij / temperature) / sum over l of w_l * exp(s_il / temperature).

    Over a query's catalogue it sums to 1, the attention on one rank: there is no depth. As the
    temperature tends to 0 all attention is on the best item.

    Source: Plackett, "The Analysis of Permutations", Applied Statistics 1975; as a ranking policy:
    Singh and Joachims, "Policy Learning for Fairness in Ranking", NeurIPS 2019, section 3.1.

    Args:
        scores: float `[num_queries, num_candidates]`.
        temperature: Softness, in units of the scores.
        weights: float `[num_candidates]`, how many items of the catalogue each candidate stands
            for; by default 1 each.
        listed: bool `[num_queries, num_candidates]`, candidates that can be on the list at all;
            by default all.

    Returns:
        float `[num_queries, num_candidates]` in [0, 1]; zero for a query without candidates.
    """
    scores, items = scores_and_items(scores, weights, listed)
    best = tf.reduce_max(_off_list_last(tf.stop_gradient(scores), items), axis=1, keepdims=True)
    odds = tf.where(items > 0, tf.exp((scores - best) / temperature), 0.0)
    return tf.math.divide_no_nan(odds, tf.reduce_sum(items * odds, axis=1, keepdims=True))


def group_exposure(
    attention: tf.Tensor, membership: tf.Tensor, weights: tf.Tensor | None = None
) -> tf.Tensor:
    """Exposure of every group, summed over queries; the soft form of `exposure.list_exposure`.

    Args:
        attention: float `[num_queries, num_candidates]`.
        membership: float `[num_candidates, num_groups]`.
        weights: float `[num_candidates]`, items that each candidate stands for; by default 1.

    Returns:
        float `[num_groups]`.
    """
    everybody = tf.ones([tf.shape(attention)[0], 1], attention.dtype)
    return slice_exposure(attention, membership, everybody, weights)[0]


def slice_exposure(
    attention: tf.Tensor,
    membership: tf.Tensor,
    slices: tf.Tensor,
    weights: tf.Tensor | None = None,
) -> tf.Tensor:
    """Exposure of every group to every slice of the users, summed over the slice's queries.

    Args:
        attention: float `[num_queries, num_candidates]`.
        membership: float `[num_candidates, num_groups]`.
        slices: float `[num_queries, num_slices]`, the slices that a query belongs to.
        weights: float `[num_candidates]`, items that each candidate stands for; by default 1.

    Returns:
        float `[num_slices, num_groups]`.
    """
    per_candidate = tf.matmul(slices, attention, transpose_a=True)
    if weights is not None:
        per_candidate *= weights
    return tf.matmul(per_candidate, membership)


def scores_and_items(
    scores: tf.Tensor, weights: tf.Tensor | None, listed: tf.Tensor | None
) -> tuple[tf.Tensor, tf.Tensor]:
    """Scores, and how many items each candidate stands for on each query's list.

    Args:
        scores: float `[num_queries, num_candidates]`.
        weights: float `[num_candidates]` or None for ones.
        listed: bool `[num_queries, num_candidates]` or None for all.

    Returns:
        Both float `[num_queries, num_candidates]`. An unlisted candidate has 0 items, and the
        constant 0 for a score: no gradient goes back through it.
    """
    items = tf.ones_like(scores) if weights is None else tf.ones_like(scores) * weights
    if listed is not None:
        items = tf.where(listed, items, 0.0)
    return tf.where(items > 0, scores, 0.0), items


def _on_lists(
    scores: tf.Tensor, items: tf.Tensor, cuts: np.ndarray, temperature: float
) -> tf.Tensor:
    """`soft_top_k` for increasing depths: `[num_queries, num_cuts, num_candidates]`."""
    threshold = _scores_at_ends(tf.stop_gradient(scores), items, cuts)
    margin = (scores[:, tf.newaxis] - threshold[:, :, tf.newaxis]) / temperature
    return tf.where(items[:, tf.newaxis] > 0, tf.sigmoid(margin), 0.0)


def _scores_at_ends(scores: tf.Tensor, items: tf.Tensor, cuts: np.ndarray) -> tf.Tensor:
    """Scores at the ranks `cuts + 1/2` of the catalogue, interpolated, `[num_queries, num_cuts]`.

    Minus infinity where the list holds all of it.
    """
    # Nothing listed stands for less than one item, so depth + 1 of them reach past the list.
    enough = tf.minimum(int(cuts[-1]) + 1, tf.shape(scores)[1])
    best, columns = tf.math.top_k(_off_list_last(scores, items), enough)
    stands_for = tf.gather(items, columns, batch_dims=1)
    # A candidate that stands for w items is the middle one of w neighbouring ranks.
    items_above = tf.cumsum(stands_for, axis=1) - stands_for / 2
    depth = tf.constant(cuts, scores.dtype)
    is_before = items_above[:, tf.newaxis] < depth[:, tf.newaxis]
    num_before = tf.reduce_sum(tf.cast(is_before, tf.int32), axis=2)
    last = tf.reduce_sum(tf.cast(stands_for > 0, tf.int32), axis=1, keepdims=True) - 1
    before, after = tf.maximum(num_before - 1, 0), tf.maximum(tf.minimum(num_before, last), 0)
    above, below = (tf.gather(items_above, rank, batch_dims=1) for rank in (before, after))
    score, score_below = (tf.gather(best, rank, batch_dims=1) for rank in (before, after))
    fraction = tf.math.divide_no_nan(depth - above, below - above)
    threshold = score + fraction * (score_below - score)
    holds_all = tf.reduce_sum(items, axis=1, keepdims=True) < depth + 0.5
    return tf.where(holds_all, tf.constant(-np.inf, scores.dtype), threshold)


def _off_list_last(scores: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    return tf.where(items > 0, scores, scores.dtype.min)


def _cuts(depth: int, num_cuts: int) -> np.ndarray:
    """Ranks at which the staircase steps down, the last one being `depth`."""
    if num_cuts >= depth:
        return np.arange(1, depth + 1)
    return np.unique(np.geomspace(1, depth, num_cuts).round().astype(int))
