"""Permutation tests: does a slice see a group otherwise than all other users do?

If the slice made no difference, its label could stand with any other user. The difference of the
group's exposure ratio between the cell and all other users is compared with what it is when labels
stand elsewhere. Labels are moved along a random order of the users, by every number of places at
once: with a Fourier transform all sums cost little more than one. The moves form a group, and each
further random order is a coset of it, so the share of placements whose difference is at least as
large is an exact p-value, `(b + 1) / (m + 1)` of `m` placements besides the true one.

The p-values of all cells and groups are corrected together: Holm's method bounds the chance of a
single false finding, that of Benjamini and Hochberg the share of false ones among the findings.

Sources: Phipson and Smyth, "Permutation p-values should never be zero", 2010; Hemerik and Goeman,
"Exact testing with random permutations", TEST 2018, for subgroups; Holm 1979; Benjamini and
Hochberg 1995.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import fft
from statsmodels.stats.multitest import multipletests

from fairness_losses.exposure import exposure_ratio
from pipelines.config import AuditConfig

_TIE = 1e-9
"""Sums of other orders are those of the same numbers but for the rounding of floats."""


def placements(num_users: int, at_least: int) -> int:
    """Returns how many random orders give as many placements, the true one included."""
    return max(1, -(-at_least // max(num_users, 1)))


def permutation_test(
    exposure: np.ndarray, member: np.ndarray, target: np.ndarray, permutations: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Tests one cell against all other users.

    Args:
        exposure: float `[num_users, num_groups]`, over each user's lists, in an order that has
            nothing to do with it.
        member: bool `[num_users]`, who is in the cell.
        target: float `[num_groups]`, target shares, 0 for none.
        permutations: At least so many placements besides the true one.
        seed: Of the random orders.

    Returns:
        The difference of the exposure ratio, in the cell less elsewhere, and its two-sided p-value,
        float64 `[num_groups]`; NaN where the difference is undefined.
    """
    num_users = len(exposure)
    rng = np.random.default_rng(seed)
    total = exposure.sum(axis=0)
    moved = np.conj(fft.rfft(member.astype(float)))[:, None]
    observed = _difference(member.astype(float) @ exposure, total, target)
    at_least = np.zeros(len(target), np.int64)
    orders = placements(num_users, permutations + 1)
    for number in range(orders):
        order = rng.permutation(num_users) if number else slice(None)
        inside = fft.irfft(fft.rfft(exposure[order], axis=0) * moved, n=num_users, axis=0)
        apart = np.abs(_difference(inside, total, target))
        # A cell that sees nothing in some placement speaks for no difference there.
        at_least += (np.nan_to_num(apart) >= np.abs(observed) * (1 - _TIE) - _TIE).sum(axis=0)
    return observed, np.where(np.isnan(observed), np.nan, at_least / (orders * num_users))


def _difference(inside: np.ndarray, total: np.ndarray, target: np.ndarray) -> np.ndarray:
    # A transform leaves tiny values where there was no exposure.
    inside = np.where(np.abs(inside) < _TIE, 0.0, inside)
    return exposure_ratio(inside, target) - exposure_ratio(total - inside, target)


def cell_tests(
    exposure: np.ndarray,
    members: Mapping[tuple[str, str], np.ndarray],
    groups: Sequence[str],
    target: np.ndarray,
    config: AuditConfig,
    seed: int,
) -> dict[str, Any] | None:
    """Tests all cells, and corrects for their number.

    Args:
        exposure: As for `permutation_test`.
        members: By slice and value, who is in the cell, bool `[num_users]`.
        groups: Names, `[num_groups]`.
        target: As for `permutation_test`.
        config: Its `permutations`, `correction` and `confidence`, which is 1 less the level.
        seed: Of the random orders.

    Returns:
        JSON values: `permutations`, `users`, `smallest_p` that can come out, `correction`, `level`,
        and `cells`: `slice`, `value`, `group`, `difference`, `p_value`, `adjusted_p` and `differs`.
        None if nothing was to be tested.
    """
    if not config.permutations or len(exposure) < 2:
        return None
    found = []
    for (name, value), member in members.items():
        differences, p_values = permutation_test(
            exposure, member, target, config.permutations, seed
        )
        for group, difference, p in zip(groups, differences, p_values, strict=True):
            if not np.isnan(p):
                at = {"slice": name, "value": value, "group": group}
                found.append({**at, "difference": float(difference), "p_value": float(p)})
    if not found:
        return None
    level = 1 - config.confidence
    differs, adjusted, *_ = multipletests(
        [test["p_value"] for test in found], alpha=level, method=config.correction
    )
    orders = placements(len(exposure), config.permutations + 1)
    return {
        "permutations": orders * len(exposure) - 1,
        "users": len(exposure),
        "smallest_p": 1 / (orders * len(exposure)),
        "correction": config.correction,
        "level": round(level, 12),
        "cells": [
            {**test, "adjusted_p": float(p), "differs": bool(reject)}
            for test, p, reject in zip(found, adjusted, differs, strict=True)
        ],
    }
