"""Users as the sufficient statistics that gbstats tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from gbstats.models.statistics import (
    RatioStatistic,
    RegressionAdjustedStatistic,
    SampleMeanStatistic,
    TestStatistic,
)

from serving.experiments.metrics import MeanMetric, RatioMetric
from serving.experiments.observations import Observations


def mean_statistic(values: np.ndarray) -> SampleMeanStatistic:
    """Returns the statistic of a mean over users, whose values are float64 `[num_users]`."""
    return SampleMeanStatistic(
        n=len(values), sum=float(values.sum()), sum_squares=float(values @ values)
    )


def ratio_statistic(numerator: np.ndarray, denominator: np.ndarray) -> RatioStatistic:
    """Returns the statistic of a ratio of sums over users, both float64 `[num_users]`."""
    return RatioStatistic(
        n=len(numerator),
        m_statistic=mean_statistic(numerator),
        d_statistic=mean_statistic(denominator),
        m_d_sum_of_products=float(numerator @ denominator),
    )


def adjusted_statistic(values: np.ndarray, before: np.ndarray) -> RegressionAdjustedStatistic:
    """Returns the statistic of a mean that is adjusted by a covariate (CUPED).

    Source: Deng, Xu, Kohavi and Walker, "Improving the Sensitivity of Online Controlled
    Experiments by Utilizing Pre-Experiment Data", WSDM 2013. gbstats finds the coefficient of both
    arms together when it compares them.

    Args:
        values: float64 `[num_users]`.
        before: float64 `[num_users]`, the covariate.
    """
    return RegressionAdjustedStatistic(
        n=len(values),
        post_statistic=mean_statistic(values),
        pre_statistic=mean_statistic(before),
        post_pre_sum_of_products=float(values @ before),
        theta=0.0,
    )


def statistic(
    metric: MeanMetric | RatioMetric, seen: Observations, rows: np.ndarray
) -> TestStatistic:
    """Returns the statistic of a metric over some users.

    Args:
        metric: What is measured.
        seen: The users.
        rows: bool `[num_users]`, which of them.
    """
    if metric.kind == "ratio":
        return ratio_statistic(
            seen.totals[metric.numerator][rows], seen.totals[metric.denominator][rows]
        )
    values = seen.totals[metric.value][rows]
    if metric.value in seen.before:
        return adjusted_statistic(values, seen.before[metric.value][rows])
    return mean_statistic(values)


def exposure_statistic(
    exposure: np.ndarray, targets: Sequence[float], group: int
) -> RatioStatistic:
    """Returns the statistic of a group's exposure ratio.

    The exposure ratio is the group's part of the exposure of all groups that have a target, over
    its target share (`fairness_losses.exposure`): a ratio of two sums over users.

    Args:
        exposure: float64 `[num_users, num_groups]`, of the groups that have a target.
        targets: `[num_groups]`, positive; only their proportions matter.
        group: Number of the group.
    """
    share = targets[group] / sum(targets)
    return ratio_statistic(exposure[:, group], exposure.sum(axis=1) * share)
