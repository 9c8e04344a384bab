"""Head-tail alignment: vectors of rarely chosen items should lie where those of popular ones do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fairness_losses.regularizers.base import Regularizer, ScoredCandidates


class HeadTailAlignment(Regularizer):
    """Distance of mean and covariance of the tail's embeddings from those of the head.

    The head are the most chosen items that together make `head_share` of all choices, the tail is
    the rest. With mean `mu` and covariance `C` of each,

        penalty = |mu_head - mu_tail|^2 + |C_head - C_tail|_F^2.

    The second term is correlation alignment (Sun and Saenko, "Deep CORAL", ECCV 2016 workshops,
    equation 1), with which Chen et al., "ESAM: Discriminative Domain Adaptation with Non-Displayed
    Items to Improve Long-Tail Performance", SIGIR 2020, align the long tail with the items that are
    displayed. Its constant, `1 / (4 dim^2)` there, is left out, so that the weight of the penalty
    need not grow with the dimension. CORAL does not see a tail that lies apart as a whole, hence
    the first term.

    Zero if and only if means and covariances are equal; at most 4 for vectors of length 1, and not
    invariant to their scale. Every candidate counts as often as the items that it stands for, in
    the shares, means and covariances (over n, not n - 1). Where all candidates are head, or all
    are tail, it is 0.

    Use it where rarely chosen items are hardly trained and lie where no query reaches them. It
    takes no groups: it helps a group only as far as its items are in the tail. Since vectors that
    are all equal are aligned as well, it is only of use beside a loss for relevance.

    Time `O(num_candidates * dim^2)`.

    Example:
        >>> alignment = HeadTailAlignment(head_share=0.5)
        >>> inputs = {"embeddings": tf.eye(2), "frequency": tf.constant([9.0, 1.0])}
        >>> float(alignment(tf.zeros([1, 2]), membership=tf.eye(2), **inputs))
        2.0

    Args:
        head_share: Share of the choices in training that the head makes, in (0, 1).
        labels: Names of the groups, for logs; by default their numbers.
    """

    registered_name = "head_tail"
    needs = frozenset({"embeddings", "frequency"})

    def __init__(self, head_share: float = 0.8, labels: Sequence[str] | None = None) -> None:
        super().__init__(labels)
        if not 0 < head_share < 1:
            raise ValueError(f"`head_share` should be in (0, 1). Received: {head_share}.")
        self.head_share = head_share

    def penalty(self, candidates: ScoredCandidates) -> tf.Tensor:
        """Returns the penalty, float scalar, not negative."""
        weights, embeddings = candidates.weights, candidates.embeddings
        is_head = tf.cast(_is_head(candidates.frequency, weights, self.head_share), weights.dtype)
        head_mean, head_covariance = _moments(embeddings, weights * is_head)
        tail_mean, tail_covariance = _moments(embeddings, weights * (1 - is_head))
        distance = tf.reduce_sum(tf.square(head_mean - tail_mean))
        distance += tf.reduce_sum(tf.square(head_covariance - tail_covariance))
        # Multiplied rather than selected, so that NaN stays NaN.
        return distance * tf.reduce_max(is_head) * tf.reduce_max(1 - is_head)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal regularizer."""
        return {**super().get_config(), "head_share": self.head_share}


def _is_head(frequency: tf.Tensor, weights: tf.Tensor, head_share: float) -> tf.Tensor:
    """Whether all more frequent items together make less than the share; bool `[num_candidates]`.

    Items that are equally frequent are on the same side.
    """
    choices = frequency * weights
    order = tf.argsort(-frequency)
    choices_before = tf.cumsum(tf.gather(choices, order), exclusive=True)
    first_as_frequent = tf.searchsorted(tf.gather(-frequency, order), -frequency, side="left")
    more_frequent = tf.gather(choices_before, first_as_frequent)
    return more_frequent < head_share * tf.reduce_sum(choices)


def _moments(vectors: tf.Tensor, mass: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Weighted mean `[dim]` and covariance `[dim, dim]`."""
    share = tf.math.divide_no_nan(mass, tf.reduce_sum(mass))[:, tf.newaxis]
    mean = tf.reduce_sum(share * vectors, axis=0)
    centred = vectors - mean
    return mean, tf.matmul(share * centred, centred, transpose_a=True)
