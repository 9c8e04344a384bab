"""The report as a page: one HTML file that needs nothing else."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from fairness_losses.browsing import dcg_weights
from pipelines.report import leakage, wording
from pipelines.report.plots import Estimate, Row, dot_plot, span
from pipelines.report.tables import Column, Line, main_columns, more_measures, slice_lines
from pipelines.report.templates import templates
from pipelines.report.wording import find

_RATIO_AXIS = "exposure ratio (1 = target)"


def render(report: Mapping[str, Any]) -> str:
    """Returns the page of a report, the same for the same report.

    Args:
        report: What `build_report` returned.
    """
    environment = templates()
    everyone = Line("all users", *wording.overall_cells(report))
    slices = dict(slice_lines(report))
    columns = main_columns(report)
    return environment.get_template("report.html.j2").render(
        report=report,
        last=report["runs"][-1],
        last_attention=dcg_weights(report["runs"][-1]["depth"])[-1],
        paired=report["comparison"] is not None,
        wording=wording,
        unbroken=_unbroken,
        find=find,
        flatten=lambda settings: list(_flatten(settings)),
        everyone=everyone,
        slices=slices,
        columns=columns,
        more=more_measures(report),
        leakage=leakage,
        probed=leakage.probed(report),
        plots=_plots(columns, everyone, slices),
    )


def _plots(
    columns: Mapping[str, Sequence[Column]], everyone: Line, slices: Mapping[str, Sequence[Line]]
) -> dict[str, Any]:
    """The SVGs by where they stand; those that would show nothing are left out."""
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
            groups,
            span(_drawn(groups), 0, 1),
            row_height=40,
        ),
        "slices": {
            group: _ratio_plot(f"slices-{i}", f"Exposure ratio of {group} per slice", rows, scale)
            for i, (group, rows) in enumerate(by_group.items())
        },
        "quality": _drawn(moved)
        and Markup(
            dot_plot(
                "quality",
                f"Relative change of {ndcg.label} per slice",
                _in_words(moved, wording.relative_change),
                moved,
                axis=f"change of {ndcg.label}",
                reference=0,
                limits=span(_drawn(moved), 0),
                percent=True,
            )
        ),
    }


def _ratio_plot(
    name: str, title: str, rows: list[Row], limits: tuple[float, float], row_height: float = 21
) -> Markup:
    if not _drawn(rows):
        return Markup()
    return Markup(
        dot_plot(
            name,
            title,
            _in_words(rows, wording.ratio),
            rows,
            axis=_RATIO_AXIS,
            reference=1,
            limits=limits,
            row_height=row_height,
        )
    )


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


def _in_words(rows: Sequence[Row], form: Callable[[float], str]) -> str:
    """What a plot shows, for those who cannot see it."""
    return "; ".join(
        f"{row.label}: "
        + ", ".join(
            f"{series} {wording.with_interval(estimate, form)}"
            for series, estimate in row.estimates.items()
            if estimate is not None
        )
        for row in rows
        if row.estimates
    )


def _unbroken(sentence: str) -> Markup:
    """The sentence for the page, with the intervals in it kept on one line."""
    return Markup(
        re.sub(r"\([^()]{,24}\)", r'<span class="nowrap">\g<0></span>', str(escape(sentence)))
    )


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested settings as rows: `target · kind` and its value."""
    for name, value in settings.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{label} · ")
        elif value is not None:
            yield label, _plain(value)


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(_plain(each) for each in value) or wording.NONE
    return str(value)
