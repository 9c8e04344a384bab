"""The result of an experiment as a page: one HTML file that needs nothing else."""

from __future__ import annotations

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


def _guardrail_plot(result: Mapping[str, Any]) -> Markup:
    rows = [row for row in result["guardrails"] or [] if row.get("effect")]
    return _plot("guardrails", "Guardrails: change to the control", rows, guardrail_label)


def _slice_plot(result: Mapping[str, Any]) -> Markup:
    rows = [row for row in result["slices"] or [] if row["effect"]]
    name = result["primary"][0]["metric"] if result["primary"] else ""
    return _plot("slices", f"{name}: change per slice", rows, lambda row: row["value"])


def _novelty_plots(result: Mapping[str, Any]) -> list[Markup]:
    plots = []
    for each in result["novelty"] or []:
        rows = [{"effect": day, "day": day["day"]} for day in each["days"]]
        title = f"{result['arms'][each['arm']]}: change by day since the first list"
        plots.append(
            _plot(f"novelty-{each['arm']}", title, rows, lambda row: f"day {row['day'] + 1}")
        )
    return [plot for plot in plots if plot]


def guardrail_label(row: Mapping[str, Any]) -> str:
    """What a guardrail test is about: its group and slice, or its metric."""
    where = row["value"] or "all users"
    return f"{row['group']}, {where}" if row["group"] else row["metric"]


def _plot(
    name: str,
    title: str,
    rows: Sequence[Mapping[str, Any]],
    label: Callable[[Mapping[str, Any]], str],
) -> Markup:
    """A dot per row with an effect; nothing where there is none."""
    if not rows:
        return Markup()
    described = "; ".join(
        f"{label(row)}: {wording.with_interval(row['effect'], wording.relative_change)}"
        for row in rows
    )
    return Markup(
        dot_plot(
            name,
            title,
            described,
            [Row(label(row), {"after": row["effect"]}) for row in rows],
            axis="change to the control",
            reference=0,
            limits=span([row["effect"] for row in rows], 0),
            percent=True,
        )
    )
