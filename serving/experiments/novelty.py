"""Whether an effect lasts: the effect by days since a user's first list."""

from __future__ import annotations

from typing import Any

import numpy as np

from serving.experiments.config import Experiment, FixedHorizon
from serving.experiments.effects import effect
from serving.experiments.observations import Observations
from serving.experiments.statistics import mean_statistic, ratio_statistic

_LEAST_DAYS = 4
"""Days that there must be for an early and a late half."""


def novelty(experiment: Experiment, seen: Observations, arm: int) -> dict[str, Any]:
    """Finds how the effect on the primary metric changes with time.

    Days are compared within the same users, those who were followed for at least half of the
    experiment: the quotient of what they did late and early, a ratio metric, is compared between
    the arms. It is the same in both if the relative effect is the same on all days. The effects of
    single days are not independent of each other, and no test is made of them.

    Args:
        experiment: With the primary metric.
        seen: The users.
        arm: Number of the arm that is compared with the control.

    Returns:
        `days`, the relative effect with a 1 − alpha interval on every day, counted from 0, of the
        users followed that long; and `change`: `days` compared, the relative change of the effect
        from early to late with its interval, `p` of none, and `is_clear`, whether that is below
        alpha; None for a ratio metric, and for fewer than four days or too few users.
    """
    return {"days": _by_day(experiment, seen, arm), "change": _change(experiment, seen, arm)}


def _by_day(experiment: Experiment, seen: Observations, arm: int) -> list[dict[str, Any]]:
    found = []
    for day in range(min((d.shape[1] for d in seen.daily.values()), default=0)):
        followed = seen.followed > day
        rows = [followed & (seen.arm == number) for number in (0, arm)]
        if min(of_arm.sum() for of_arm in rows) < experiment.min_users:
            break
        control, treatment = (_on_day(experiment, seen, day, of_arm) for of_arm in rows)
        each = effect(control, treatment, experiment.alpha, FixedHorizon())
        if each is not None:
            found.append({"day": day, "value": each.value, "low": each.low, "high": each.high})
    return found


def _on_day(experiment: Experiment, seen: Observations, day: int, rows: np.ndarray) -> Any:
    metric = experiment.metrics.primary
    if metric.kind == "ratio":
        both = (metric.numerator, metric.denominator)
        return ratio_statistic(*(seen.daily[column][rows, day] for column in both))
    return mean_statistic(seen.daily[metric.value][rows, day])


def _change(experiment: Experiment, seen: Observations, arm: int) -> dict[str, Any] | None:
    metric = experiment.metrics.primary
    if metric.kind == "ratio":
        return None
    daily = seen.daily[metric.value]
    days = max(_LEAST_DAYS, experiment.days // 2)
    if daily.shape[1] < days:
        return None
    rows = [(seen.followed >= days) & (seen.arm == number) for number in (0, arm)]
    if min(of_arm.sum() for of_arm in rows) < experiment.min_users:
        return None
    early, late = (part.sum(axis=1) for part in (daily[:, : days // 2], daily[:, days // 2 : days]))
    control, treatment = (ratio_statistic(late[of_arm], early[of_arm]) for of_arm in rows)
    found = effect(control, treatment, experiment.alpha, FixedHorizon())
    if found is None:
        return None
    return {
        "days": days,
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "p": found.p,
        "is_clear": found.p < experiment.alpha,
    }
