"""Pairwise fairness: what users chose should beat the rest by as much in every group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fairness_losses.metrics.pairwise import Kind, check_kind
from fairness_losses.regularizers.base import Regularizer, ScoredCandidates
from fairness_losses.regularizers.excluded import without_groups

_SPREAD_FLOOR = 1e-6
"""Least variance of the residuals over their mean square: less is rounding in float32."""


class PairwiseFairness(Regularizer):
    """Absolute correlation of a positive's group with the margin by which it wins its comparisons.

    Over all pairs of a query's positive i and non-positive j, the residual is `r = s_i - s_j`. With
    the share `p_g` of pairs whose positive is of group g, the mean residual `m_g` of those pairs,
    and mean `m` and standard deviation `d` of all residuals,

        penalty = mean over g of |corr_g|,  corr_g = sqrt(p_g / (1 - p_g)) * (m_g - m) / d,

    where `corr_g` is the correlation of the residual with "the positive is of group g". In [0, 1];
    zero if and only if the mean residual is the same in every group; unchanged if all scores are
    multiplied by a positive number, or those of a query shifted. For two groups both terms are
    equal, and are the penalty of Beutel et al., "Fairness in Recommendation Ranking through
    Pairwise Comparisons", KDD 2019 (arXiv 1903.00780). There it is estimated from randomly drawn
    pairs, here it is exact over the pairs of the batch. A pair counts as often as the items that
    its two stand for. An item of several groups counts as that fraction of a pair in each.

    Use it where a group is ranked low *although users choose it*: it asks for equal accuracy, not
    for more exposure, and is content with a group that is rarely shown because rarely wanted. It
    equalises margins, not `metrics.pairwise.pairwise_accuracy` itself: where margins spread wider
    in one group, equal means leave unequal accuracies. It is as easily met by ranking all groups
    badly, so it is only of use beside a loss for relevance. Its gradient does not fade towards
    zero, where the absolute value has a kink: large steps overshoot.

    Groups without pairs (no positive, or nothing to compare it with) are left out; with fewer than
    two groups, or without any pair, the penalty is 0.

    Sums over pairs are taken from sums over candidates, so pairs are never formed: time
    `O(num_queries * num_candidates * num_groups)`, memory `O(num_queries * (num_candidates +
    num_groups))`.

    Example:
        >>> fairness = PairwiseFairness(kind="inter")
        >>> scores, relevance = tf.constant([[0.9, 0.0], [0.5, 0.4]]), tf.eye(2)
        >>> round(float(fairness(scores, membership=tf.eye(2), relevance=relevance)), 3)
        1.0

    Args:
        kind: Which non-positives a positive is compared with: those of other groups (`inter`), of
            its own (`intra`), or all (`overall`). Inter-group pairs are what ranks one group below
            another.
        excluded: Numbers of the groups whose positives are not compared, `unknown` for example;
            their non-positives are still compared with.
        labels: Names of the groups, for logs; by default their numbers.
    """

    registered_name = "pairwise_fairness"
    needs = frozenset({"relevance"})
    uses = frozenset({"listed"})

    def __init__(
        self,
        kind: Kind = "inter",
        excluded: Sequence[int] = (),
        labels: Sequence[str] | None = None,
    ) -> None:
        super().__init__(labels)
        check_kind(kind)
        self.kind = kind
        self.excluded = tuple(excluded)

    def penalty(self, candidates: ScoredCandidates) -> tf.Tensor:
        """Returns the penalty, float scalar in [0, 1]."""
        pairs, first, second = self._pair_sums(candidates)
        total = tf.reduce_sum(pairs)
        share = _over(pairs, total)
        mean = _over(tf.reduce_sum(first), total)
        mean_square = _over(tf.reduce_sum(second), total)
        variance = tf.maximum(mean_square - mean**2, _SPREAD_FLOOR * mean_square)
        covariance = _over(first, total) - share * mean
        spread = share * (1 - share) * variance
        correlation = covariance / tf.sqrt(tf.where(spread > 0, spread, 1.0))
        groups = tf.math.count_nonzero(pairs > 0, dtype=share.dtype)
        return _over(tf.reduce_sum(tf.abs(correlation)), groups)

    def _pair_sums(self, candidates: ScoredCandidates) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Number of pairs, sum of their residuals and of the squares, each `[num_groups]`."""
        membership, weights = candidates.membership, candidates.weights
        dtype = candidates.scores.dtype
        # Residuals do not depend on what all scores have in common, but rounding does.
        centre = tf.reduce_mean(candidates.scores, axis=1, keepdims=True)
        scores = candidates.scores - tf.stop_gradient(centre)
        is_positive = tf.greater(candidates.relevance, 0)
        is_compared = tf.logical_not(is_positive)
        if candidates.listed is not None:
            is_compared &= candidates.listed
        p0, p1, p2 = _moments(
            scores, tf.cast(is_positive, dtype) * weights, without_groups(membership, self.excluded)
        )
        n0, n1, n2 = _moments(
            scores, tf.cast(is_compared, dtype) * weights, self._comparable(membership)
        )
        return (
            tf.reduce_sum(p0 * n0, axis=0),
            tf.reduce_sum(p1 * n0 - p0 * n1, axis=0),
            tf.reduce_sum(p2 * n0 - 2 * p1 * n1 + p0 * n2, axis=0),
        )

    def _comparable(self, membership: tf.Tensor) -> tf.Tensor:
        """Fraction of each candidate that the positives of each group are compared with."""
        if self.kind == "overall":
            return tf.ones_like(membership)
        return membership if self.kind == "intra" else 1 - membership

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal regularizer."""
        return {**super().get_config(), "kind": self.kind, "excluded": list(self.excluded)}


def _moments(scores: tf.Tensor, mass: tf.Tensor, fraction: tf.Tensor) -> list[tf.Tensor]:
    """Sums of the powers 0, 1 and 2 of the scores, each `[num_queries, num_groups]`."""
    first = mass * scores
    return [tf.matmul(values, fraction) for values in (mass, first, first * scores)]


def _over(value: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """The quotient; the value itself where the count is 0, so that NaN stays NaN."""
    return value / tf.where(count > 0, count, tf.ones_like(count))
