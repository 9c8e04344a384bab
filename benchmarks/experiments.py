"""Experiments whose truth is known: how often the analysis finds what is so, and what is not.

    python -m benchmarks.experiments

The experiment is that of `configs/experiments/fair_tower.yaml`, on synthetic users. Null
experiments have other users each; for power, one population is assigned anew each time.
"""

from __future__ import annotations

import argparse
import gc
import pathlib
import time
import timeit

import numpy as np

from pipelines.config_file import load_settings
from serving.experiments.assignment import Assigner
from serving.experiments.config import Experiment
from serving.experiments.planning import plan
from serving.experiments.sample_ratio import sample_ratio
from serving.experiments.simulation import Planted, Rate, assign, rate, simulate
from serving.experiments.synthetic import synthetic_users

DEFINITION = pathlib.Path(__file__).resolve().parents[1] / "configs/experiments/fair_tower.yaml"

_SMALLEST = ("gender", "gender 3")
"""The smallest slice of the synthetic users."""


def null_experiments(experiment: Experiment, runs: int, users: int) -> dict[str, Rate]:
    """Nothing differs between the arms."""
    return simulate(
        experiment,
        lambda run: synthetic_users(experiment, users, np.random.default_rng([0, run])),
        runs,
    )


def mismatches(experiment: Experiment, runs: int, users: int) -> Rate:
    """How often the arms' sizes alarm though the hash is as it should be."""
    ids = [f"user-{i}" for i in range(users)]
    shares = [arm.share for arm in experiment.arms]
    alarms = 0
    for run in range(runs):
        assigner = Assigner(experiment.model_copy(update={"salt": f"salt {run}"}))
        sizes = np.bincount(assigner.numbers(ids), minlength=len(shares))
        alarms += sample_ratio(sizes, shares).is_mismatch
    return rate(alarms, runs)


def assignment_seconds(experiment: Experiment, users: int) -> tuple[float, float]:
    """Seconds per user, one at a time and all at once."""
    assigner = Assigner(experiment)
    ids = [f"user-{i}" for i in range(users)]
    one = timeit.repeat(lambda: [assigner.number(user) for user in ids], number=1, repeat=5)
    all_at_once = timeit.repeat(lambda: assigner.numbers(ids), number=1, repeat=5)
    return min(one) / users, min(all_at_once) / users


def main() -> None:
    """Prints the tables of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--users", type=int, default=5000)
    parser.add_argument("--salts", type=int, default=50_000)
    options = parser.parse_args()
    gc.freeze()  # statsmodels collects garbage at every correction.
    start = time.perf_counter()
    defined = load_settings(DEFINITION, Experiment)
    experiment = defined.model_copy(update={"traffic": 1.0, "layer": None})

    print("| null experiments | should be | of all | 95 % interval |\n|---|---|---|---|")
    null = null_experiments(experiment, options.runs, options.users)
    _row("primary metric significant, fixed horizon", "5 %", null["significant"])
    _row("the same, sequential, looked at on 14 days", "≤ 5 %", null["significant on some day"])
    _row("a guardrail tripped", "≤ 5 %", null["tripped"])
    _row(
        f"sample ratio alarms ({options.salts:,} salts)",
        "0.1 %",
        mismatches(experiment, options.salts, 1000),
    )

    past = assign(synthetic_users(experiment, 200_000, np.random.default_rng(1)), experiment, 0)
    needs = plan(experiment, past, daily_users=10_000)
    print("\n| known effects | users | planned | of all | 95 % interval |\n|---|---|---|---|---|")
    users, runs = needs[0].users, max(options.runs // 4, 1)
    found = _of_one_population(experiment, users, runs, Planted(experiment.minimum_effect))
    _row("primary metric + 2 %: found", f"{users:,} | {experiment.power:.0%}", found["improved"])
    users = max(need.users for need in needs[1:])
    margin = experiment.metrics.guardrails[0].margin or 0.0
    for label, loss, wanted, planned in (
        ("nothing lost: all guardrails held", 0.0, "all held", f"≥ {experiment.power:.0%}"),
        ("the margin lost in one slice: all held", margin, "all held", "≤ 5 %"),
        ("twice the margin lost in one slice: tripped", 2 * margin, "tripped", "–"),
        ("three times the margin: tripped", 3 * margin, "tripped", "–"),
    ):
        planted = Planted(loss=loss, slice=_SMALLEST[0], value=_SMALLEST[1])
        found = _of_one_population(experiment, users, runs, planted)
        _row(label, f"{users:,} | {planned}", found[wanted])

    one, all_at_once = assignment_seconds(defined, 100_000)
    print(f"\nAn assignment with a layer takes {1e6 * one:.1f} µs,", end=" ")
    print(f"{1e6 * all_at_once:.1f} µs when many are assigned at once.")
    print(f"All of this took {time.perf_counter() - start:,.0f} s.")


def _of_one_population(
    experiment: Experiment, users: int, runs: int, planted: Planted
) -> dict[str, Rate]:
    population = synthetic_users(experiment, users, np.random.default_rng(2))
    return simulate(experiment, lambda run: population, runs, planted, peek=False)


def _row(label: str, columns: str, found: Rate) -> None:
    print(
        f"| {label} | {columns} | {found.share:.2%} | {found.low:.2%}–{found.high:.2%} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
