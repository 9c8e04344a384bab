"""The plots of the page, by where they stand."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipelines.report.mix_plot import mix_plot
from pipelines.report.plots import Estimate, Row, dot_plot, span
from pipelines.report.svg import NUM_SERIES
from pipelines.report.tables import Column, Line
from pipelines.report.wording import find, steered_groups

_RATIO_AXIS = "exposure ratio (1 = target)"


def plots_of(
    report: Mapping[str, Any],
    everyone: Line,
    slices: Mapping[str, Sequence[Line]],
    columns: Mapping[str, Sequence[Column]],
) -> dict[str, Any]:
    """Returns the SVGs; those that would show nothing are empty.

    Each says in which table its numbers stand: that is what a screen reader reads best.

    Args:
        report: What `build_report` returned.
        everyone: All users.
        slices: The lines of every slice.
        columns: What `main_columns` returned.
    """
    groups = [Row(c.label, _pair(everyone, c)) for c in columns["ratio"]]
    by_group = {
        c.label: _rows(everyone, slices, functools.partial(_pair, column=c))
        for c in columns["ratio"]
    }
    ndcg = columns["quality"][0]
    moved = _rows(everyone, slices, lambda line: {"after": find(line.change, *ndcg.change)})
    # One scale for all groups, so that the eye may compare them.
    scale = span([e for rows in by_group.values() for e in _drawn(rows)], 0, 1)
    return {
        "overall": _ratio_plot(
            "exposure",
            "Exposure ratio per group, all users",
            "Exposure per group, all users",
            groups,
            span(_drawn(groups), 0, 1),
            row_height=40,
        ),
        "mix": _mix(report, everyone, slices),
        "slices": {
            group: _ratio_plot(
                f"slices-{i}",
                f"Exposure ratio of {group} per slice",
                "Exposure ratio per slice",
                rows,
                scale,
            )
            for i, (group, rows) in enumerate(by_group.items())
        },
        "quality": _drawn(moved)
        and Markup(
            dot_plot(
                "quality",
                f"Relative change of {ndcg.label} per slice",
                _reference("Quality per slice"),
                moved,
                axis=f"change of {ndcg.label}",
                reference=0,
                limits=span(_drawn(moved), 0),
                percent=True,
            )
        ),
    }


def _ratio_plot(
    name: str,
    title: str,
    table: str,
    rows: list[Row],
    limits: tuple[float, float],
    row_height: float = 21,
) -> Markup:
    if not _drawn(rows):
        return Markup()
    return Markup(
        dot_plot(
            name,
            title,
            _reference(table),
            rows,
            axis=_RATIO_AXIS,
            reference=1,
            limits=limits,
            row_height=row_height,
        )
    )


def _mix(report: Mapping[str, Any], everyone: Line, slices: Mapping[str, Sequence[Line]]) -> Markup:
    groups = steered_groups(report)
    if not 2 <= len(groups) <= NUM_SERIES:
        return Markup()
    targets = {group: report["runs"][-1]["groups"][group]["target"] for group in groups}
    bars: list[tuple[str, Mapping[str, float]]] = [("target", targets)]
    for when, cell in (("without", everyone.before), ("with", everyone.after)):
        if shares := _shares(cell, groups):
            bars.append((f"all users, {when}" if everyone.before else "all users", shares))
    for name, lines in slices.items():
        values = [(line.label, shares) for line in lines if (shares := _shares(line.after, groups))]
        bars += [(name, {}), *values] if values else []
    if len(bars) == 1:
        return Markup()
    table = "The mix: exposure share per slice"
    title = "The mix of groups in the lists of every slice, beside the target"
    return Markup(mix_plot("mix", title, _reference(table), groups, bars))


def _shares(cell: Mapping[str, Any], groups: Sequence[str]) -> dict[str, float]:
    """The exposure shares of a cell; none if one is withheld."""
    shares = {group: find(cell, "groups", group, "exposure_share", "value") for group in groups}
    return {} if None in shares.values() else shares


def _reference(table: str) -> str:
    return f"Its numbers are in the table “{table}”."


def _pair(line: Line, column: Column) -> dict[str, Estimate]:
    return {
        "before": find(line.before, *column.path),
        "after": find(line.after, *column.path),
    }


def _rows(
    everyone: Line,
    slices: Mapping[str, Sequence[Line]],
    read: Callable[[Line], dict[str, Estimate]],
) -> list[Row]:
    """All users, then a heading per slice and its values; cells without figures are left out."""
    rows = [Row(everyone.label, read(everyone))]
    for name, lines in slices.items():
        values = [Row(line.label, read(line)) for line in lines]
        values = [row for row in values if _drawn([row])]
        rows += [Row(name), *values] if values else []
    return rows


def _drawn(rows: Sequence[Row]) -> list[Estimate]:
    return [e for row in rows for e in row.estimates.values() if e is not None]
