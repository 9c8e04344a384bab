"""Whether an item's chance to be recommended depends on its group: RSP and REO.

Source: Zhu, Wang and Caverlee, "Measuring and Mitigating Item Under-Recommendation Bias in
Personalized Ranking Systems", SIGIR 2020. Both are the standard deviation over the mean of one
probability per group. A target only says which groups are compared: those that have one.
"""

from __future__ import annotations

import numpy as np

from fairness_losses.exposure import PADDING, list_exposure
from fairness_losses.metrics.checks import check_target, top_k


def rsp_at_k(
    lists: np.ndarray,
    membership: np.ndarray,
    target: np.ndarray,
    k: int,
    available: np.ndarray | None = None,
) -> float:
    """Ranking-based statistical parity: spread of P(recommended | group).

    The probability of group g is its candidates in the top k of all lists over the candidates it
    could have had there: its items, once per list. An item of two groups counts for each with its
    fraction, above and below the line.

    Args:
        lists: int `[num_lists, depth >= k]`, rows of `membership`, best first; `PADDING` for none.
        membership: float `[num_items, num_groups]`, rows sum to 1.
        target: float `[num_groups]`; groups with a target of 0 are left out.
        k: Cutoff.
        available: float `[num_groups]`, summed over lists, the group's items that could be on the
            list. By default the whole catalogue for every list; Zhu et al. leave out what the
            list's user had chosen before.

    Returns:
        In [0, sqrt(number of groups - 1)], as of `relative_deviation`.
    """
    candidates = list_exposure(top_k(lists, k, len(membership)), membership, np.ones(k)).sum(axis=0)
    if available is None:
        available = len(lists) * membership.sum(axis=0, dtype=np.float64)
    return relative_deviation(recommendation_probability(candidates, available), target)


def reo_at_k(
    lists: np.ndarray,
    hits: np.ndarray,
    relevant: np.ndarray,
    membership: np.ndarray,
    target: np.ndarray,
    k: int,
) -> float:
    """Ranking-based equal opportunity: spread of P(recommended | group, relevant).

    The probability of group g is the part of its relevant items that reach the top k: over all
    lists, its hits there over its relevant items.

    Args:
        lists: int `[num_lists, depth >= k]`, rows of `membership`, best first; `PADDING` for none.
        hits: bool, of the shape of `lists`, whether the item at a rank is relevant.
        relevant: int `[num_items]`, the number of lists to whose users an item is relevant, found
            or not.
        membership: float `[num_items, num_groups]`, rows sum to 1.
        target: float `[num_groups]`; groups with a target of 0 are left out.
        k: Cutoff.

    Returns:
        In [0, sqrt(number of groups - 1)], as of `relative_deviation`. A group without a relevant
        item takes no part.
    """
    if hits.shape != lists.shape or relevant.shape != (len(membership),):
        raise ValueError(
            f"`hits` and `relevant` should have the shapes {list(lists.shape)} and "
            f"[{len(membership)}]. Received: {list(hits.shape)} and {list(relevant.shape)}."
        )
    top = np.where(hits[:, :k], top_k(lists, k, len(membership)), PADDING)
    found = list_exposure(top, membership, np.ones(k)).sum(axis=0)
    to_find = relevant.astype(np.float64) @ membership
    return relative_deviation(recommendation_probability(found, to_find), target)


def recommendation_probability(recommended: np.ndarray, available: np.ndarray) -> np.ndarray:
    """Part of each group's available items that were recommended.

    Args:
        recommended: float `[num_groups]`, candidates per group, summed over lists.
        available: float `[num_groups]`, what they could have been, summed over lists.

    Returns:
        float64 `[num_groups]`, in [0, 1]; NaN for a group that had nothing to recommend.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(available > 0, recommended / available, np.nan)


def relative_deviation(probabilities: np.ndarray, target: np.ndarray) -> float:
    """Standard deviation over mean of the probabilities of the groups with a target.

    Args:
        probabilities: float `[num_groups]`, NaN for a group without one, which is left out.
        target: float `[num_groups]`; groups with a target of 0 are left out.

    Returns:
        In [0, sqrt(number of groups - 1)]: 0 if and only if all probabilities are the same (as for
        a single group), the upper end if only one of them is positive. NaN if all are 0 or none
        is left.
    """
    check_target(target, len(probabilities))
    compared = probabilities[(target > 0) & ~np.isnan(probabilities)]
    if not compared.any():
        return float("nan")
    return float(compared.std() / compared.mean())
