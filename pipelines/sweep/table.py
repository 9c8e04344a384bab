"""The frontier as a table and in sentences, for a terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipelines.report import wording
from pipelines.report.wording import find
from pipelines.sweep.config import BONUS, BONUS_PER_SLICE
from pipelines.sweep.frontier import lines_of
from pipelines.sweep.parity import from_parity

_CLEARLY_CLOSER = 0.02
"""By so much a line has to bring the furthest ratio closer to 1, to be said to steer exposure."""

_VERDICTS = {
    "better": "cost less",
    "same": "no clear difference",
    "worse": "cost more",
    "beyond": "come closer than any of them",
    "idle": "do not bring the ratio closer to 1",
    "diverged": "diverged",
    "unmeasured": "not measured",
}
_COMPARISONS = {
    BONUS: "a constant bonus",
    BONUS_PER_SLICE: "a bonus per slice",
}


def frontier_table(found: Mapping[str, Any]) -> Table:
    """Returns the table that is printed, a row per point.

    Strength is the weight, the bonus, or the ratio that bonuses are tuned to; `furthest` is the
    ratio in the slice where it is furthest from 1.

    Args:
        found: What `frontier` returned.
    """
    compared = _compared(found)
    table = Table(box=SIMPLE_HEAD)
    table.add_column(no_wrap=True)
    for column in ("strength", f"ratio: {found['group']}", "furthest"):
        table.add_column(column)
    table.add_column(wording.measure_name(found["metrics"][0]))
    table.add_column("change")
    for bonus in compared:
        table.add_column(f"against {_COMPARISONS[bonus]}")
    for entry in found["points"]:
        table.add_row(*_cells(entry, found["metrics"][0], compared))
    return table


def verdicts(found: Mapping[str, Any]) -> list[str]:
    """Says of the regularizers which are worth their cost, a sentence per comparison.

    A line is judged by its point whose furthest ratio is closest to 1. The intervals are those of
    the regularizers' changes; what a bonus costs is taken as exact.

    Args:
        found: What `frontier` returned.
    """
    lines = {
        name: line
        for name, line in lines_of(found["points"]).items()
        if line[0]["kind"] == "regularizer"
    }
    sentences = []
    for bonus in _compared(found) if lines else []:
        judged: dict[str, list[str]] = {}
        for name, line in lines.items():
            judged.setdefault(_verdict(line, found["points"][0], bonus), []).append(name)
        parts = [
            f"{meaning}: {', '.join(judged[verdict])}"
            for verdict, meaning in _VERDICTS.items()
            if verdict in judged
        ]
        sentences.append(
            f"Against {_COMPARISONS[bonus]} that brings the slice furthest from 1 as close to it – "
            f"{'; '.join(parts)}."
        )
    return sentences


def _compared(found: Mapping[str, Any]) -> list[str]:
    """Names of the bonuses that were tried."""
    lines = lines_of(found["points"])
    return [bonus for bonus in _COMPARISONS if bonus in lines]


def _cells(entry: Mapping[str, Any], metric: str, compared: Sequence[str]) -> list[str]:
    """A row of the table."""
    baseline = entry["kind"] == "baseline"
    first = [entry["line"], "" if baseline else f"{entry['strength']:g}"]
    if entry["diverged"]:
        return [*first, "[red]diverged[/red]"]
    change = None if baseline else entry["change"][metric]
    differences = [change, *(entry["against"][bonus] for bonus in compared)]
    return [
        *first,
        _value(entry["ratio"], wording.ratio),
        _furthest(entry["worst"]),
        _value(entry["quality"][metric], wording.quality),
        *(wording.with_interval(figure, wording.relative_change) for figure in differences),
    ]


def _value(figure: wording.Figure, form: Callable[[float], str]) -> str:
    return wording.NONE if figure is None else form(figure["value"])


def _furthest(worst: Mapping[str, Any]) -> str:
    where = f" ({worst['value']})" if worst["slice"] else ""
    return _value(worst["ratio"], wording.ratio) + where


def _verdict(line: Sequence[Mapping[str, Any]], baseline: Mapping[str, Any], bonus: str) -> str:
    reached = [point for point in line if find(point, "worst", "ratio")]
    if not reached:
        return "diverged" if all(point["diverged"] for point in line) else "unmeasured"
    best = min(reached, key=_distance)
    if _distance(best) > _distance(baseline) - _CLEARLY_CLOSER:
        return "idle"
    against = best["against"][bonus]
    if against is None:
        return "beyond"
    if against["low"] > 0:
        return "better"
    return "worse" if against["high"] < 0 else "same"


def _distance(point: Mapping[str, Any]) -> float:
    """Of the furthest ratio from 1."""
    ratio = find(point, "worst", "ratio", "value")
    return float("inf") if ratio is None else from_parity(ratio)
