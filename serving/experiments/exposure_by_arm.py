"""Exposure of every group in every arm, as the serving log has it."""

from __future__ import annotations

import math
from typing import Any

from scipy.stats import norm

from serving.experiments.config import Experiment
from serving.experiments.observations import Observations
from serving.experiments.statistics import exposure_statistic


def exposure_by_arm(experiment: Experiment, seen: Observations) -> list[dict[str, Any]]:
    """Returns the exposure ratio of every group that has a target in every arm, over all users.

    Intervals are at 1 − alpha, by the delta method over users.

    Args:
        experiment: With targets; without `exposure` the result is empty.
        seen: The users.

    Returns:
        One per group and arm: `group`, `arm`, `value`, `low`, `high` and `users`; arms whose users
        saw no group with a target are left out.
    """
    if experiment.exposure is None:
        return []
    targets = list(experiment.exposure.targets.values())
    found = []
    for number, group in enumerate(experiment.exposure.targets):
        for arm in range(len(experiment.arms)):
            ratio = exposure_statistic(seen.exposure[seen.arm == arm], targets, number)
            if ratio.n < 2 or not ratio.d_statistic.sum:
                continue
            error = math.sqrt(max(ratio.variance, 0.0) / ratio.n)
            low, high = norm.interval(1 - experiment.alpha, ratio.mean, error or math.ulp(1.0))
            found.append(
                {
                    "group": group,
                    "arm": arm,
                    "value": float(ratio.mean),
                    "low": float(low),
                    "high": float(high),
                    "users": ratio.n,
                }
            )
    return found
