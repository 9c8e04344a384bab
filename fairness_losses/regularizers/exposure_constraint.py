"""Exposure constraint: every group's exposure within a band, in every slice, by dual ascent."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fairness_losses.exposure import exposure_ratio
from fairness_losses.regularizers.base import (
    Regularizer,
    ScoredCandidates,
    target_shares_array,
)

_NEVER = -1e9
"""Log-probability of what cannot be listed; finite, so that gradients are."""


@dataclasses.dataclass(frozen=True)
class ConstraintState:
    """How far a constraint is met.

    Attributes:
        ratio: float64 `[num_slices, num_groups]`, exposure over target share in exact lists.
        low: float64 of the same shape, the least ratio allowed; NaN where nothing is constrained.
        high: float64 of the same shape, the largest.
    """

    ratio: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def unmeasured(self) -> np.ndarray:
        """Bool `[num_slices, num_groups]`, constraints of slices without a list to judge by."""
        return ~np.isnan(self.low) & np.isnan(self.ratio)

    @property
    def violated(self) -> np.ndarray:
        """Bool `[num_slices, num_groups]`."""
        with np.errstate(invalid="ignore"):
            return (self.ratio < self.low) | (self.ratio > self.high)


class ExposureConstraint(Regularizer):
    """Pulls groups just as strongly as a band of exposure ratios needs, in every slice.

    Wanted is the best retrieval loss subject to

        1 - tolerance <= ratio_sg <= 1 + tolerance    for every slice s and constrained group g,

    with the exposure ratio of `fairness_losses.exposure` in exact lists. The lists are not
    differentiable, so two players share the Lagrangian (Cotter et al., "Two-Player Games for
    Efficient Non-Convex Constrained Optimization", ALT 2019): `update` raises or lowers the
    multiplier `m_sg` of each constraint by how far the exact ratio is from its band, and the model
    minimises the retrieval loss plus a surrogate, the pull

        penalty = mean over queries q of sum over g of
                  max(l_qg, 0) * mean over j in g of -log p_qj  +  max(-l_qg, 0) * -log(1 - P_qg),

    where `p_q` is the softmax of the scores over the candidates on the query's list, `P_qg` its sum
    over those of group g, and `l_qg` the sum of the multipliers of the query's slices. A positive
    multiplier is the cross-entropy of a target that puts its mass evenly on the group: the same
    pull on every item of the group, which moves those at the end of the list and leaves the order
    within the group to relevance. A negative one, of a group that has too much, is the
    cross-entropy of "something else", which leaves the order of all else to relevance, too. Not
    negative; zero if and only if all multipliers of groups that could be listed are 0, as at first.

    The scores should belong to the whole catalogue or a weighted sample of it, on the scale of the
    retrieval loss's softmax.

    Example:
        >>> constraint = ExposureConstraint([0.5, 0.5], num_slices=1)
        >>> constraint.update(np.array([[1.0, 3.0]])).violated.tolist()
        [[True, True]]
        >>> float(constraint(tf.zeros([1, 2]), tf.eye(2), slices=tf.ones([1, 1]))) > 0
        True

    Args:
        target: Target share per group, `[num_groups]`; 0 for a group without a target.
        num_slices: Slices of the users, which then have to be given; with 0 there is one
            constraint for everybody.
        tolerance: Half the width of the band, or one for each slice.
        constrained: Numbers of the groups that are held in their band; by default all that have a
            target.
        margin: How far inside the band the multipliers aim, as a share of the tolerance, so that
            noise does not lead out of it.
        step_size: Of the multipliers, per unit of the ratio and update.
        max_multiplier: No multiplier is further from 0, so that a band that cannot be met does not
            drown the retrieval loss.
        temperature: Divides the scores in the softmax; that of the retrieval loss.
        labels: Names of the groups, for logs; by default their numbers.
    """

    registered_name = "exposure_constraint"
    uses = frozenset({"listed", "slices"})

    def __init__(
        self,
        target: Sequence[float] | np.ndarray,
        num_slices: int,
        tolerance: float | Sequence[float] = 0.05,
        constrained: Sequence[int] | None = None,
        margin: float = 0.3,
        step_size: float = 0.05,
        max_multiplier: float = 5.0,
        temperature: float = 1.0,
        labels: Sequence[str] | None = None,
    ) -> None:
        super().__init__(labels)
        self.target = target_shares_array(target)
        if self.target.ndim != 1:
            raise ValueError(f"`target` should be one share per group. Received: {target}.")
        if num_slices < 0:
            raise ValueError(f"`num_slices` should be at least 0. Received: {num_slices}.")
        self.num_slices = num_slices
        rows = max(1, num_slices)
        self.tolerance = _per_slice(tolerance, rows)
        _check_positive("step_size", step_size)
        _check_positive("max_multiplier", max_multiplier)
        _check_positive("temperature", temperature)
        if not 0 <= margin < 1:
            raise ValueError(f"`margin` should be in [0, 1). Received: {margin}.")
        self.constrained = _constrained(constrained, self.target)
        self.margin = margin
        self.step_size = step_size
        self.max_multiplier = max_multiplier
        self.temperature = temperature
        shape = [rows, len(self.target)]
        self._integral = tf.Variable(tf.zeros(shape), trainable=False, name="multipliers")
        self._pull = tf.Variable(tf.zeros(shape), trainable=False, name="pull")

    @property
    def multipliers(self) -> np.ndarray:
        """Of every slice and group, float32 `[num_slices, num_groups]`."""
        return self._pull.numpy()

    def check(self, candidates: ScoredCandidates) -> None:
        """Raises ValueError where slices are missing or inputs do not fit."""
        super().check(candidates)
        _check_columns("membership", candidates.membership, len(self.target))
        if self.num_slices:
            if candidates.slices is None:
                raise ValueError(
                    f"`{self.registered_name}` needs `slices` as an argument. Received: None."
                )
            _check_columns("slices", candidates.slices, self.num_slices)

    def penalty(self, candidates: ScoredCandidates) -> tf.Tensor:
        """Returns the pull, float scalar, not negative."""
        scores, membership, weights, listed, slices, *_ = candidates
        scores = scores / self.temperature
        if self.num_slices == 0:
            slices = tf.ones([tf.shape(scores)[0], 1], scores.dtype)
        on_list = tf.ones_like(scores) if listed is None else tf.cast(listed, scores.dtype)
        off_list = tf.constant(_NEVER, scores.dtype) * (1 - on_list)
        total = tf.reduce_logsumexp(scores + tf.math.log(weights) + off_list, 1, keepdims=True)
        log_probability = on_list * _at_most_zero(scores - total)
        in_group = membership * weights[:, tf.newaxis]
        size = tf.matmul(on_list, in_group)
        mean = tf.math.divide_no_nan(tf.matmul(log_probability, in_group), size)
        outside = _log_outside(scores - total + tf.math.log(weights) + off_list, membership)
        pull = tf.matmul(slices, self._pull)
        terms = tf.nn.relu(pull) * mean + tf.nn.relu(-pull) * outside
        return _mean_over_queries(-tf.reduce_sum(terms, axis=1))

    def update(self, exposure: np.ndarray) -> ConstraintState:
        """Moves the multipliers by how far exposure is from its bands.

        A multiplier is the sum of all deviations so far, times the step size, and of the present
        one, which damps the swing that a sum alone would give; inside the band it only decays
        through the deviations of the other side.

        Args:
            exposure: float `[num_slices, num_groups]`, summed over the exact lists of each slice.
                A slice without lists, all 0, is left alone.

        Returns:
            How far the constraints were met before the update.
        """
        state = self.state(exposure)
        inner = self.tolerance[:, np.newaxis] * (1 - self.margin)
        deviation = 1 - state.ratio
        # Distance to the nearest point of the inner band: positive below it, negative above.
        outside = np.sign(deviation) * np.maximum(np.abs(deviation) - inner, 0)
        outside = np.where(np.isnan(state.low) | np.isnan(outside), 0.0, outside)
        integral = self._integral.numpy() + self.step_size * outside
        integral = np.clip(integral, -self.max_multiplier, self.max_multiplier)
        self._integral.assign(integral)
        self._pull.assign(integral + self.step_size * outside)
        return state

    def state(self, exposure: np.ndarray) -> ConstraintState:
        """Compares exposure with the bands; see `update`."""
        if np.shape(exposure) != tuple(self._pull.shape):
            raise ValueError(
                f"`exposure` should have the shape {self._pull.shape}. "
                f"Received: {np.shape(exposure)}."
            )
        ratio = exposure_ratio(np.asarray(exposure, np.float64), self.target)
        tolerance = np.broadcast_to(self.tolerance[:, np.newaxis], ratio.shape)
        held = np.where(self.constrained, 1.0, np.nan)
        return ConstraintState(ratio, (1 - tolerance) * held, (1 + tolerance) * held)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal regularizer; its multipliers begin at 0."""
        return {
            **super().get_config(),
            "target": self.target.tolist(),
            "num_slices": self.num_slices,
            "tolerance": self.tolerance.tolist(),
            "constrained": np.flatnonzero(self.constrained).tolist(),
            "margin": self.margin,
            "step_size": self.step_size,
            "max_multiplier": self.max_multiplier,
            "temperature": self.temperature,
        }


def _log_outside(log_probability: tf.Tensor, membership: tf.Tensor) -> tf.Tensor:
    """Log-probability of everything but each group, exact even where it is tiny.

    Args:
        log_probability: float `[num_queries, num_candidates]`, of what each candidate stands for.
        membership: float `[num_candidates, num_groups]`.

    Returns:
        float `[num_queries, num_groups]`; 0, a constant, where a list holds nothing else: there is
        no way down.
    """
    part = tf.transpose(1 - membership)
    log_part = tf.where(part > 0, tf.math.log(tf.where(part > 0, part, 1.0)), _NEVER)
    found = tf.reduce_logsumexp(log_probability[:, tf.newaxis] + log_part, axis=2)
    return tf.where(found > _NEVER / 2, _at_most_zero(found), 0.0)


def _at_most_zero(log_probability: tf.Tensor) -> tf.Tensor:
    """Undoes the rounding that lifts a probability of 1 a hair above it."""
    # `minimum` would swallow NaN under XLA.
    return tf.where(log_probability > 0, 0.0, log_probability)


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"`{name}` should be a positive float. Received: {value}.")


