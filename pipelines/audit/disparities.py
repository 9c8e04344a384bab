"""Differences and ratios between the values of a slice, and between groups of items.

The shape is that of fairlearn's `MetricFrame`: `overall`, `by_group`, `difference` and `ratio`, the
last two between groups: highest less lowest, and lowest over highest. Their intervals compare the
same two cells in every resample of the users. With two cells that is the interval of their
difference; with more, the extremes were chosen by looking at the data, and the interval does not
count that in. (To look for the extremes of every resample anew would count it twice.)

Source: Weerts, Dudík, Edgar, Jalali, Lutz and Madaio, "Fairlearn: Assessing and Improving Fairness
of AI Systems", JMLR 2023.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fairness_losses.bootstrap import estimate
from pipelines.audit.layout import Statistics

Path = tuple[str, ...]
Drawn = Mapping[str, Statistics]
"""By cell, the figures of its resamples."""


def metric_name(path: Path) -> str:
    """Returns the name of a figure: `ndcg@100`, or `exposure_ratio[female]`.

    Args:
        path: In a cell of the report.
    """
    return f"{path[-1]}[{path[1]}]" if path[0] == "groups" else path[-1]


def at(cell: Mapping[str, Any], path: Path) -> Any:
    """Returns the figure of a cell at a path; None if it is not there."""
    found: Any = cell
    for step in path:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def between_values(
    overall: Mapping[str, Any],
    cells: Mapping[str, Mapping[str, Any]],
    drawn: Drawn,
    confidence: float,
) -> dict[str, Any]:
    """Compares the shown values of one slice.

    Args:
        overall: The cell of all users.
        cells: The shown cells of the slice, by value.
        drawn: The figures of their resamples, by value.
        confidence: Level of the intervals.

    Returns:
        By the name of the metric `overall`, `by_group`, `difference` and `ratio`. The latter are
        figures with `highest` and `lowest`, the names of the two that are compared; None with
        fewer than two.
    """
    paths = next(iter(drawn.values())) if drawn else {}
    return {
        metric_name(path): {
            "overall": at(overall, path),
            **_compared(
                {value: at(cell, path) for value, cell in cells.items()},
                {value: drawn[value][path] for value in cells},
                confidence,
            ),
        }
        for path in paths
    }


def between_groups(cell: Mapping[str, Any], drawn: Statistics, confidence: float) -> dict[str, Any]:
    """Compares the exposure ratios of the groups in one cell; see `between_values`.

    Args:
        cell: A shown cell.
        drawn: The figures of its resamples.
        confidence: Level of the intervals.
    """
    name = "exposure_ratio"
    ratios = {group: figures[name] for group, figures in cell["groups"].items()}
    known = {group: figure for group, figure in ratios.items() if figure is not None}
    draws = {group: drawn["groups", group, name] for group in known}
    return {name: _compared(known, draws, confidence)}


def _by_ends(
    kind: str, highest: Mapping[str, Any], lowest: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The interval where resamples of one of two figures say nothing: from the ends of theirs.

    It covers at least as often as both do. None where a ratio may be anything.
    """
    if kind == "ratio" and not highest["low"] > 0:
        return None
    if kind == "difference":
        ends = highest["low"] - lowest["high"], highest["high"] - lowest["low"]
    else:
        ends = lowest["low"] / highest["high"], lowest["high"] / highest["low"]
    return {"low": ends[0], "high": ends[1], "method": "wilson"}


def _compared(
    figures: Mapping[str, Any], drawn: Mapping[str, np.ndarray], confidence: float
) -> dict[str, Any]:
    values = {name: figure["value"] for name, figure in figures.items() if figure is not None}
    found: dict[str, Any] = {"by_group": dict(figures), "difference": None, "ratio": None}
    if len(values) < 2:
        return found
    highest, lowest = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    names = {"highest": highest, "lowest": lowest}
    count = min(figures[highest]["count"], figures[lowest]["count"])
    high, low = drawn[highest], drawn[lowest]
    with np.errstate(invalid="ignore", divide="ignore"):
        both = {
            "difference": (values[highest] - values[lowest], high - low),
            "ratio": (np.divide(values[lowest], values[highest]), low / high),
        }
    for name, (value, draws) in both.items():
        figure = estimate(float(value), draws, confidence, count)
        if any("method" in figures[extreme] for extreme in names.values()):
            ends = _by_ends(name, figures[highest], figures[lowest])
            figure = None if figure is None or ends is None else {**figure, **ends}
        # A ratio of figures below 0 says nothing.
        if figure is not None and not (name == "ratio" and values[lowest] < 0):
            found[name] = {**figure, **names}
    return found
