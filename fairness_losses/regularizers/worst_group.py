"""Worst group: the slice of users that is served worst should be served better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fairness_losses.regularizers.base import Regularizer, ScoredCandidates

_NEVER = -1e9
"""Added to the logit of a candidate that cannot be chosen; unlike -inf it keeps NaN visible."""


class WorstGroup(Regularizer):
    """Retrieval loss of the user slices, weighted towards those whose loss is high.

    With the mean loss `l_a` of the queries of slice a, the weights q of the slices (all equal at
    first) move by exponentiated gradient ascent before each is used,

        q_a <- q_a * exp(step_size * l_a), normalised;    penalty = sum over a of q_a * l_a.

    Weights and model approach the equilibrium of `min over models, max over slices of l_a`: Sagawa
    et al., "Distributionally Robust Neural Networks for Group Shifts", ICLR 2020, Algorithm 1. A
    slice that is absent from a batch keeps its weight, and adds nothing to the penalty: the present
    ones share what they had together. (In the authors' code its weight falls, which a small slice
    would pay for with every batch that misses it.)

    The loss of a query is the softmax cross-entropy of its positives among its candidates,

        l = mean over positives i of log(sum over j of w_j * exp(s_j / T)) - s_i / T,

    in nats, with the weights w of the candidates, in the mean as well. Candidates that are not
    listed are left out of the sum unless they are positives. A query of several slices counts in
    each; one without a positive counts nowhere. With weights of at least 1 the penalty is not
    negative. It is zero only where every positive is certain.

    Use it where some users are served worse than others and equal averages hide it; it says nothing
    about groups of items. Batches should hold queries of every slice. The weight of a slice that is
    hard by nature (few, or contradictory, choices) grows as well: watch
    `worst_group/weight/<slice number>` and stop where one slice has it all. Leave a column out of
    `slices` to leave its users out (`unknown`).

    It has a state: every call moves the weights, so call it with batches of the training only. The
    weights are a variable that checkpoints store, not part of `get_config`. A batch whose loss is
    not finite does not move them.

    Cost: one softmax over the scores, time and memory `O(num_queries * num_candidates)`.

    Example:
        >>> worst = WorstGroup(num_slices=2)
        >>> inputs = {"membership": tf.eye(2), "slices": tf.eye(2), "relevance": tf.eye(2)}
        >>> bool(worst(tf.zeros([2, 2]), **inputs) < worst(-tf.eye(2), **inputs))
        True

    Args:
        num_slices: Number of columns of `slices`.
        step_size: Of the weights, per nat and call. 0 keeps the slices equal: the average over
            slices instead of the worst.
        temperature: Divides the scores in the softmax. The default is that of the towers' loss, for
            vectors of length 1.
        labels: Names of the groups of items, for logs; by default their numbers.
    """

    registered_name = "worst_group"
    needs = frozenset({"slices", "relevance"})
    uses = frozenset({"listed"})

    def __init__(
        self,
        num_slices: int,
        step_size: float = 0.01,
        temperature: float = 0.15,
        labels: Sequence[str] | None = None,
    ) -> None:
        super().__init__(labels)
        if num_slices < 1:
            raise ValueError(f"`num_slices` should be at least 1. Received: {num_slices}.")
        if not 0 <= step_size < math.inf:
            raise ValueError(
                f"`step_size` should be a float that is not negative. Received: {step_size}."
            )
        if not temperature > 0:
            raise ValueError(f"`temperature` should be a positive float. Received: {temperature}.")
        self.num_slices = num_slices
        self.step_size = step_size
        self.temperature = temperature
        # Logarithms, since a weight that has underflowed to 0 could never grow again.
        self._log_weights = tf.Variable(
            tf.fill([num_slices], -math.log(num_slices)), trainable=False, name="log_weights"
        )

    @property
    def slice_weights(self) -> tf.Tensor:
        """Present weights of the slices, float32 `[num_slices]`, summing to 1."""
        return tf.exp(self._log_weights)

    def check(self, candidates: ScoredCandidates) -> None:
        """Raises ValueError where inputs do not fit, or there are more or fewer slices."""
        super().check(candidates)
        slices = tf.convert_to_tensor(candidates.slices).shape[1]
        if slices is not None and slices != self.num_slices:
            raise ValueError(
                f"`slices` should have {self.num_slices} columns, one per slice (`num_slices`). "
                f"Received: {slices}."
            )

    def penalty(self, candidates: ScoredCandidates) -> tf.Tensor:
        """Moves the weights, then returns the penalty, float scalar."""
        loss, present = self._slice_losses(candidates)
        self._move_weights(tf.cast(tf.stop_gradient(loss), tf.float32), present)
        return tf.tensordot(tf.cast(self.slice_weights, loss.dtype), loss, 1)

    def _slice_losses(self, candidates: ScoredCandidates) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean loss per slice, 0 where absent, and whether it is present, `[num_slices]` each."""
        logits = candidates.scores / self.temperature
        positive = tf.greater(candidates.relevance, 0)
        mass = tf.cast(positive, logits.dtype) * candidates.weights
        among = logits + tf.math.log(candidates.weights)
        if candidates.listed is not None:
            can_be_chosen = positive | candidates.listed
            among += tf.cast(tf.where(can_be_chosen, 0.0, _NEVER), among.dtype)
        loss = mass * (tf.reduce_logsumexp(among, axis=1, keepdims=True) - logits)
        has_positive = tf.reduce_any(positive, axis=1)
        per_query = _over(tf.reduce_sum(loss, axis=1), tf.reduce_sum(mass, axis=1))
        counted = candidates.slices * tf.cast(has_positive, logits.dtype)[:, tf.newaxis]
        queries = tf.reduce_sum(counted, axis=0)
        return _over(tf.linalg.matvec(counted, per_query, transpose_a=True), queries), queries > 0

    def _move_weights(self, loss: tf.Tensor, present: tf.Tensor) -> None:
        before = self._log_weights.value()
        grown = before + self.step_size * loss
        # The present slices share, after the step, the weight they had before it.
        moved = grown - _log_sum(grown, present) + _log_sum(before, present)
        usable = present & tf.math.is_finite(moved)
        self._log_weights.assign(tf.where(usable, moved, before))

    def _write(self, candidates: ScoredCandidates, labels: Sequence[str]) -> bool:
        for number, weight in enumerate(tf.unstack(self.slice_weights)):
            tf.summary.scalar(f"{self.registered_name}/weight/{number}", weight)
        return super()._write(candidates, labels)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal regularizer, its weights at their start."""
        return {
            **super().get_config(),
            "num_slices": self.num_slices,
            "step_size": self.step_size,
            "temperature": self.temperature,
        }


def _log_sum(log_values: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    return tf.reduce_logsumexp(tf.where(counted, log_values, -math.inf))


def _over(value: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """The quotient; the value itself where the count is 0, so that NaN stays NaN."""
    return value / tf.where(count > 0, count, tf.ones_like(count))
