"""Exposure of item groups in ranked lists: the one definition that every room uses.

The exposure of group g in a list is the attention that falls on its items,

    E_g = sum over ranks r of v(r) * membership(item at r, g),

with the attention v of a browsing model (`fairness_losses.browsing`). Over many lists exposures
are summed. A group's *share* is its part of the exposure of all groups that have a target, so that
`unknown` items neither dilute nor inflate it; its *ratio* is that share over the target share.
Source: Singh and Joachims, "Fairness of Exposure in Rankings", KDD 2018, section 3.
"""

from __future__ import annotations

import numpy as np

PADDING = -1
"""Stands in a list for "no item" (the list is shorter than its row)."""

_BLOCK = 1024
"""Lists looked at together: what is gathered of them stays in the processor's cache."""


def list_exposure(lists: np.ndarray, membership: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Exposure of every group in every list.

    Args:
        lists: int `[num_lists, depth]`, rows of `membership`, best first; `PADDING` for none.
        membership: float `[num_items, num_groups]`.
        weights: float `[depth]`, attention per rank (ones count candidates instead); or
            `[num_lists, depth]` where it depends on the list (`browsing.cascade_weights`).

    Returns:
        float64 `[num_lists, num_groups]`, not negative. A row is zero if its list is empty.

    Raises:
        ValueError: The shapes of lists and weights do not fit.
    """
    if lists.ndim != 2 or weights.shape not in (lists.shape, lists.shape[1:]):
        rows = weights.shape[0] if weights.ndim == 2 else "num_lists"
        raise ValueError(
            f"`lists` should have the shape [{rows}, {weights.shape[-1]}], one column per weight. "
            f"Received: {list(lists.shape)}."
        )
    # The last row is what `PADDING`, -1, takes.
    padded = np.vstack([membership, np.zeros((1, membership.shape[1]))])
    of_groups = [np.ascontiguousarray(part) for part in padded.T]
    exposure = np.empty((len(lists), len(of_groups)))
    for start in range(0, len(lists), _BLOCK):
        block = slice(start, start + _BLOCK)
        attention = weights if weights.ndim == 1 else weights[block]
        for group, parts in enumerate(of_groups):
            # No matrix product: products this small are slower in threads.
            exposure[block, group] = np.einsum("...k,...k", parts[lists[block]], attention)
    return exposure


def exposure_share(exposure: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Share of each group in the exposure of all groups that have a target.

    Args:
        exposure: float `[..., num_groups]`, summed over lists.
        target: float `[num_groups]`, target shares, 0 for a group without a target.

    Returns:
        float64 `[..., num_groups]`. Groups with a target sum to 1; for a group without one it is
        its exposure relative to that same sum. NaN where no group with a target was exposed.
    """
    total = np.where(target > 0, exposure, 0.0).sum(axis=-1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return exposure / total


def exposure_ratio(exposure: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Exposure share over target share: 1 is parity, below 1 under-exposed.

    Args:
        exposure: float `[..., num_groups]`, summed over lists.
        target: float `[num_groups]`, target shares, 0 for a group without a target.

    Returns:
        float64 `[..., num_groups]`, not negative; NaN for groups without a target.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(target > 0, exposure_share(exposure, target) / target, np.nan)
