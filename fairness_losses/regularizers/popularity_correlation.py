"""Popularity correlation: of what users want, the popular should not score higher."""

from __future__ import annotations

import tensorflow as tf

from fairness_losses.regularizers.base import Regularizer, ScoredCandidates

_SPREAD_FLOOR = 1e-8
"""Least variance over the mean square: less is rounding in float32."""


class PopularityCorrelation(Regularizer):
    """Squared Pearson correlation of positive scores with popularity.

    Over all pairs of a query and a candidate that is positive for it, with the score s and the
    candidate's frequency f in training,

        penalty = corr(s, f)^2,

    the penalty of Zhu et al., "Popularity-Opportunity Bias in Collaborative Filtering", WSDM 2021.
    In [0, 1]; zero if and only if they are uncorrelated; unchanged if scores or frequencies are
    multiplied by a number. A pair counts as often as the items that its candidate stands for.

    Use it where, of two items that a user would choose, the more popular one is ranked higher. It
    leaves alone that more users want popular items, and knows no groups. With fewer than two
    positives, equal scores or equal frequencies it is 0; so it needs batches whose candidates hold
    many positives.

    Example:
        >>> bias = PopularityCorrelation()
        >>> inputs = {"relevance": tf.ones([1, 2]), "frequency": tf.constant([10.0, 1.0])}
        >>> round(float(bias(tf.constant([[0.9, 0.2]]), membership=tf.eye(2), **inputs)), 3)
        1.0

    Args:
        labels: Names of the groups, for logs; by default their numbers.
    """

    registered_name = "popularity_correlation"
    needs = frozenset({"relevance", "frequency"})

    def penalty(self, candidates: ScoredCandidates) -> tf.Tensor:
        """Returns the penalty, float scalar in [0, 1]."""
        scores = candidates.scores
        is_positive = tf.greater(candidates.relevance, 0)
        mass = tf.cast(is_positive, scores.dtype) * candidates.weights
        share = tf.math.divide_no_nan(mass, tf.reduce_sum(mass))
        score, score_variance = _centred(scores, share)
        frequency, frequency_variance = _centred(candidates.frequency, share)
        covariance = tf.reduce_sum(share * score * frequency)
        spread = score_variance * frequency_variance
        return covariance**2 / tf.where(spread > 0, spread, 1.0)


def _centred(values: tf.Tensor, share: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Values less their mean, and their variance, where shares sum to 1."""
    centred = values - tf.reduce_sum(share * values)
    floor = _SPREAD_FLOOR * tf.reduce_sum(share * values**2)
    return centred, tf.maximum(tf.reduce_sum(share * centred**2), floor)
