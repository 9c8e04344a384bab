"""Null experiments, and experiments with a known effect: does the analysis find what is so?

Users are assigned by the real hash, under a new salt each time, and looked at by the real analysis.
They come from a population: that of a log, whose users are assigned anew as often as one likes (an
A/A test of the metrics, with all their outliers), or a synthetic one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
from statsmodels.stats.proportion import proportion_confint

from serving.experiments.analysis import analyze
from serving.experiments.assignment import Assigner
from serving.experiments.config import Experiment, FixedHorizon, Sequential
from serving.experiments.effects import effect
from serving.experiments.guardrails import HELD, TRIPPED
from serving.experiments.observations import Observations
from serving.experiments.statistics import statistic

SALT = "simulated"
"""Of the assignments, with the number of the simulation."""

Population = Callable[[int], Observations]
"""The users of a simulation, by its number. Their arms do not matter."""


@dataclasses.dataclass(frozen=True)
class Planted:
    """What is different in the arms besides the control.

    Attributes:
        lift: Relative change of the primary metric.
        loss: Relative loss of the exposure of the guardrails' groups, 0.1 is a tenth.
        slice: Column of the slice that it is lost in; None for all users.
        value: Value of the slice.
    """

    lift: float = 0.0
    loss: float = 0.0
    slice: str | None = None
    value: str | None = None


@dataclasses.dataclass(frozen=True)
class Rate:
    """In how many simulations something happened.

    Attributes:
        count: In so many.
        runs: Of so many.
        share: One over the other.
        low: Lower end of its 95 % interval (Wilson).
        high: Upper end.
    """

    count: int
    runs: int
    share: float
    low: float
    high: float


def simulate(
    experiment: Experiment,
    population: Population,
    runs: int,
    planted: Planted | None = None,
    peek: bool = True,
) -> dict[str, Rate]:
    """Simulates an experiment many times.

    Args:
        experiment: What is simulated; all of the population take part.
        population: Its users.
        runs: How often.
        planted: What is different; nothing by default.
        peek: Whether to look at a sequential test after every day, too.

    Returns:
        Rates of `mismatch` (the alarm of the sample ratio), `significant` (the primary metric of
        the first arm, at the end of a fixed horizon), `improved` (significant, and better),
        `tripped` (any guardrail), `all held` (all that were tested) and, with `peek`, `significant
        on some day` (the sequential test, looked at every day).
    """
    at_end = experiment.model_copy(
        update={"traffic": 1.0, "layer": None, "stopping": FixedHorizon()}
    )
    counts: dict[str, int] = {}
    for run in range(runs):
        seen = plant(assign(population(run), at_end, run), at_end, planted or Planted())
        for name, happened in _look(at_end, seen).items():
            counts[name] = counts.get(name, 0) + happened
        if peek:
            name, happened = "significant on some day", _peek(experiment, seen)
            counts[name] = counts.get(name, 0) + happened
    return {name: rate(count, runs) for name, count in counts.items()}


def assign(seen: Observations, experiment: Experiment, run: int) -> Observations:
    """Returns the users in the arms that a new salt puts them into.

    Args:
        seen: Users.
        experiment: With the arms; its traffic should be 1, without a layer.
        run: Number of the simulation.
    """
    salted = experiment.model_copy(update={"salt": f"{SALT} {run} {experiment.salt}"})
    arm = Assigner(salted).numbers(map(str, range(len(seen.arm))))
    return dataclasses.replace(seen, arm=arm.astype(np.int64))


def plant(seen: Observations, experiment: Experiment, planted: Planted) -> Observations:
    """Returns the users with an effect on those who are not in the control.

    Args:
        seen: Users.
        experiment: With metrics and guardrails.
        planted: The effect.
    """
    treated = seen.arm > 0
    metric = experiment.metrics.primary
    column = metric.value if metric.kind == "mean" else metric.numerator
    factor = np.where(treated, 1 + planted.lift, 1.0)
    hit = treated
    if planted.slice is not None:
        hit = treated & (seen.slices[planted.slice] == planted.value)
    return dataclasses.replace(
        seen,
        totals={**seen.totals, column: seen.totals[column] * factor},
        daily={**seen.daily, column: seen.daily[column] * factor[:, None]},
        exposure=np.where(hit[:, None], _with_loss(seen, experiment, planted.loss), seen.exposure),
    )


def _with_loss(seen: Observations, experiment: Experiment, loss: float) -> np.ndarray:
    """Exposure when the guarded groups lose a part of theirs to the other groups."""
    guarded = {g for m in experiment.metrics.guardrails if m.kind == "exposure" for g in m.groups}
    targets = list(experiment.exposure.targets) if experiment.exposure is not None else []
    loses = np.array([group in guarded for group in targets], bool)
    lost = loss * seen.exposure[:, loses].sum(axis=1)
    others = seen.exposure[:, ~loses].sum(axis=1)
    gain = np.divide(lost, others, out=np.zeros_like(lost), where=others > 0)
    return seen.exposure * np.where(loses, 1 - loss, 1 + gain[:, None])


def until(seen: Observations, day: int) -> Observations:
    """Returns what was known of the primary metric when a day was over.

    Args:
        seen: Users, with their days since the first list.
        day: Of the experiment, from 0.
    """
    here = seen.arrived <= day
    since = np.arange(next(iter(seen.daily.values())).shape[1])
    past = since <= (day - seen.arrived[here])[:, None]
    daily = {column: values[here] * past for column, values in seen.daily.items()}
    return Observations(
        arm=seen.arm[here],
        totals={column: values.sum(axis=1) for column, values in daily.items()},
        before={column: values[here] for column, values in seen.before.items()},
        exposure=seen.exposure[here],
        slices={column: values[here] for column, values in seen.slices.items()},
        arrived=seen.arrived[here],
        followed=np.minimum(seen.followed[here], day - seen.arrived[here]),
        daily=daily,
    )


def _look(experiment: Experiment, seen: Observations) -> dict[str, int]:
    result = analyze(experiment, seen, experiment.end)
    if result["is_mismatch"]:
        return {"mismatch": 1}
    found = result["primary"][0]
    significant = found["effect"] is not None and found["p_holm"] < experiment.alpha
    is_better = significant and (found["effect"]["value"] > 0) == (found["better"] == "higher")
    tested = [row["status"] for row in result["guardrails"] if row["status"] != "withheld"]
    return {
        "mismatch": 0,
        "significant": int(significant),
        "improved": int(is_better),
        "tripped": int(TRIPPED in tested),
        "all held": int(all(status == HELD for status in tested)),
    }


def _peek(experiment: Experiment, seen: Observations) -> int:
    """Whether a sequential test of the primary metric rejects on any day."""
    rule: Any = experiment.stopping
    if not isinstance(rule, Sequential):
        rule = Sequential(kind="sequential", tuned_for=max(len(seen.arm), 1))
    for day in range(experiment.days):
        known = until(seen, day)
        control, treatment = (
            statistic(experiment.metrics.primary, known, known.arm == number) for number in (0, 1)
        )
        found = effect(control, treatment, experiment.alpha, rule)
        if found is not None and not found.low <= 0 <= found.high:
            return 1
    return 0


def rate(count: int, runs: int) -> Rate:
    """Returns in what share of all simulations something happened, with its interval."""
    low, high = proportion_confint(count, runs, method="wilson")
    return Rate(count, runs, count / runs, float(low), float(high))
