"""How many users an experiment needs, and so how many days.

The primary metric is to change by `minimum_effect`, and that is to be found with the given power;
the guardrails are to hold, all of them together, with that power if nothing has changed. So the
power of each of G guardrails is 1 − (1 − power) / G. The change is taken to multiply what each user
does, so that users of the arm differ from each other as much more.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np
from gbstats.frequentist.tests import SequentialConfig, SequentialTwoSidedTTest
from gbstats.models.statistics import (
    RegressionAdjustedStatistic,
    SampleMeanStatistic,
    TestStatistic,
)
from scipy.optimize import brentq
from scipy.stats import norm
from statsmodels.stats.power import NormalIndPower

from fairness_losses.errors import InvalidInputError
from serving.experiments.arms import BUCKETS
from serving.experiments.cells import Cell, cells
from serving.experiments.config import Experiment, FixedHorizon, Sequential
from serving.experiments.guardrails import guarded_statistic
from serving.experiments.metrics import Metric
from serving.experiments.observations import Observations

_MOST_USERS = 1e12


@dataclasses.dataclass(frozen=True)
class Need:
    """What a test needs.

    Attributes:
        metric: Its name.
        group: For exposure, the group.
        slice: Column of the slice; None for all users.
        value: Value of the slice.
        share: Share of the users who are in the slice.
        mean: The metric before the experiment.
        deviation: Standard deviation between users, relative to the mean; by the delta method for a
            ratio, and what CUPED leaves of it.
        change: Relative change that is to be found, or to be excluded.
        power: Of this test.
        users: Users of the experiment, in all its arms and slices.
        days: Until there are as many.
    """

    metric: str
    group: str | None
    slice: str | None
    value: str | None
    share: float
    mean: float
    deviation: float
    change: float
    power: float
    users: int
    days: int


def plan(experiment: Experiment, past: Observations, daily_users: float) -> list[Need]:
    """Returns what the primary metric and every guardrail need, the primary metric first.

    Slices that are withheld are left out: they could not be tested either.

    Args:
        experiment: With effect, margins, alpha, power and stopping rule.
        past: Users of as many days before the experiment as it will have, assigned as they would be
            assigned in it.
        daily_users: Eligible users who come for the first time, per day of the experiment.

    Raises:
        InvalidInputError: A metric was 0 or did not vary.
    """
    needs = [_need(experiment, past, goal) for goal in _goals(experiment, past)]
    per_day = daily_users * experiment.traffic * _share_of_layer(experiment)
    return [dataclasses.replace(need, days=math.ceil(need.users / per_day)) for need in needs]


def users_needed(
    experiment: Experiment, change: float, deviation: float, alpha: float, power: float
) -> int:
    """Returns the users, in all arms, with whom a relative change is found.

    Args:
        experiment: With the arms' shares and the stopping rule.
        change: Relative change.
        deviation: Standard deviation between users, relative to the mean.
        alpha: Of a two-sided test; twice that of a one-sided one.
        power: Chance to find it; under the sequential rule, at that number of users if not before.
    """
    control = experiment.control.share
    smallest = min(arm.share for arm in experiment.arms[1:])
    if isinstance(experiment.stopping, Sequential):
        both = _sequential_users(experiment, experiment.stopping, change, deviation, alpha, power)
        return math.ceil(both / (control + smallest))
    in_control = NormalIndPower().solve_power(
        effect_size=change / deviation, alpha=alpha, power=power, ratio=smallest / control
    )
    return math.ceil(float(np.squeeze(in_control)) / control)


def _sequential_users(
    experiment: Experiment,
    rule: Sequential,
    change: float,
    deviation: float,
    alpha: float,
    power: float,
) -> float:
    """Users of the control and the smallest arm, by the width of the confidence sequence."""
    control = experiment.control.share
    smallest = min(arm.share for arm in experiment.arms[1:])
    part = control / (control + smallest)
    settings = SequentialConfig(alpha=alpha, sequential_tuning_parameter=rule.tuned_for)

    def missing(log_users: float) -> float:
        users = math.exp(log_users)
        arms = [_unit_statistic(users * each, deviation) for each in (part, 1 - part)]
        test = SequentialTwoSidedTTest(*arms, settings)
        width = test.confidence_interval[1] - test.point_estimate
        return power - float(norm.sf((width - change) / math.sqrt(test.variance)))

    return math.exp(brentq(missing, math.log(10), math.log(_MOST_USERS), xtol=1e-6))


def _unit_statistic(users: float, deviation: float) -> SampleMeanStatistic:
    """Of so many users with mean 1 and a standard deviation."""
    n = max(2, round(users))
    return SampleMeanStatistic(n=n, sum=n, sum_squares=n + deviation**2 * (n - 1))


@dataclasses.dataclass(frozen=True)
class _Goal:
    """A test that is planned.

    Attributes:
        metric: What is tested.
        group: For exposure, the group.
        cell: Users that it is tested for.
        change: Relative change that is to be found, or to be excluded.
        growth: What the arm multiplies a user's outcomes by, and so their deviation.
        alpha: Of a two-sided test.
        power: Of the test.
    """

    metric: Metric
    group: str | None
    cell: Cell
    change: float
    growth: float
    alpha: float
    power: float


def _goals(experiment: Experiment, past: Observations) -> Iterator[_Goal]:
    everyone, *sliced = cells(experiment, past)
    arms = len(experiment.arms) - 1
    # With several arms, Holm's first step.
    effect, alpha = experiment.minimum_effect, experiment.alpha / arms
    primary = experiment.metrics.primary
    yield _Goal(primary, None, everyone, effect, 1 + effect, alpha, experiment.power)
    guarded = list(_guarded(experiment, everyone, sliced))
    power = 1 - (1 - experiment.power) / max(len(guarded) * arms, 1)
    one_sided = isinstance(experiment.stopping, FixedHorizon)
    alpha = 2 * experiment.alpha if one_sided else experiment.alpha
    for metric, group, cell in guarded:
        assert metric.margin is not None
        yield _Goal(metric, group, cell, metric.margin, 1.0, alpha, power)


def _guarded(
    experiment: Experiment, everyone: Cell, sliced: Sequence[Cell]
) -> Iterator[tuple[Metric, str | None, Cell]]:
    """Every test of a guardrail, once for all arms."""
    for metric in experiment.metrics.guardrails:
        groups: list[str | None] = [*metric.groups] if metric.kind == "exposure" else [None]
        where = [everyone, *sliced] if metric.kind == "exposure" else [everyone]
        for group in groups:
            yield from ((metric, group, cell) for cell in where if not cell.is_withheld)


def _need(experiment: Experiment, past: Observations, goal: _Goal) -> Need:
    cell, change = goal.cell, goal.change
    found = guarded_statistic(experiment, past, goal.metric, goal.group, cell.rows)
    mean, deviation = _spread(found, goal.metric.name)
    share = float(cell.rows.mean())
    in_cell = users_needed(experiment, change, goal.growth * deviation, goal.alpha, goal.power)
    return Need(
        metric=goal.metric.name,
        group=goal.group,
        slice=cell.slice,
        value=cell.value,
        share=share,
        mean=mean,
        deviation=deviation,
        change=change,
        power=goal.power,
        users=math.ceil(in_cell / share),
        days=0,
    )


def _spread(found: TestStatistic, name: str) -> tuple[float, float]:
    """The mean, and the standard deviation relative to it."""
    if isinstance(found, RegressionAdjustedStatistic) and found.pre_statistic.variance > 0:
        found.theta = found.covariance / found.pre_statistic.variance
    mean = float(found.unadjusted_mean)
    if not mean or found.variance <= 0:
        raise InvalidInputError(
            f"`{name}`: the metric was {mean:g} for all users before the experiment, so that no "
            "relative change of it can be planned for. Take a longer time, or another metric."
        )
    return mean, math.sqrt(found.variance) / abs(mean)


def _share_of_layer(experiment: Experiment) -> float:
    if experiment.layer is None:
        return 1.0
    first, last = experiment.layer.buckets
    return (last - first + 1) / BUCKETS
