"""Base of all regularizers: penalties on scores that treat groups other than they should."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import tensorflow as tf

_LOGGED_DEPTH = 100
"""Length of the lists whose exposure is logged."""


class ScoredCandidates(NamedTuple):
    """What regularizers look at. Everything from `listed` on is optional; see `needs`.

    Attributes:
        scores: float `[num_queries, num_candidates]`.
        membership: float `[num_candidates, num_groups]`, each row sums to 1.
        weights: float `[num_candidates]`, how many items of the catalogue each candidate stands
            for.
        listed: bool `[num_queries, num_candidates]`, whether a candidate can be on the query's
            list at all: what a user chose before is left out of it.
        slices: float `[num_queries, num_slices]`, the slices of the users that a query belongs to;
            a query may be in several (`F`, and `25-44`).
        relevance: float `[num_queries, num_candidates]`, the grade of a candidate for the query:
            1 for a positive, 0 for none.
        embeddings: float `[num_candidates, dim]`, the candidates' vectors.
        frequency: float `[num_candidates]`, how often each candidate was chosen in training.
    """

    scores: tf.Tensor
    membership: tf.Tensor
    weights: tf.Tensor
    listed: tf.Tensor | None = None
    slices: tf.Tensor | None = None
    relevance: tf.Tensor | None = None
    embeddings: tf.Tensor | None = None
    frequency: tf.Tensor | None = None


class Regularizer(tf.Module, abc.ABC):
    """A differentiable penalty on the scores of queries and candidates.

    It is a plain callable on tensors: it works in a `tfrs.Model`, in `add_loss` of any Keras
    model and in a custom training step alike. Add it to the loss, times a weight.

    While a `tf.summary` writer records, every call logs for each group how many candidates it had
    and its share of the exposure in the top 100 (`<name>/candidates/<group>`,
    `<name>/exposure_share/<group>`).

    A subclass implements `penalty`, names in `needs` what it looks at beyond scores and
    membership, and is entered into `fairness_losses.registry`.

    Args:
        labels: Names of the groups, for logs; by default their numbers.
    """

    registered_name: ClassVar[str]
    """Name in the registry."""

    needs: ClassVar[frozenset[str]] = frozenset()
    """Optional fields of `ScoredCandidates` that the penalty cannot do without."""

    uses: ClassVar[frozenset[str]] = frozenset()
    """Optional fields that the penalty looks at if they are given."""

    @property
    def judges_relevance(self) -> bool:
        """Whether it looks at how relevant items are scored, which then have to be candidates."""
        return "relevance" in self.needs

    def __init__(self, labels: Sequence[str] | None = None) -> None:
        super().__init__(name=self.registered_name)
        self.labels = None if labels is None else tuple(labels)

    def __call__(
        self,
        scores: tf.Tensor,
        membership: tf.Tensor,
        weights: tf.Tensor | None = None,
        *,
        listed: tf.Tensor | None = None,
        slices: tf.Tensor | None = None,
        relevance: tf.Tensor | None = None,
        embeddings: tf.Tensor | None = None,
        frequency: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the penalty, a float scalar that is not negative; 0 for an empty batch.

        The arguments are the fields of `ScoredCandidates`, which says their shapes. `weights` are
        1 by default. A score that is NaN makes the penalty NaN.

        Raises:
            ValueError: Something the regularizer needs was not given, or shapes do not fit.
        """
        if weights is None:
            weights = tf.ones([tf.shape(scores)[1]], scores.dtype)
        candidates = ScoredCandidates(
            scores, membership, weights, listed, slices, relevance, embeddings, frequency
        )
        self.check(candidates)
        self.log(candidates)
        return self.penalty(candidates)

    @abc.abstractmethod
    def penalty(self, candidates: ScoredCandidates) -> tf.Tensor:
        """Returns the penalty, float scalar, without checks and logs: XLA can compile it."""

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal regularizer, all of them plain values."""
        return {"labels": None if self.labels is None else list(self.labels)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Regularizer:
        """Makes a regularizer of what `get_config` returned."""
        return cls(**config)

    def check(self, candidates: ScoredCandidates) -> None:
        """Raises ValueError where an input is missing or its shape does not fit the others'."""
        fields = candidates._asdict()
        missing = sorted(name for name in self.needs if fields[name] is None)
        if missing:
            raise ValueError(
                f"`{self.registered_name}` needs `{missing[0]}` as an argument. Received: None."
            )
        known: dict[str, int] = {}
        for field, value in fields.items():
            if value is not None:
                _check_shape(field, value, known)

    def log(self, candidates: ScoredCandidates) -> None:
        """Writes candidates and exposure per group to the `tf.summary` writer, if one records."""
        groups = tf.convert_to_tensor(candidates.membership).shape[1]
        labels = self.labels or (groups and [str(group) for group in range(groups)])
        recording = tf.summary.should_record_summaries()
        if not labels or tf.get_static_value(recording) is False:
            return

        def write() -> bool:
            # Else the scopes of loops and branches around the call would be part of the names.
            with tf.name_scope("/"):
                return self._write(candidates, labels)

        tf.cond(recording, write, lambda: False)

    def _write(self, candidates: ScoredCandidates, labels: Sequence[str]) -> bool:
        membership = candidates.membership
        counts = tf.reduce_sum(membership, axis=0)
        exposure = _top_exposure(candidates)
        share = tf.math.divide_no_nan(exposure, tf.reduce_sum(exposure))
        for group, label in enumerate(labels):
            tf.summary.scalar(f"{self.registered_name}/candidates/{label}", counts[group])
            tf.summary.scalar(f"{self.registered_name}/exposure_share/{label}", share[group])
        return True


