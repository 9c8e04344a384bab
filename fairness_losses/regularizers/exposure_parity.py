"""Exposure parity: every group's share of exposure should be its target share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fairness_losses.regularizers.base import (
    Regularizer,
    ScoredCandidates,
    target_shares_array,
)
from fairness_losses.soft_exposure import group_exposure, soft_top_k


class ExposureParity(Regularizer):
    """Squared deviation of the exposure ratios from 1, weighted by the target.

    With the soft exposure `E_g` of group g summed over all queries (`soft_exposure`), its share
    `e_g = E_g / sum of E over the groups with a target`, and the target share `t_g`,

        penalty = sum over g of t_g * (e_g / t_g - 1)^2 = sum over g of (e_g - t_g)^2 / t_g,

    Pearson's chi-squared divergence of the shares from the target. Zero if and only if every
    share is its target; at most `1 / min(t) - 1`. It is demographic parity of exposure (Singh and
    Joachims, "Fairness of Exposure in Rankings", KDD 2018, section 4.1) as a penalty, for any
    number of groups and any target.

    Ranks within the top `depth` count alike here, whereas exposure as it is measured
    (`fairness_losses.exposure`) falls with the rank: the penalty steers what is measured, but is
    not equal to it.

    Groups without a target (`unknown`) are neither pushed nor counted. The scores should belong
    to a sample of the whole catalogue: the candidates of a training batch are biased by
    popularity. Train with negatives from the catalogue as well: with in-batch negatives alone
    nothing holds back items that are never in a batch, and the cheapest way to expose a group is
    to put its least wanted items on top.

    Example:
        >>> parity = ExposureParity(target=[0.25, 0.75], depth=2)
        >>> scores = tf.constant([[0.9, 0.8, 0.1, 0.0]])
        >>> membership = tf.constant([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])
        >>> float(parity(scores, membership)) > 0
        True

    Args:
        target: Target share per group, `[num_groups]`; 0 for a group without a target.
        temperature: Softness of the top `depth`, in units of the scores. The default suits
            vectors of length 1.
        depth: Length of the lists whose exposure is steered.
    """

    registered_name = "exposure_parity"

    def __init__(
        self,
        target: Sequence[float] | np.ndarray,
        temperature: float = 0.03,
        depth: int = 100,
        labels: Sequence[str] | None = None,
    ) -> None:
        super().__init__(labels)
        if not temperature > 0:
            raise ValueError(f"`temperature` should be a positive float. Received: {temperature}.")
        if depth < 1:
            raise ValueError(f"`depth` should be at least 1. Received: {depth}.")
        self.target = target_shares_array(target)
        self.temperature = temperature
        self.depth = depth

    def check(self, candidates: ScoredCandidates) -> None:
        """Raises ValueError where inputs do not fit, or a list would hold every candidate."""
        super().check(candidates)
        size = candidates.scores.shape[1]
        weights = tf.get_static_value(candidates.weights)
        if size is None or weights is None:
            return
        if size <= self.depth and (weights == 1).all():
            raise ValueError(
                f"`depth` should be less than the number of candidates, {size}: else each "
                f"is on every list, and nothing can be steered. Received: {self.depth}."
            )

    def penalty(self, candidates: ScoredCandidates) -> tf.Tensor:
        """Returns the penalty, float scalar, not negative."""
        scores, membership, weights, *_ = candidates
        attention = soft_top_k(scores, self.depth, self.temperature, weights)
        exposure = group_exposure(attention, membership, weights)
        has_target = self.target > 0
        counted = tf.boolean_mask(exposure, has_target)
        target = tf.constant(self.target[has_target], counted.dtype)
        # Where items without a target fill all lists, the others' exposure can round down to 0.
        share = tf.math.divide_no_nan(counted, tf.reduce_sum(counted))
        return tf.reduce_sum(tf.square(share - target) / target)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal regularizer."""
        return {
            **super().get_config(),
            "target": self.target.tolist(),
            "temperature": self.temperature,
            "depth": self.depth,
        }
