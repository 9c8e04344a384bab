"""Guardrails: that nothing is lost, of the metrics that are to be kept, in any slice.

A guardrail *held* when non-inferiority was shown: the loss is less than the margin. All of them
have to, so each test is at alpha without a correction (an intersection-union test: Berger,
"Multiparameter hypothesis testing and acceptance sampling", Technometrics 1982). One is *tripped*
when a loss of more than the margin was shown; one of many would be so by chance, so these tests
have Holm's correction. In between it is *open*: more users would tell.
Source: Schultzberg, Ankargren and Frånberg, "Risk-aware product decisions in A/B tests with
multiple metrics", 2024.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from gbstats.models.statistics import TestStatistic

from serving.experiments.cells import Cell, cells
from serving.experiments.config import Experiment
from serving.experiments.effects import NonInferiority, StoppingRule, non_inferiority
from serving.experiments.metrics import Metric
from serving.experiments.multiple_tests import holm
from serving.experiments.observations import Observations
from serving.experiments.statistics import exposure_statistic, statistic

HELD, OPEN, TRIPPED, WITHHELD = "held", "open", "tripped", "withheld"


@dataclasses.dataclass(frozen=True)
class _Check:
    metric: Metric
    group: str | None
    arm: int
    cell: Cell
    test: NonInferiority | None


def guardrails(
    experiment: Experiment, seen: Observations, rule: StoppingRule
) -> list[dict[str, Any]]:
    """Tests every guardrail for every arm; exposure for every group and slice.

    Args:
        experiment: With the guardrails.
        seen: The users.
        rule: When they are looked at.

    Returns:
        One per test: `metric`, `group`, `arm`, `slice`, `value`, `margin`, `better`, `status` and,
        unless it is withheld, `effect`, `p_held` and `p_worse`, the latter corrected. `effect` is
        None where nothing can be estimated, which is `open`.
    """
    checks = list(_checks(experiment, seen, rule))
    worse = [check.test.p_worse for check in checks if check.test is not None]
    corrected = iter(holm(worse))
    return [
        _as_row(check, experiment.alpha, next(corrected) if check.test else None)
        for check in checks
    ]


def _checks(experiment: Experiment, seen: Observations, rule: StoppingRule) -> Iterator[_Check]:
    everyone, *sliced = cells(experiment, seen)
    for metric in experiment.metrics.guardrails:
        groups: list[str | None] = [*metric.groups] if metric.kind == "exposure" else [None]
        where = [everyone, *sliced] if metric.kind == "exposure" else [everyone]
        for arm in range(1, len(experiment.arms)):
            for group in groups:
                for cell in where:
                    test = None
                    if not cell.is_withheld:
                        test = _test(experiment, seen, metric, group, arm, cell, rule)
                    yield _Check(metric, group, arm, cell, test)


def _test(
    experiment: Experiment,
    seen: Observations,
    metric: Metric,
    group: str | None,
    arm: int,
    cell: Cell,
    rule: StoppingRule,
) -> NonInferiority | None:
    control, treatment = (
        guarded_statistic(experiment, seen, metric, group, cell.rows & (seen.arm == number))
        for number in (0, arm)
    )
    assert metric.margin is not None
    return non_inferiority(control, treatment, metric.margin, metric.better, experiment.alpha, rule)


def guarded_statistic(
    experiment: Experiment, seen: Observations, metric: Metric, group: str | None, rows: np.ndarray
) -> TestStatistic:
    """Returns the statistic of a guardrail over some users.

    Args:
        experiment: With the targets of exposure.
        seen: The users.
        metric: The guardrail.
        group: For exposure, the group.
        rows: bool `[num_users]`, which users.
    """
    if metric.kind != "exposure":
        return statistic(metric, seen, rows)
    assert experiment.exposure is not None
    targets = experiment.exposure.targets
    number = list(targets).index(str(group))
    return exposure_statistic(seen.exposure[rows], list(targets.values()), number)


def _as_row(check: _Check, alpha: float, p_worse: float | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "metric": check.metric.name,
        "group": check.group,
        "arm": check.arm,
        "slice": check.cell.slice,
        "value": check.cell.value,
        "margin": check.metric.margin,
        "better": check.metric.better,
    }
    if check.cell.is_withheld:
        return {**row, "status": WITHHELD}
    if check.test is None or p_worse is None:
        return {**row, "status": OPEN, "effect": None}
    status = HELD if check.test.p_held < alpha else TRIPPED if p_worse < alpha else OPEN
    return {
        **row,
        "status": status,
        "effect": dataclasses.asdict(check.test.effect),
        "p_held": check.test.p_held,
        "p_worse": p_worse,
    }
