"""What of the catalogue lists show: every group, how many items, and how evenly."""

from __future__ import annotations

import numpy as np

from fairness_losses.exposure import PADDING, list_exposure
from fairness_losses.metrics.checks import check_target, top_k


def diversity_at_k(
    lists: np.ndarray, membership: np.ndarray, target: np.ndarray, k: int
) -> np.ndarray:
    """Whether the first k candidates of a list hold every group that has a target.

    DIV@k is the mean over lists. Source: Silva et al., "Representation Online Matters: Practical
    End-to-End Diversification in Search and Recommender Systems", FAccT 2023. An item of two
    groups represents both.

    Args:
        lists: int `[num_lists, depth >= k]`, rows of `membership`, best first; `PADDING` for none.
        membership: float `[num_items, num_groups]`, rows sum to 1.
        target: float `[num_groups]`; groups with a target of 0 are not asked for.
        k: Cutoff.

    Returns:
        bool `[num_lists]`.
    """
    check_target(target, membership.shape[1])
    candidates = list_exposure(top_k(lists, k, len(membership)), membership, np.ones(k))
    return holds_every_group(candidates, target)


def holds_every_group(candidates: np.ndarray, target: np.ndarray) -> np.ndarray:
    """`diversity_at_k` of lists whose candidates have been counted.

    Args:
        candidates: float `[num_lists, num_groups]`, of every group in the first k.
        target: float `[num_groups]`; groups with a target of 0 are not asked for.

    Returns:
        bool `[num_lists]`.
    """
    return (candidates[:, target > 0] > 0).all(axis=1)


def item_exposure(lists: np.ndarray, weights: np.ndarray, num_items: int) -> np.ndarray:
    """Exposure of every item, summed over lists: the attention of the ranks at which it stands.

    Of it, `item_exposure @ membership` is the groups' exposure, summed over lists.

    Args:
        lists: int `[num_lists, depth >= k]`, rows of the catalogue, best first; `PADDING` for none.
        weights: float `[k]`, attention per rank (ones count how often an item is listed); or
            `[num_lists, k]` where it depends on the list.
        num_items: Items of the catalogue.

    Returns:
        float64 `[num_items]`, not negative.
    """
    lists = top_k(lists, weights.shape[-1], num_items)
    held = lists != PADDING
    attention = np.broadcast_to(weights, lists.shape)[held]
    return np.bincount(lists[held], attention, minlength=num_items)


def catalogue_coverage(item_exposure: np.ndarray) -> float:
    """Share of the catalogue's items that are listed at least once.

    Source: Herlocker et al., "Evaluating collaborative filtering recommender systems", TOIS 2004.

    Args:
        item_exposure: float `[num_items]`, positive if the item was listed.

    Returns:
        In [0, 1]; NaN for an empty catalogue.
    """
    return float(group_coverage(item_exposure, np.ones((len(item_exposure), 1)))[0])


def group_coverage(item_exposure: np.ndarray, membership: np.ndarray) -> np.ndarray:
    """Share of each group's items that are listed at least once.

    An item of two groups counts for each with its fraction, among the listed and among all.

    Args:
        item_exposure: float `[num_items]`, positive if the item was listed.
        membership: float `[num_items, num_groups]`.

    Returns:
        float64 `[num_groups]`, in [0, 1]; NaN for a group without an item.
    """
    listed = (item_exposure > 0).astype(np.float64) @ membership
    with np.errstate(invalid="ignore"):
        return listed / membership.sum(axis=0, dtype=np.float64)


def gini(item_exposure: np.ndarray) -> float:
    """Gini coefficient of exposure over the catalogue: how unevenly items are shown.

    Half the mean absolute difference between two items' exposures, over their mean. Source: Gini
    1912; for recommendations Fleder and Hosanagar, "Blockbuster Culture's Next Rise or Fall",
    Management Science 2009.

    Args:
        item_exposure: float `[num_items]`, not negative; items that are never listed belong to it.

    Returns:
        From 0 (all items alike) to `1 - 1 / num_items` (one item has it all); NaN if no item was
        exposed.
    """
    return float(group_gini(item_exposure, np.ones((len(item_exposure), 1)))[0])


def group_gini(item_exposure: np.ndarray, membership: np.ndarray) -> np.ndarray:
    """Gini coefficient of exposure within each group: do a few of its items get all of it?

    `sum_ij w_i w_j |x_i - x_j| / (2 * sum w * sum w x)` with the exposures x and the memberships w:
    an item that belongs to a group in half counts as half an item with the exposure it has.

    Args:
        item_exposure: float `[num_items]`, not negative.
        membership: float `[num_items, num_groups]`.

    Returns:
        float64 `[num_groups]`, in [0, 1); NaN for a group that was not exposed.
    """
    # Written so that NaN, which has no place in the order, fails too.
    if not (item_exposure >= 0).all():
        raise ValueError("`item_exposure` should not be negative, nor NaN.")
    order = np.argsort(item_exposure)
    weights = membership[order].astype(np.float64)
    shares = weights * item_exposure[order, None]
    below = shares.cumsum(axis=0)
    # Twice the area under the Lorenz curve, whose height after each item is `below`.
    area = (weights * (2 * below - shares)).sum(axis=0)
    with np.errstate(invalid="ignore"):
        return np.maximum(1.0 - area / (weights.sum(axis=0) * shares.sum(axis=0)), 0.0)
