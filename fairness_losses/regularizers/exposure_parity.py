"""Exposure parity: every group's share of exposure should be its target share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import tensorflow as tf

from fairness_losses.browsing import dcg_weights
from fairness_losses.regularizers.base import (
    Regularizer,
    ScoredCandidates,
    target_shares_array,
)
from fairness_losses.soft_exposure import (
    slice_exposure,
    soft_browsing_attention,
    soft_top_k,
    softmax_attention,
)
from fairness_losses.soft_rank import soft_rank_attention

Attention = Literal["top_k", "browsing", "rank", "softmax"]
Divergence = Literal["squared", "kl", "hinge"]

_KL_FLOOR = 1e-6
"""Part of the target mixed into the shares, so that the logarithm of no share is infinite."""


class ExposureParity(Regularizer):
    """Divergence of the groups' shares of exposure from their target shares.

    With the soft exposure `E_g` of group g summed over all queries, its share
    `e_g = E_g / sum of E over the groups with a target`, and the target share `t_g`, the penalty is

    - `squared`: `sum over g of t_g * (e_g / t_g - 1)^2 = sum over g of (e_g - t_g)^2 / t_g`,
      Pearson's chi-squared divergence; at most `1 / min(t) - 1`;
    - `kl`: `sum over g of t_g * ln(t_g / e_g)`, the Kullback-Leibler divergence in nats, which
      weighs a group that is hardly exposed much more; a millionth of the target is mixed into the
      shares, which keeps it below 14;
    - `hinge`: `sum over g of t_g * max(0, |e_g / t_g - 1| - tolerance)^2`: nothing is pushed
      while every exposure ratio is within `1 ± tolerance`; `squared` if the tolerance is 0.

    Zero if and only if every share is its target (for `hinge`, every ratio within its bounds).
    It is demographic parity of exposure (Singh and Joachims, "Fairness of Exposure in Rankings",
    KDD 2018, section 4.1) as a penalty, for any number of groups and any target.

    Exposure comes from one of four attentions on the candidates of a query:

    - `top_k`: ranks within the top `depth` count alike (`soft_exposure.soft_top_k`);
    - `browsing`: attention falls with the rank as in the exposure that is measured
      (`fairness_losses.exposure` with `browsing.dcg_weights`), by a mixture of soft lists
      (`soft_exposure.soft_browsing_attention`);
    - `rank`: the same attention on soft ranks (`soft_rank.soft_rank_attention`), in time and memory
      of `num_candidates^2`;
    - `softmax`: the first draw of a Plackett-Luce policy (`soft_exposure.softmax_attention`),
      without regard to `depth`.

    All of them are surrogates: they steer what is measured, and are not equal to it.

    With `per_slice`, every slice of the users has its own exposure and penalty (and, if `target`
    says so, its own target), and the result is their mean, weighted by the slices' queries in the
    batch. A slice without a query contributes nothing. Where `listed` is given, candidates that
    cannot be on a query's list are left out of it.

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
        target: Target share per group, `[num_groups]`; 0 for a group without a target. With
            `per_slice` it may be `[num_slices, num_groups]`.
        temperature: Softness of the attention, in units of the scores. The default suits
            vectors of length 1.
        depth: Length of the lists whose exposure is steered.
        labels: Names of the groups, for logs; by default their numbers.
        attention: `top_k`, `browsing`, `rank` or `softmax`.
        divergence: `squared`, `kl` or `hinge`.
        tolerance: How far from 1 an exposure ratio may be without a penalty, at least 0; for
            `hinge`.
        per_slice: Whether shares are taken slice by slice; then `slices` have to be given.
    """

    registered_name = "exposure_parity"
    uses = frozenset({"listed", "slices"})

    def __init__(
        self,
        target: Sequence[Any] | np.ndarray,
        temperature: float = 0.03,
        depth: int = 100,
        labels: Sequence[str] | None = None,
        attention: Attention = "top_k",
        divergence: Divergence = "squared",
        tolerance: float = 0.0,
        per_slice: bool = False,
    ) -> None:
        super().__init__(labels)
        if not temperature > 0:
            raise ValueError(f"`temperature` should be a positive float. Received: {temperature}.")
        if depth < 1:
            raise ValueError(f"`depth` should be at least 1. Received: {depth}.")
        _check_one_of("attention", attention, get_args(Attention))
        _check_one_of("divergence", divergence, get_args(Divergence))
        if not 0 <= tolerance < np.inf:
            raise ValueError(f"`tolerance` should be a float, at least 0. Received: {tolerance}.")
        if tolerance and divergence != "hinge":
            raise ValueError(f"`tolerance` is for the divergence `hinge`. Received: {divergence}.")
        self.target = target_shares_array(target)
        if self.target.ndim == 2 and not per_slice:
            raise ValueError("a `target` per slice needs `per_slice`. Received: False.")
        self.temperature = temperature
        self.depth = depth
        self.attention = attention
        self.divergence = divergence
        self.tolerance = tolerance
        self.per_slice = per_slice

    def check(self, candidates: ScoredCandidates) -> None:
        """Raises ValueError where inputs do not fit, or a list would hold every candidate."""
        super().check(candidates)
        if self.per_slice:
            if candidates.slices is None:
                raise ValueError(
                    "`exposure_parity` needs `slices` for `per_slice`. Received: None."
                )
            if self.target.ndim == 2:
                self._check_target_axis("slices", candidates.slices, axis=0)
        self._check_target_axis("membership", candidates.membership, axis=-1)
        size = candidates.scores.shape[1]
        weights = tf.get_static_value(candidates.weights)
        if self.attention != "top_k" or size is None or weights is None:
            return
        if size <= self.depth and (weights == 1).all():
            raise ValueError(
                f"`depth` should be less than the number of candidates, {size}: else each "
                f"is on every list, and nothing can be steered. Received: {self.depth}."
            )

    def penalty(self, candidates: ScoredCandidates) -> tf.Tensor:
        """Returns the penalty, float scalar, not negative."""
        attention = self._attention(candidates)
        slices = candidates.slices
        if not self.per_slice:
            slices = tf.ones([tf.shape(attention)[0], 1], attention.dtype)
        exposure = slice_exposure(attention, candidates.membership, slices, candidates.weights)
        target = tf.constant(self.target, exposure.dtype)
        counted = tf.where(target > 0, exposure, 0.0)
        # Where items without a target fill all lists, the others' exposure can round down to 0.
        share = tf.math.divide_no_nan(counted, tf.reduce_sum(counted, axis=1, keepdims=True))
        queries = tf.reduce_sum(slices, axis=0)
        weight = tf.math.divide_no_nan(queries, tf.reduce_sum(queries))
        return tf.reduce_sum(weight * self._divergence(share, target))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal regularizer."""
        return {
            **super().get_config(),
            "target": self.target.tolist(),
            "temperature": self.temperature,
            "depth": self.depth,
            "attention": self.attention,
            "divergence": self.divergence,
            "tolerance": self.tolerance,
            "per_slice": self.per_slice,
        }

    def _attention(self, candidates: ScoredCandidates) -> tf.Tensor:
        scores, sample = candidates.scores, (candidates.weights, candidates.listed)
        if self.attention == "top_k":
            return soft_top_k(scores, self.depth, self.temperature, *sample)
        if self.attention == "softmax":
            return softmax_attention(scores, self.temperature, *sample)
        of_model = soft_rank_attention if self.attention == "rank" else soft_browsing_attention
        return of_model(scores, dcg_weights(self.depth), self.temperature, *sample)

    def _divergence(self, share: tf.Tensor, target: tf.Tensor) -> tf.Tensor:
        """Divergence of shares `[num_slices, num_groups]` from their target, `[num_slices]`."""
        if self.divergence == "kl":
            floored = (1.0 - _KL_FLOOR) * share + _KL_FLOOR * target
            ratio = target / tf.where(target > 0, floored, 1.0)
            return tf.reduce_sum(tf.math.xlogy(target, ratio), axis=1)
        excess = tf.nn.relu(tf.abs(tf.math.divide_no_nan(share, target) - 1.0) - self.tolerance)
        return tf.reduce_sum(target * tf.square(excess), axis=1)

    def _check_target_axis(self, field: str, value: tf.Tensor, axis: int) -> None:
        size, expected = tf.convert_to_tensor(value).shape[1], self.target.shape[axis]
        if size not in (None, expected):
            raise ValueError(
                f"`{field}` should have {expected} columns, as many as `target` has shares. "
                f"Received: {size}."
            )


def _check_one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"`{name}` should be one of {', '.join(choices)}. Received: {value}.")
