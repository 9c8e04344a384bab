"""Intervals of figures, also where resampling has nothing to say.

Where no list shows a group, every resample of the users is 0, and so is the percentile interval:
0.00 to 0.00 would promise that nobody will ever see it. There, and where everything is 1, the
interval is Wilson's for a proportion of 0 or 1 among the users. Places of one user's lists may all
rise and fall together, so only users count: the interval is rather too long than too short.

Sources: Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 1927;
Korn and Graubard, "Confidence Intervals for Proportions with Small Expected Number of Positive
Counts Estimated from Survey Data", Survey Methodology 1998, for the effective number.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from fairness_losses.bootstrap import estimate


def figure(
    value: float, draws: np.ndarray, confidence: float, count: int, users: int, most: float | None
) -> dict[str, Any] | None:
    """A figure with its interval, as JSON values.

    Args:
        value: The figure.
        draws: float `[samples]`, the figure of every resample of the users.
        confidence: Level of the interval.
        count: What the figure rests on.
        users: Number of users behind it.
        most: Greatest value of a figure that is a share (1), or a multiple of one, whose least is
            0; None for other figures.

    Returns:
        What `bootstrap.estimate` returns; with `"method": "wilson"` where the resamples are all 0,
        or all `most`, and so say nothing.
    """
    found: dict[str, Any] | None = estimate(value, draws, confidence, count)
    if found is None or most is None or not users or found["low"] != found["high"]:
        return found
    share = value / most
    if not np.isclose(share, round(share), atol=1e-12):
        return found
    ends = proportion_confint(round(share) * users, users, 1 - confidence, method="wilson")
    # The end at the value is the value, but for the rounding of floats.
    low, high = (0.0, float(ends[1])) if share < 0.5 else (float(ends[0]), 1.0)
    return {**found, "low": low * most, "high": high * most, "method": "wilson"}
