"""Skew of a list: a group's share of the candidates, as a log ratio to its target.

Source: Geyik, Ambler and Kenthapadi, "Fairness-Aware Ranking in Search & Recommendation Systems
with Application to LinkedIn Talent Search", KDD 2019.
"""

from __future__ import annotations

import numpy as np

from fairness_losses.exposure import exposure_ratio, list_exposure
from fairness_losses.metrics.checks import check_target, top_k


def skew_at_k(lists: np.ndarray, membership: np.ndarray, target: np.ndarray, k: int) -> np.ndarray:
    """Skew of every group among the first k candidates of every list.

    The definition is `group_skew`'s. A mean of skews over lists is -inf as soon as one list lacks a
    group; to judge many lists, take the `group_skew` of the candidates summed over them.

    Args:
        lists: int `[num_lists, depth >= k]`, rows of `membership`, best first; `PADDING` for none.
        membership: float `[num_items, num_groups]`, rows sum to 1.
        target: float `[num_groups]`, target shares, 0 for a group without a target.
        k: Cutoff.

    Returns:
        float64 `[num_lists, num_groups]`, as of `group_skew`.
    """
    top = top_k(lists, k, len(membership))
    return group_skew(list_exposure(top, membership, np.ones(k)), target)


def group_skew(candidates: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Skew of every group: `ln(p_g / target_g)`, with p_g the group's share of the candidates.

    The share is taken among the groups that have a target, as `exposure_share` does, where Geyik
    et al. know no other groups. An item of two groups counts for each with its fraction.

    Args:
        candidates: float `[..., num_groups]`, candidates per group: of one list or summed over
            lists. Only their proportions matter.
        target: float `[num_groups]`, target shares, 0 for a group without a target.

    Returns:
        float64 `[..., num_groups]`, from -inf (none of the group's items are there) to
        `-ln(target_g)` (no others are); 0 at the target, below 0 under-represented. NaN for a
        group without a target, and where no group with a target has a candidate.
    """
    check_target(target, candidates.shape[-1])
    with np.errstate(divide="ignore"):
        return np.log(exposure_ratio(candidates, target))


def min_skew(candidates: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest skew among the groups with a target: how far the worst-off group is behind.

    Args:
        candidates: float `[..., num_groups]`, candidates per group.
        target: float `[num_groups]`, target shares, 0 for a group without a target.

    Returns:
        float64 `[...]`, not positive; 0 if and only if every group is at its target. NaN where no
        group with a target has a candidate.
    """
    return group_skew(candidates, target)[..., target > 0].min(axis=-1)


def max_skew(candidates: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The largest skew among the groups with a target: how far the best-off group is ahead.

    Args:
        candidates: float `[..., num_groups]`, candidates per group.
        target: float `[num_groups]`, target shares, 0 for a group without a target.

    Returns:
        float64 `[...]`, not negative; 0 if and only if every group is at its target. NaN where no
        group with a target has a candidate.
    """
    return group_skew(candidates, target)[..., target > 0].max(axis=-1)
