"""What the rounds of all arms and seeds come to, with intervals over the seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.stats import t as student

from pipelines.datasets.marketplace import GROUPS, HELD_BACK
from pipelines.simulation.loop import Row

COHORTS = {
    **{name: np.arange(len(GROUPS)) == number for number, name in enumerate(GROUPS)},
    "held_back": np.array(HELD_BACK),
    "others": ~np.array(HELD_BACK),
}
"""Every group, those that the first log's policy held back, and those that it did not."""

Rows = Mapping[str, Sequence[Sequence[Row]]]
"""Rows of every arm, seed and round, as `loop.simulate_arm` returns them per arm and seed."""


def summarise(rows: Rows, confidence: float) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Means over the seeds, round by round.

    Args:
        rows: The first arm is the one that others are compared with, seed by seed.
        confidence: Level of the intervals.

    Returns:
        Arm to figure to one entry per round: `value`, `low` and `high`, and in all arms but the
        first `change`, the same of the difference from the first arm. The figures are

        - `utility` and `attainable`, clicks per list, and `regret`, what is between them over the
          latter;
        - `creators`: how many are there, over how many were there at first;
        - `exposure[cohort]`: share of the attention over the share of the items at first;
        - `exposure_per_item[cohort]`: the same over the share of the items at the time;
        - `supply[cohort]`: items that are there, over how many were there at first.

        Intervals are Student's over the seeds: for other marketplaces and users of this kind.
    """
    figures = {
        arm: {name: np.array([figure(seed) for seed in seeds]) for name, figure in FIGURES.items()}
        for arm, seeds in rows.items()
    }
    first = next(iter(rows))
    summary: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for arm, of_arm in figures.items():
        summary[arm] = {}
        for name, values in of_arm.items():
            entries: list[dict[str, Any]] = _means(values, confidence)
            if arm != first:
                changes = _means(values - figures[first][name], confidence)
                entries = [
                    {**e, "change": change} for e, change in zip(entries, changes, strict=True)
                ]
            summary[arm][name] = entries
    return summary


def _means(values: np.ndarray, confidence: float) -> list[dict[str, Any]]:
    """Mean and interval of every column, over the rows."""
    count = len(values)
    mean = values.mean(axis=0)
    error = values.std(axis=0, ddof=1) / np.sqrt(count)
    margin = student.ppf((1 + confidence) / 2, count - 1) * error
    ends = zip(mean.tolist(), (mean - margin).tolist(), (mean + margin).tolist(), strict=True)
    return [{"value": value, "low": low, "high": high} for value, low, high in ends]


def _column(name: str) -> Callable[[Sequence[Row]], np.ndarray]:
    return lambda rows: np.array([row[name] for row in rows], dtype=np.float64)


def _regret(rows: Sequence[Row]) -> np.ndarray:
    return 1 - _column("utility")(rows) / _column("attainable")(rows)


def _creators(rows: Sequence[Row]) -> np.ndarray:
    creators = _column("creators")(rows)
    return creators / creators[0]


def _of_cohort(cohort: np.ndarray) -> dict[str, Callable[[Sequence[Row]], np.ndarray]]:
    def share(name: str, rows: Sequence[Row]) -> np.ndarray:
        values = _column(name)(rows)
        return values[:, cohort].sum(axis=1) / values.sum(axis=1)

    def supply(rows: Sequence[Row]) -> np.ndarray:
        items = _column("items")(rows)[:, cohort].sum(axis=1)
        return items / items[0]

    return {
        "exposure": lambda rows: share("exposure", rows) / share("items", rows)[0],
        "exposure_per_item": lambda rows: share("exposure", rows) / share("items", rows),
        "supply": supply,
    }


FIGURES: dict[str, Callable[[Sequence[Row]], np.ndarray]] = {
    "utility": _column("utility"),
    "attainable": _column("attainable"),
    "regret": _regret,
    "creators": _creators,
    **{
        f"{name}[{cohort}]": figure
        for cohort, members in COHORTS.items()
        for name, figure in _of_cohort(members).items()
    },
}
"""Name to what it is of the rounds of an arm and seed, `[num_rounds]`."""
