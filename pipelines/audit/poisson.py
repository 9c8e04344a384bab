"""Poisson bootstrap: resamples of users whose sums can be added up in any order.

A resample of n out of n users draws each about Poisson(1) times. Drawing each independently, from a
hash of the user, gives the same intervals for many users, and needs neither n nor all users in one
place: every worker knows how often a user is in a resample, all lists of a user are drawn together,
and two variants are compared on the same resamples.

Sources: Hanley and MacGibbon, "Creating non-parametric bootstrap samples using Poisson
frequencies", Computer Methods and Programs in Biomedicine 2006; Chamandy, Muralidharan, Najmi and
Naidu, "Estimating Uncertainty for Massive Data Streams", Google 2012.
"""

from __future__ import annotations

import numpy as np
from scipy import stats

_BITS = 16
"""A draw takes so many bits, and a hash of 64 holds four."""

_DRAWS = 64 // _BITS


def _counts_by_draw() -> np.ndarray:
    """How often a user is drawn, for every draw.

    Probabilities are rounded to 2^-16, so none is drawn more than 8 times (1 in 10^6 should be).
    The mean is 1 and the variance 1 - 3e-5.
    """
    below = np.round(stats.poisson.cdf(np.arange(9), 1.0) * 2**_BITS).astype(int)
    below[-1] = 2**_BITS
    return np.searchsorted(below, np.arange(2**_BITS), side="right").astype(np.uint8)


_COUNTS = _counts_by_draw()


def poisson_counts(users: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """How often each user is in each resample: a function of its arguments and nothing else.

    Args:
        users: uint64 `[num_users]`, hashes; equal ones are drawn alike.
        samples: Number of resamples. The first of more resamples are the same.
        seed: Other seeds give other draws.

    Returns:
        float64 `[num_users, samples]`, whole numbers from 0 to 8, independent and Poisson(1).
    """
    numbers = np.arange(1, -(-samples // _DRAWS) + 1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        start = _mix(users + _mix(np.array([seed], np.uint64)))
        hashes = _mix(start[:, None] + numbers * np.uint64(0x9E3779B97F4A7C15))
    draws = hashes.astype("<u8", copy=False).view("<u2")
    # Small numbers first: the table stays in the processor's cache.
    return _COUNTS[draws[:, :samples]].astype(np.float64)


def _mix(state: np.ndarray) -> np.ndarray:
    """The output function of SplitMix64.

    Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
    """
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))
