"""The report as a page: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import hashlib
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipelines.report import card, gates, leakage, sentences, wording
from pipelines.report.figures import plots_of
from pipelines.report.frontier import Frontier
from pipelines.report.tables import (
    Line,
    by_slice,
    compared,
    main_columns,
    more_measures,
    slice_lines,
)
from pipelines.report.templates import templates
from pipelines.report.trace import shown, traced
from pipelines.report.trend import trend
from pipelines.report.wording import find


def _compact(text: str) -> str:
    """The text without the empty lines that templates leave behind."""
    return re.sub(r"\n\s*\n+", "\n", text).lstrip()


_SORTING = _compact((pathlib.Path(__file__).parent / "sort.js").read_text(encoding="utf-8"))


def render(report: Mapping[str, Any]) -> str:
    """Returns the page of a report, the same for the same report.

    Every number on it that is one of the report says where it stands there, see `trace`.

    Args:
        report: What `build_report` returned.
    """
    report = traced(report)
    last = report["runs"][-1]
    everyone = Line("all users", *wording.overall_cells(report))
    slices = dict(slice_lines(report))
    columns = main_columns(report)
    page = (
        templates()
        .get_template("report.html.j2")
        .render(
            report=report,
            last=last,
            paired=report["comparison"] is not None,
            sorting=Markup(_SORTING),
            sorting_hash=_hash(_SORTING),
            wording=wording,
            sentences=sentences,
            shown=shown,
            find=find,
            flatten=lambda settings: list(_flatten(settings)),
            everyone=everyone,
            slices=slices,
            columns=columns,
            more=more_measures(report),
            gates=gates.rows(report),
            trend=trend(report),
            frontier=Frontier.of(report),
            model_card=card.model_card(report),
            data_card=card.data_card(report),
            compared=compared(report),
            unknowns=any(find(last, "overall", name) for name in ("bounds", "label_noise")),
            tests=by_slice(find(last, "tests", "cells") or []),
            leakage=leakage,
            probed=leakage.probed(report),
            plots=plots_of(report, everyone, slices, columns),
        )
    )
    return _compact(page)


def _hash(script: str) -> str:
    """What the page's policy knows its script by; no other runs, whatever a label may hold."""
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Markup]]:
    """Nested settings as rows: `target · kind` and its value."""
    for name, value in settings.items():
        label = f"{prefix}{name}".replace("_", " ")
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{label} · ")
        elif value is not None:
            yield label, _plain(value)


def _plain(value: Any) -> Markup:
    if isinstance(value, bool):
        return Markup("yes" if value else "no")
    if isinstance(value, int):
        return shown(value, wording.count)
    if isinstance(value, float):
        return shown(value, "{:.4g}".format)
    if isinstance(value, Mapping):
        return Markup(" ").join(text for _, text in _flatten(value))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return Markup(", ").join(_plain(each) for each in value) or Markup(wording.NONE)
    return shown(value, str)
