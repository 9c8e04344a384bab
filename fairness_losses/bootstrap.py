"""User-level bootstrap: how far a figure would move with other users of the same kind.

Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 6 and 13.
"""

from __future__ import annotations

import numpy as np

_BLOCK = 1 << 19
"""Resample weights held at once (4 MiB): they stay in the processor's cache."""


def resampled_sums(per_user: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """Sums over users drawn with replacement, as many as there are.

    Means, shares and ratios follow from sums, so one call serves every figure of a cell. The same
    seed and number of users give the same draws: differences between two runs are then paired.

    Args:
        per_user: float `[num_users, num_sums]`, finite.
        samples: Number of resamples.
        seed: Of the draws.

    Returns:
        float64 `[samples, num_sums]`.
    """
    # scipy.stats.bootstrap copies the data for every resample. How often a user was drawn says the
    # same, so here a resample is a row of counts, and all sums of all resamples are one matrix
    # product: 0.05 s instead of 0.8 s for 1000 resamples of 6040 users and 13 sums, two cores.
    num_users = len(per_user)
    rng = np.random.default_rng(seed)
    sums = np.empty((samples, per_user.shape[1]))
    rows = max(1, _BLOCK // num_users)
    for start in range(0, samples, rows):
        block = min(rows, samples - start)
        drawn = rng.integers(num_users, size=(block, num_users))
        drawn += num_users * np.arange(block)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=block * num_users)
        sums[start : start + block] = counts.reshape(block, num_users).astype(float) @ per_user
    return sums


def percentile_interval(draws: np.ndarray, confidence: float) -> tuple[float, float]:
    """Percentile interval of one figure.

    Args:
        draws: float `[samples]`, the figure of every resample; NaN where it was undefined, which is
            left out.
        confidence: Level, for example 0.95.

    Returns:
        Lower and upper end; both NaN if no draw is defined. An end that infinite draws reach is not
        finite.
    """
    defined = draws[~np.isnan(draws)]
    if not len(defined):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def estimate(
    value: float, draws: np.ndarray, confidence: float, count: int
) -> dict[str, float] | None:
    """A figure with its percentile interval, as JSON values.

    Args:
        value: The figure.
        draws: float `[samples]`, the figure of every resample.
        confidence: Level of the interval.
        count: What the figure rests on.

    Returns:
        `{"value", "low", "high", "count"}`; None unless all are finite.
    """
    low, high = percentile_interval(draws, confidence)
    if not np.isfinite([value, low, high]).all():
        return None
    return {"value": value, "low": low, "high": high, "count": count}