def _per_slice(tolerance: float | Sequence[float], rows: int) -> np.ndarray:
    """Float64 `[num_slices]`."""
    given = np.asarray(tolerance, np.float64)
    if given.shape not in ((), (1,), (rows,)):
        raise ValueError(
            f"`tolerance` should be one, or one for each of {rows} slices. Received: {tolerance}."
        )
    _check_positive("tolerance", given.min())
    return np.broadcast_to(given, [rows]).copy()


def _check_columns(field: str, value: tf.Tensor, expected: int) -> None:
    columns = tf.convert_to_tensor(value).shape[1]
    if columns not in (None, expected):
        raise ValueError(f"`{field}` should have {expected} columns. Received: {columns}.")


def _constrained(numbers: Sequence[int] | None, target: np.ndarray) -> np.ndarray:
    """Bool `[num_groups]`."""
    if numbers is None:
        return target > 0
    constrained = np.isin(np.arange(len(target)), numbers)
    if constrained.sum() != len(set(numbers)) or (target[constrained] == 0).any():
        raise ValueError(
            "`constrained` should be numbers of groups that have a target. "
            f"Received: {list(numbers)}."
        )
    return constrained


def _mean_over_queries(values: tf.Tensor) -> tf.Tensor:
    count = tf.cast(tf.size(values), values.dtype)
    return tf.reduce_sum(values) / tf.maximum(count, 1)
