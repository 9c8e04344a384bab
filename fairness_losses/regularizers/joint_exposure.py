"""Joint multisided exposure: no kind of user should see a kind of item more than merited."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fairness_losses.metrics.joint_exposure import KINDS, Kind
from fairness_losses.regularizers.base import Regularizer, ScoredCandidates
from fairness_losses.regularizers.excluded import without_groups
from fairness_losses.soft_ranking_policy import SoftRankingPolicy, merit_exposure


class JointExposure(Regularizer):
    """Mean squared deviation of exposure from merit, averaged over users and items or not.

    With the expected exposure E of each candidate to each query's user under a stochastic ranking
    policy on the scores (`SoftRankingPolicy`), its target by merit E* (`merit_exposure`: candidates
    of the same relevance share the ranks below those of a higher one) and D = E - E*, the kinds
    average D over individual users (I), slices (G) or all users (A), and over individual items (I)
    or groups (G), before it is squared:

        II  mean over queries and items of D^2
        IG  mean over queries and groups of (mean of D over the group's items)^2
        GI  mean over slices and items of (mean of D over the slice's queries)^2
        GG  mean over slices and groups of (mean of D over both)^2
        AI  mean over items of (mean of D over all queries)^2
        AG  mean over groups of (mean of D over all queries and the group's items)^2

        penalty = sum over kinds of weight * the kind's mean.

    Each mean is in [0, 1] and zero if and only if D averages to zero in every one of its cells: a
    GG of zero leaves open which item of a group is shown to whom in a slice. The numbers are small,
    as most items should have no exposure: expect to need a large factor in the loss.
    Source: Wu, Mitra, Ma, Diaz and Liu, "Joint Multisided Exposure Fairness for Recommendation",
    SIGIR 2022; their metrics: `metrics.joint_exposure`. The means are over the queries of the
    batch, and in a small batch a slice's mean is far from zero by chance alone.

    A candidate that stands for w items counts w-fold in every mean over items. What is not `listed`
    for a query is left out, of exposure, merit and every mean. Memberships count with their
    fraction; slices and groups without members in the batch take no part. Only a query's best
    `depth` candidates have exposure, and only they have a gradient.

    Example:
        >>> joint = JointExposure("GG", patience=0.5, temperature=1e-3, policy_temperature=0.0)
        >>> scores, relevance = tf.constant([[0.9, 0.1]]), tf.constant([[0.0, 1.0]])
        >>> float(joint(scores, tf.eye(2), slices=tf.ones([1, 1]), relevance=relevance))
        0.25

    Args:
        kind: One of II, IG, GI, GG, AI and AG, or the weights of several, not negative and not all
            0. GI and GG need `slices`.
        patience: Probability that a user who looked at a rank looks at the next one, in (0, 1).
        temperature: Softness of the ranks, in units of the scores. The default suits vectors of
            length 1.
        policy_temperature: Scale of the policy's noise, in units of the scores: it draws candidates
            with a probability proportional to `exp(score / policy_temperature)`. 0: the list is in
            the order of the scores.
        num_samples: Lists drawn per query, where there is noise.
        depth: Candidates of each query that are ranked. Time and memory grow with its square.
        seed: Of the noise.
        excluded: Numbers of the item groups that are left out of IG, GG and AG, `unknown` for
            example.
        labels: Names of the groups, for logs; by default their numbers.
    """

    registered_name = "joint_exposure"
    needs = frozenset({"relevance"})
    uses = frozenset({"slices", "listed"})

    def __init__(
        self,
        kind: Kind | Mapping[Kind, float] = "GG",
        patience: float = 0.8,
        temperature: float = 0.03,
        policy_temperature: float = 0.03,
        num_samples: int = 8,
        depth: int = 100,
        seed: int = 0,
        excluded: Sequence[int] = (),
        labels: Sequence[str] | None = None,
    ) -> None:
        super().__init__(labels)
        self.kind_weights = _kind_weights(kind)
        self.policy = SoftRankingPolicy(
            patience, temperature, policy_temperature, num_samples, depth, seed
        )
        self.excluded = tuple(sorted(set(excluded)))

    def check(self, candidates: ScoredCandidates) -> None:
        """Raises ValueError where an input is missing or does not fit."""
        super().check(candidates)
        of_slices = sorted(kind for kind in self.kind_weights if kind[0] == "G")
        if of_slices and candidates.slices is None:
            raise ValueError(
                f"`{self.registered_name}` needs `slices` for the kind {of_slices[0]}. "
                "Received: None."
            )

    def penalty(self, candidates: ScoredCandidates) -> tf.Tensor:
        """Returns the penalty, float scalar, not negative."""
        scores, weights, listed = candidates.scores, candidates.weights, candidates.listed
        exposure = self.policy.exposure(scores, weights, listed)
        target = merit_exposure(candidates.relevance, self.policy.patience, weights, listed)
        is_listed = tf.ones_like(scores) if listed is None else tf.cast(listed, scores.dtype)
        groups = without_groups(candidates.membership, self.excluded)
        over_users = {
            "I": None,
            "G": candidates.slices,
            "A": tf.ones([tf.shape(scores)[0], 1], scores.dtype),
        }
        over_items = {"I": None, "G": groups * weights[:, tf.newaxis]}
        penalty = tf.zeros([], scores.dtype)
        for kind, factor in self.kind_weights.items():
            users, items = over_users[kind[0]], over_items[kind[1]]
            count = _summed(is_listed, users, items)
            average = tf.math.divide_no_nan(_summed(exposure - target, users, items), count)
            cells = tf.cast(count > 0, scores.dtype) * (weights if kind[1] == "I" else 1.0)
            squares = tf.reduce_sum(cells * tf.square(average))
            penalty += factor * tf.math.divide_no_nan(squares, tf.reduce_sum(cells))
        return penalty

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal regularizer."""
        return {
            **super().get_config(),
            **self.policy.get_config(),
            "kind": dict(self.kind_weights),
            "excluded": list(self.excluded),
        }


def _summed(values: tf.Tensor, users: tf.Tensor | None, items: tf.Tensor | None) -> tf.Tensor:
    """Sums over groups of users and items; None keeps individuals."""
    if users is not None:
        values = tf.matmul(users, values, transpose_a=True)
    return values if items is None else tf.matmul(values, items)


def _kind_weights(kind: Kind | Mapping[Kind, float]) -> dict[Kind, float]:
    weights = {kind: 1.0} if isinstance(kind, str) else dict(kind)
    foreign = [name for name in weights if name not in KINDS]
    if foreign:
        raise ValueError(f"`kind` should be one of {', '.join(KINDS)}. Received: {foreign[0]}.")
    total = sum(weights.values())
    if not (all(weight >= 0 for weight in weights.values()) and 0 < total < np.inf):
        raise ValueError(
            "`kind` should have weights that are not negative and not all 0. "
            f"Received: {list(weights.values())}."
        )
    return {name: float(weight) for name, weight in weights.items() if weight}
