"""P-values of several tests, corrected."""

from __future__ import annotations

from collections.abc import Sequence

from statsmodels.stats.multitest import multipletests


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p-values that are below alpha with a chance of alpha for any of them, by Holm's rule.

    Source: Holm, "A simple sequentially rejective multiple test procedure", 1979.

    Args:
        p_values: Of the family, in any order; may be empty.
    """
    # statsmodels refuses none, and collects garbage at every call.
    if len(p_values) < 2:
        return list(p_values)
    return [float(p) for p in multipletests(p_values, method="holm")[1]]
