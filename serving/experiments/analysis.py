"""The analysis of an experiment: what may be said of it, in the order in which it may be said.

1. The sample ratio. If it is not what it should be, nothing else is shown.
2. Guardrails, at any time: a harm that was shown ends an experiment early.
3. Effects, when the stopping rule allows it.
4. For each arm a decision, by a rule that is fixed beforehand too, see `verdict`.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any

import numpy as np

from fairness_losses.errors import InvalidInputError
from serving.experiments.cells import cells
from serving.experiments.config import Experiment, FixedHorizon, Sequential
from serving.experiments.effects import Effect, StoppingRule, effect
from serving.experiments.exposure_by_arm import exposure_by_arm
from serving.experiments.guardrails import guardrails
from serving.experiments.metrics import MeanMetric, RatioMetric
from serving.experiments.multiple_tests import holm
from serving.experiments.novelty import novelty
from serving.experiments.observations import Observations
from serving.experiments.sample_ratio import sample_ratio
from serving.experiments.statistics import statistic
from serving.experiments.verdict import decide

SCHEMA_VERSION = 1
"""Of the result; it changes when a key is renamed or removed."""


def analyze(experiment: Experiment, seen: Observations, at: datetime.datetime) -> dict[str, Any]:
    """Analyses an experiment.

    Args:
        experiment: As it was fixed before the launch.
        seen: What was observed of its users.
        at: When it is looked at; before the end, a fixed horizon shows no effects.

    Returns:
        JSON values: `schema_version`, `name`, `fingerprint`, `arms` (names), `at`, `is_over`,
        `rule` (the stopping rule), `alpha`, `min_users`, `sample_ratio`, `is_mismatch`; `primary`,
        `secondary`, `slices` and `novelty`, `exposure` (by group and arm) and `guardrails`, each
        None where it may not be shown; and `decisions`, one per arm but the control. An effect has
        `p`, and `p_holm` over its family: the primary metric over the arms, the secondary metrics
        over metrics and arms, slices over all slices and arms.

    Raises:
        InvalidInputError: Nobody was observed.
    """
    if not len(seen.arm):
        raise InvalidInputError(
            f"`{experiment.name}`: no list of the experiment can be used. See that requests carry "
            f"`{experiment.name}:<arm>`, and that `start` and `end` are right."
        )
    is_over = at >= experiment.end
    ratio = sample_ratio(seen.users(len(experiment.arms)), [a.share for a in experiment.arms])
    result: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "name": experiment.name,
        "fingerprint": experiment.fingerprint(),
        "arms": [arm.name for arm in experiment.arms],
        "at": at.astimezone(datetime.timezone.utc).isoformat(timespec="minutes"),
        "is_over": is_over,
        "rule": experiment.stopping.kind,
        "alpha": experiment.alpha,
        "min_users": experiment.min_users,
        "sample_ratio": dataclasses.asdict(ratio),
        "is_mismatch": ratio.is_mismatch,
        "primary": None,
        "secondary": None,
        "slices": None,
        "novelty": None,
        "exposure": None,
        "guardrails": None,
    }
    if not ratio.is_mismatch:
        result["exposure"] = exposure_by_arm(experiment, seen)
        result["guardrails"] = guardrails(experiment, seen, _guard_rule(experiment, is_over))
        if is_over or experiment.stopping.kind == "sequential":
            result.update(_effects(experiment, seen))
    return {**result, "decisions": decide(experiment, result)}


def _guard_rule(experiment: Experiment, is_over: bool) -> StoppingRule:
    """Before a fixed horizon's end, a harm is looked for every day: by always-valid tests."""
    if experiment.stopping.kind == "fixed" and not is_over:
        return Sequential(kind="sequential")
    return experiment.stopping


def _effects(experiment: Experiment, seen: Observations) -> dict[str, Any]:
    arms = range(1, len(experiment.arms))
    everyone = np.ones(len(seen.arm), bool)
    primary = experiment.metrics.primary
    rule, alpha = experiment.stopping, experiment.alpha
    return {
        "primary": _with_holm(
            [_row(primary, arm, _effect(primary, seen, everyone, arm, alpha, rule)) for arm in arms]
        ),
        "secondary": _with_holm(
            [
                _row(metric, arm, _effect(metric, seen, everyone, arm, alpha, rule))
                for metric in experiment.metrics.secondary
                for arm in arms
            ]
        ),
        "slices": _with_holm(
            [
                {
                    **_row(
                        primary,
                        arm,
                        None
                        if cell.is_withheld
                        else _effect(primary, seen, cell.rows, arm, alpha, rule),
                    ),
                    "slice": cell.slice,
                    "value": cell.value,
                    "withheld": cell.is_withheld,
                }
                for cell in cells(experiment, seen)[1:]
                for arm in arms
            ]
        ),
        # Its test is not an always-valid one.
        "novelty": [{"arm": arm, **novelty(experiment, seen, arm)} for arm in arms]
        if isinstance(rule, FixedHorizon)
        else None,
    }


def _effect(
    metric: MeanMetric | RatioMetric,
    seen: Observations,
    rows: np.ndarray,
    arm: int,
    alpha: float,
    rule: StoppingRule,
) -> Effect | None:
    control, treatment = (
        statistic(metric, seen, rows & (seen.arm == number)) for number in (0, arm)
    )
    return effect(control, treatment, alpha, rule)


def _row(metric: MeanMetric | RatioMetric, arm: int, found: Effect | None) -> dict[str, Any]:
    return {
        "metric": metric.name,
        "better": metric.better,
        "arm": arm,
        "effect": None if found is None else dataclasses.asdict(found),
    }


def _with_holm(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    p = [row["effect"]["p"] for row in rows if row["effect"] is not None]
    corrected = iter(holm(p))
    return [{**row, "p_holm": next(corrected) if row["effect"] else None} for row in rows]
