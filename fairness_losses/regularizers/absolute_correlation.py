"""Absolute correlation: a candidate's score should say nothing about its group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fairness_losses.regularizers.base import Regularizer, ScoredCandidates
from fairness_losses.regularizers.excluded import without_groups

_SPREAD_FLOOR = 1e-8
"""Least variance of the scores over their mean square: less is rounding in float32."""


class AbsoluteCorrelation(Regularizer):
    """Absolute correlation of the score with being of a group, mean over the groups.

    Pooled over all pairs of query and candidate, with the share `p_g` of pairs whose candidate is
    of group g, their mean score `m_g`, and mean `m` and standard deviation `d` of all scores,

        penalty = mean over g of |corr_g|,  corr_g = sqrt(p_g / (1 - p_g)) * (m_g - m) / d,

    where `corr_g` is the Pearson correlation of the score with "the candidate is of group g". In
    [0, 1]; zero if and only if the mean score is the same in every group; unchanged if all scores
    are multiplied by a number. For two groups both terms are equal, and are the penalty of Beutel
    et al., "Putting Fairness Principles into Practice: Challenges, Metrics, and Improvements",
    AIES 2019 (`AbsoluteCorrelationLoss` of TensorFlow Model Remediation). A pair counts as often
    as the items that its candidate stands for; an item of several groups counts as that fraction
    of a pair in each.

    Use it as the cheapest of the penalties on scores, linear in time and memory. It asks for equal
    mean scores only: where the tops of the distributions differ, a small group can still be missing
    from every list (`min_diff` compares whole distributions, `exposure_parity` the tops). Groups
    without a candidate are left out; constant scores, and a single group, are uncorrelated: 0.

    Example:
        >>> correlation = AbsoluteCorrelation()
        >>> scores = tf.constant([[0.9, 0.9, 0.1, 0.1]])
        >>> round(float(correlation(scores, membership=tf.gather(tf.eye(2), [0, 0, 1, 1]))), 3)
        1.0

    Args:
        excluded: Numbers of the groups that are left out, `unknown` for example.
        labels: Names of the groups, for logs; by default their numbers.
    """

    registered_name = "absolute_correlation"
    uses = frozenset({"listed"})

    def __init__(self, excluded: Sequence[int] = (), labels: Sequence[str] | None = None) -> None:
        super().__init__(labels)
        self.excluded = tuple(sorted(set(excluded)))

    def penalty(self, candidates: ScoredCandidates) -> tf.Tensor:
        """Returns the penalty, float scalar in [0, 1]."""
        scores = candidates.scores
        fraction = without_groups(candidates.membership, self.excluded)
        counted = tf.ones_like(scores)
        if candidates.listed is not None:
            counted = tf.cast(candidates.listed, scores.dtype)
        mass = counted * candidates.weights
        pairs = mass * tf.reduce_sum(fraction, axis=1)
        total = tf.reduce_sum(pairs)
        centred = scores - tf.math.divide_no_nan(tf.reduce_sum(pairs * scores), total)
        share = tf.math.divide_no_nan(_sums(mass, fraction), total)
        covariance = tf.math.divide_no_nan(_sums(mass * centred, fraction), total)
        # The mean was rounded, which would be all there is to see where scores are constant.
        covariance -= share * tf.reduce_sum(covariance)
        variance = tf.math.divide_no_nan(tf.reduce_sum(pairs * centred**2), total)
        floor = tf.math.divide_no_nan(tf.reduce_sum(pairs * scores**2), total) * _SPREAD_FLOOR
        spread = share * (1 - share) * tf.maximum(variance, floor)
        correlation = covariance / tf.sqrt(tf.where(spread > 0, spread, 1.0))
        groups = tf.math.count_nonzero(share > 0, dtype=share.dtype)
        return tf.math.divide_no_nan(tf.reduce_sum(tf.abs(correlation)), groups)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal regularizer."""
        return {**super().get_config(), "excluded": list(self.excluded)}


def _sums(values: tf.Tensor, fraction: tf.Tensor) -> tf.Tensor:
    """Sum of `[num_queries, num_candidates]` over the pairs of each group, `[num_groups]`."""
    return tf.linalg.matvec(fraction, tf.reduce_sum(values, axis=0), transpose_a=True)