def target_shares_array(target: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Checks target shares and normalises them.

    Args:
        target: `[num_groups]`, or `[num_slices, num_groups]` for a target per slice of the users;
            0 for a group without a target.

    Returns:
        float64 of the same shape, the last axis summing to 1.

    Raises:
        ValueError: Shares are negative, not finite, or all 0.
    """
    shares = np.asarray(target, dtype=np.float64)
    total = shares.sum(axis=-1, keepdims=True) if shares.ndim else np.zeros(1)
    if (
        shares.ndim not in (1, 2)
        or not (shares >= 0).all()
        or not ((total > 0) & (total < np.inf)).all()
    ):
        raise ValueError(
            "`target` should be a list of shares, one per group, not negative and not all 0. "
            f"Received: {target}."
        )
    return shares / total


_SHAPES = {
    "scores": ("num_queries", "num_candidates"),
    "membership": ("num_candidates", "num_groups"),
    "weights": ("num_candidates",),
    "listed": ("num_queries", "num_candidates"),
    "slices": ("num_queries", "num_slices"),
    "relevance": ("num_queries", "num_candidates"),
    "embeddings": ("num_candidates", "dim"),
    "frequency": ("num_candidates",),
}


def _check_shape(field: str, value: tf.Tensor, known: dict[str, int]) -> None:
    """Checks what is known of a shape before the graph runs, and adds it to `known`."""
    shape, axes = tf.convert_to_tensor(value).shape, _SHAPES[field]
    expected = f"[{', '.join(axes)}]"
    if shape.rank is not None and shape.rank != len(axes):
        raise ValueError(f"`{field}` should have the shape {expected}. Received: {shape}.")
    for axis, size in zip(axes, shape.as_list() if shape.rank is not None else [], strict=False):
        if size is not None and known.setdefault(axis, size) != size:
            raise ValueError(
                f"`{field}` should have the shape {expected} with {axis} = {known[axis]}, as in "
                f"the arguments before it. Received: {shape}."
            )


def _top_exposure(candidates: ScoredCandidates) -> tf.Tensor:
    """Exposure per group in the exact lists of the candidates, with the weights of DCG."""
    scores = candidates.scores
    if candidates.listed is not None:
        scores = tf.where(candidates.listed, scores, -np.inf)
    depth = tf.minimum(_LOGGED_DEPTH, tf.shape(scores)[1])
    values, columns = tf.math.top_k(scores, depth)
    rank = tf.range(2, depth + 2, dtype=tf.int32)
    attention = np.log(2.0) / tf.math.log(tf.cast(rank, scores.dtype))
    attention *= tf.gather(candidates.weights, columns)
    attention = tf.where(values > -np.inf, attention, 0.0)
    return tf.einsum("qk,qkg->g", attention, tf.gather(candidates.membership, columns))
