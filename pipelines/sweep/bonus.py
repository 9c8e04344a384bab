"""A constant score bonus for a group: the cheapest way to expose it, and so the one to beat.

It needs no training and no labels. Its frontier is what a regularizer has to improve on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

_HALVINGS = 24


def with_bonus(
    query: np.ndarray, candidate: np.ndarray, bonus: np.ndarray, in_group: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of one more dimension, whose inner products include the bonus.

        <q', c'> = <q, c> + bonus(q) * in_group(c)

    It is therefore a bonus that any index can serve.

    Args:
        query: float32 `[num_users, dim]`.
        candidate: float32 `[num_items, dim]`.
        bonus: float `[num_users]`, in units of the score.
        in_group: float `[num_items]`, the part of each item that is of the group.

    Returns:
        Queries and candidates, float32 `[..., dim + 1]`.
    """
    return (
        np.column_stack([query, bonus]).astype(np.float32),
        np.column_stack([candidate, in_group]).astype(np.float32),
    )


def tune_bonuses(
    ratios: Callable[[np.ndarray], np.ndarray], wanted: float, num_slices: int, reach: float
) -> np.ndarray:
    """Finds the bonus of every slice that brings its exposure ratio to the wanted one.

    A group's ratio never falls as its bonus rises, so halving the interval finds it: for all
    slices at once, as their lists have nothing to do with each other.

    Args:
        ratios: Exposure ratio of the group in every slice, `[num_slices]`, of the bonuses
            `[num_slices]`.
        wanted: The ratio to meet.
        num_slices: Number of slices.
        reach: No bonus is further from 0: where even that does not give the ratio, it is the
            bonus.

    Returns:
        float64 `[num_slices]`; 0 for a slice without a ratio, such as one without lists.
    """
    low, high = np.full(num_slices, -reach), np.full(num_slices, reach)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = ratios(middle)
        short = found < wanted
        low, high = np.where(short, middle, low), np.where(short, high, middle)
    return np.where(np.isnan(found), 0.0, (low + high) / 2)
