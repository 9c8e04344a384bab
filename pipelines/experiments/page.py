"""The result of an experiment as a page: one HTML file that needs nothing else."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipelines.experiments import sentences
from pipelines.report import wording
from pipelines.report.plots import Row, dot_plot, span
from pipelines.report.templates import templates

_TONES = {"ship": "good", "stop": "bad", "invalid": "bad"}


def render(result: Mapping[str, Any]) -> str:
    """Returns the page of a result, the same for the same result.

    Args:
        result: The content of `experiment.json`.
    """
    template = templates(pathlib.Path(__file__).parent).get_template("experiment.html.j2")
    page = template.render(
        result=result,
        wording=wording,
        sentences=sentences,
        tone=lambda decision: _TONES.get(decision["decision"], ""),
        guardrail_plot=_guardrail_plot(result),
        slice_plot=_slice_plot(result),
        novelty_plots=_novelty_plots(result),
    )
    return page.lstrip()


@dataclasses.dataclass(frozen=True)
class _Plot:
    title: str
    svg: Markup


def _guardrail_plot(result: Mapping[str, Any]) -> _Plot | None:
    rows = [row for row in result["guardrails"] or [] if row.get("effect")]
    return _plot("guardrails", "Change of what is guarded", rows, _guardrail_label)


def _slice_plot(result: Mapping[str, Any]) -> _Plot | None:
    rows = [row for row in result["slices"] or [] if row["effect"]]
    name = result["primary"][0]["metric"] if result["primary"] else ""
    return _plot("slices", f"Change of {name}, per slice", rows, _slice_label(result))


def _slice_label(result: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], str]:
    if len(result["arms"]) == 2:
        return lambda row: str(row["value"])
    return lambda row: f"{row['value']}, {result['arms'][row['arm']]}"


def _novelty_plots(result: Mapping[str, Any]) -> list[_Plot]:
    plots = []
    for each in result["novelty"] or []:
        rows = [{"effect": day, "day": day["day"]} for day in each["days"]]
        title = f"Change in {result['arms'][each['arm']]}, by day since the first list"
        plots.append(
            _plot(f"novelty-{each['arm']}", title, rows, lambda row: f"day {row['day'] + 1}")
        )
    return [plot for plot in plots if plot is not None]


def _guardrail_label(row: Mapping[str, Any]) -> str:
    return f"{row['group']}, {row['value'] or 'all users'}" if row["group"] else row["metric"]


def _plot(
    name: str,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    label: Callable[[Mapping[str, Any]], str],
) -> _Plot | None:
    """A dot per row with an effect; None where there is none."""
    if not rows:
        return None
    described = "; ".join(
        f"{label(row)}: {wording.with_interval(row['effect'], wording.relative_change)}"
        for row in rows
    )
    # In units of a percent, tick labels are short enough for a phone.
    drawn = [{end: 100 * row["effect"][end] for end in ("value", "low", "high")} for row in rows]
    svg = dot_plot(
        name,
        title,
        described,
        [Row(label(row), {"after": each}) for row, each in zip(rows, drawn, strict=True)],
        axis="change to the control, percent",
        reference=0,
        limits=span(drawn, 0),
    )
    return _Plot(title, Markup(svg))
