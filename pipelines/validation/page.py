"""The result of a validation as a page: one HTML file that needs nothing else."""

from __future__ import annotations

import itertools
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from pipelines.report import wording
from pipelines.report.templates import templates
from pipelines.validation import sentences
from pipelines.validation.anomalies import KINDS
from pipelines.validation.bars import histogram


def render(result: Mapping[str, Any]) -> str:
    """Returns the page of a result, the same for the same result.

    Args:
        result: What `build_result` returned.
    """
    template = templates(pathlib.Path(__file__).parent).get_template("validation.html.j2")
    page = template.render(
        result=result,
        headline=sentences.headline(result),
        problems=list(sentences.problems(result)),
        findings=list(sentences.findings(result)),
        kinds={name: kind for name, kind in KINDS.items() if _of_kind(result, name)},
        of_kind=lambda name: _of_kind(result, name),
        code=_code,
        wording=wording,
        label=sentences.label,
        number=sentences.number,
        rows=sentences.rows_of,
        labels=list(result["missing_labels"][0]["missing"]),
        distances=_distances(result),
        histogram=histogram,
        compared=_compared(result),
        by_division=_by_division,
    )
    return page.lstrip()


def _of_kind(result: Mapping[str, Any], kind: str) -> list[Mapping[str, Any]]:
    return [anomaly for anomaly in result["anomalies"] if anomaly["kind"] == kind]


def _by_division(lines: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    """Lines that stand together, with their division; empty for all examples."""
    grouped = itertools.groupby(lines, key=lambda line: line["division"])
    return [(division, list(members)) for division, members in grouped]


def _code(text: str) -> Markup:
    """The text for the page, with what is between backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _distances(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line per feature, the one that is furthest from anything first."""
    lines: dict[str, dict[str, Any]] = {}
    for name in ("drift", "skew"):
        for each in result[name]:
            line = lines.setdefault(
                each["feature"],
                {"feature": each["feature"], "measure": each["measure"], "cells": {}},
            )
            line["cells"][name, each["part"]] = each
    return sorted(
        lines.values(), key=lambda line: -max(c["distance"] for c in line["cells"].values())
    )


def _compared(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What distances there are: drift of which parts, and skew."""
    found = [(name, each["part"]) for name in ("drift", "skew") for each in result[name]]
    return list(dict.fromkeys(found))
