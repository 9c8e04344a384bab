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

_FEW_ROWS = 64
"""Up to so many, the attention on every row of `membership` is found before that on groups."""


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
    exposure = np.empty((len(lists), membership.shape[1]))
    add_up = _by_row if len(membership) <= _FEW_ROWS else _by_group
    for start in range(0, len(lists), _BLOCK):
        block = slice(start, start + _BLOCK)
        attention = np.broadcast_to(
            weights if weights.ndim == 1 else weights[block], lists[block].shape
        )
        exposure[block] = add_up(lists[block], membership, attention)
    return exposure


def _by_group(lists: np.ndarray, membership: np.ndarray, attention: np.ndarray) -> np.ndarray:
    # The last row is what `PADDING`, -1, takes.
    padded = np.vstack([membership, np.zeros((1, membership.shape[1]))])
    of_groups = (np.ascontiguousarray(parts)[lists] for parts in padded.T)
    # No matrix product: products this small are slower in threads.
    return np.stack([np.einsum("lk,lk->l", parts, attention) for parts in of_groups], axis=1)


def _by_row(lists: np.ndarray, membership: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """First the attention on each row of `membership`, whatever the number of groups."""
    width = len(membership) + 1  # The first is for `PADDING`, -1.
    cells = np.arange(1, len(lists) * width, width)[:, None] + lists
    of_rows = np.bincount(cells.ravel(), attention.ravel(), minlength=len(lists) * width)
    return np.einsum("lr,rg->lg", of_rows.reshape(-1, width)[:, 1:], membership)


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
