"""The policy's targets as numbers: a row for all, and one for every slice with its own."""

from __future__ import annotations

import dataclasses

import numpy as np

from fairness_losses.config import TargetConfig
from fairness_losses.groups import Groups
from fairness_losses.targets import target_shares
from serving.mix.config import PolicyConfig


@dataclasses.dataclass(frozen=True)
class Targets:
    """The policy rows: the first is the default, the others are those of user slices.

    Attributes:
        labels: Groups, `unknown` last where it occurs.
        codes: Group of every item, int32 `[num_items]`.
        shares: float64 `[num_rows, num_groups]`, rows sum to 1; 0 for a group without a target,
            which only `unknown` can be.
        tolerance: float64 `[num_rows]`.
    """

    labels: tuple[str, ...]
    codes: np.ndarray
    shares: np.ndarray
    tolerance: np.ndarray


def resolve_targets(
    group_labels: np.ndarray,
    policy: PolicyConfig,
    target: TargetConfig,
    relevance: np.ndarray | None = None,
) -> Targets:
    """Target shares of the policy for all and of those of user slices.

    Args:
        group_labels: Group of every item, string `[num_items]`.
        policy: With `by_slice`, whose values become rows in the order of their names.
        target: Where the policy has none of its own.
        relevance: For a target by merit: how often each item was chosen, `[num_items]`.

    Raises:
        InvalidInputError: A target does not fit the groups of the catalogue.
    """
    groups = Groups.from_labels(group_labels)
    codes = groups.codes
    if policy.kind == "relevance":
        # Nothing is bounded, and `unknown` items alone should do.
        share = np.full((1, len(groups.labels)), 1.0 / len(groups.labels))
        return Targets(groups.labels, codes, share, np.ones(1))
    target = policy.target or target
    default = target_shares(groups, target, relevance)
    shares, tolerance = [default], [policy.tolerance]
    for _, own in sorted(policy.by_slice.values.items()) if policy.by_slice else ():
        explicit = TargetConfig(
            kind="explicit", shares=own.shares, include_unknown=target.include_unknown
        ) if own.shares else None  # fmt: skip
        shares.append(target_shares(groups, explicit) if explicit else default)
        tolerance.append(policy.tolerance if own.tolerance is None else own.tolerance)
    return Targets(groups.labels, codes, np.stack(shares), np.array(tolerance))
