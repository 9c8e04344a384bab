"""What every metric asks of its arguments."""

from __future__ import annotations

import numpy as np

from fairness_losses.exposure import PADDING


def top_k(lists: np.ndarray, k: int, num_items: int) -> np.ndarray:
    """Returns the first k ranks of lists that hold rows of a catalogue and nothing else.

    Args:
        lists: int `[num_lists, depth >= k]`, rows of the catalogue, best first; `PADDING` for none.
        k: Cutoff, at least 1.
        num_items: Items of the catalogue.

    Returns:
        int `[num_lists, k]`.

    Raises:
        ValueError: The lists are not integers, not as deep as the cutoff, or name an item that
            the catalogue does not have (NumPy would take -2 for the last row but one).
    """
    if k < 1:
        raise ValueError(f"`k` should be at least 1. Received: {k}.")
    if lists.ndim != 2 or lists.shape[1] < k:
        raise ValueError(
            f"`lists` should have the shape [num_lists, at least {k}]. "
            f"Received: {list(lists.shape)}."
        )
    if not np.issubdtype(lists.dtype, np.integer):
        raise ValueError(f"`lists` should hold integers. Received: {lists.dtype}.")
    if lists.size and not (lists.min() >= PADDING and lists.max() < num_items):
        raise ValueError(
            f"`lists` should hold rows of a catalogue of {num_items} items, or {PADDING} for none. "
            f"Received: numbers from {lists.min()} to {lists.max()}."
        )
    return lists[:, :k]


def check_target(target: np.ndarray, num_groups: int) -> None:
    """Raises a ValueError unless `target` holds shares of `num_groups` groups that sum to 1.

    Args:
        target: float `[num_groups]`, target shares, 0 for a group without a target.
        num_groups: Groups of the catalogue.
    """
    if target.shape != (num_groups,):
        raise ValueError(
            f"`target` should have the shape [{num_groups}], one share per group. "
            f"Received: {list(target.shape)}."
        )
    # Written so that NaN fails too.
    if not ((target >= 0).all() and np.isclose(target.sum(), 1.0)):
        raise ValueError(
            "`target` should hold shares that sum to 1, 0 for a group without a target. "
            f"Received: {target.tolist()}."
        )
