"""Expected exposure: items, or groups, should have the exposure that their relevance merits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from fairness_losses.regularizers.base import Regularizer, ScoredCandidates
from fairness_losses.regularizers.excluded import without_groups
from fairness_losses.soft_ranking_policy import SoftRankingPolicy, merit_exposure


class ExpectedExposure(Regularizer):
    """Squared distance of expected exposure from merit, on average over queries.

    With the expected exposure `E_i` of candidate i under a stochastic ranking policy on the scores
    (`SoftRankingPolicy`), its target by merit `E*_i` (`merit_exposure`: candidates of the same
    relevance share the ranks below those of a higher one) and the `w_i` items it stands for,

        penalty = mean over queries of sum over i of w_i * (E_i - E*_i)^2,

    the metric EE-L of Diaz, Mitra, Ekstrand, Biega and Carterette, "Evaluating Stochastic Rankings
    with Expected Exposure", CIKM 2020, and its optimisation in section 6 there. By group it is

        penalty = mean over queries of sum over g of (sum over i of w_i * m_ig * (E_i - E*_i))^2,

    with the membership m, which leaves open which of a group's items are exposed. Zero if and only
    if exposure is merit, of every item or in sum of every group. Without weights at most
    `2 / (1 - patience^2)`, and by group, where membership sums to at most 1,
    `2 / (1 - patience)^2`.

    No list in a fixed order gives two items of the same merit the same exposure: without noise
    (`policy_temperature=0`) the penalty rewards scores that are almost equal, not a better policy.
    What is served should then draw from the policy, too.

    Only a query's best `depth` candidates have exposure, and only they have a gradient. What is not
    `listed` has neither exposure nor merit. A query without any relevant candidate asks for equal
    exposure of all. It needs a relevance for every candidate, not only for those a user happened to
    see; what is unknown counts as not relevant.

    Example:
        >>> merit = ExpectedExposure(patience=0.5, temperature=1e-3, policy_temperature=0.0)
        >>> scores, relevance = tf.constant([[0.9, 0.1]]), tf.constant([[0.0, 1.0]])
        >>> float(merit(scores, membership=tf.eye(2), relevance=relevance))
        0.5

    Args:
        by_group: Whether groups rather than items should have the exposure they merit.
        patience: Probability that a user who looked at a rank looks at the next one, in (0, 1).
        temperature: Softness of the ranks, in units of the scores. The default suits vectors of
            length 1.
        policy_temperature: Scale of the policy's noise, in units of the scores: it draws candidates
            with a probability proportional to `exp(score / policy_temperature)`. 0: the list is in
            the order of the scores.
        num_samples: Lists drawn per query, where there is noise.
        depth: Candidates of each query that are ranked. Time and memory grow with its square.
        seed: Of the noise.
        excluded: Numbers of the groups that are left out by group, `unknown` for example.
        labels: Names of the groups, for logs; by default their numbers.
    """

    registered_name = "expected_exposure"
    needs = frozenset({"relevance"})
    uses = frozenset({"listed"})

    def __init__(
        self,
        by_group: bool = False,
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
        self.by_group = by_group
        self.policy = SoftRankingPolicy(
            patience, temperature, policy_temperature, num_samples, depth, seed
        )
        self.excluded = tuple(sorted(set(excluded)))

    def penalty(self, candidates: ScoredCandidates) -> tf.Tensor:
        """Returns the penalty, float scalar, not negative."""
        sample = candidates.weights, candidates.listed
        exposure = self.policy.exposure(candidates.scores, *sample)
        deviation = exposure - merit_exposure(candidates.relevance, self.policy.patience, *sample)
        weights = candidates.weights
        if self.by_group:
            membership = without_groups(candidates.membership, self.excluded)
            squares = tf.square(tf.matmul(deviation * weights, membership))
        else:
            squares = weights * tf.square(deviation)
        num_queries = tf.cast(tf.shape(deviation)[0], deviation.dtype)
        return tf.reduce_sum(squares) / tf.maximum(num_queries, 1)

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal regularizer."""
        return {
            **super().get_config(),
            **self.policy.get_config(),
            "by_group": self.by_group,
            "excluded": list(self.excluded),
        }
