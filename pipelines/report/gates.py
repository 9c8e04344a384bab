"""The gates' verdict, in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from pipelines.report import wording
from pipelines.report.trace import shown
from pipelines.report.wording import find

_ENDS = {
    "value": "",
    "low": "the lower end of the interval of ",
    "high": "the upper end of the interval of ",
}
_OF = {"difference": "highest less lowest", "ratio": "lowest over highest"}


@dataclasses.dataclass(frozen=True)
class GateRow:
    """A line of the table of gates."""

    name: str
    what: str
    wanted: Markup
    found: Markup
    where: str
    status: str


def rows(report: Mapping[str, Any]) -> list[GateRow]:
    """Returns the gates that did not pass, then the others; none if the run has none."""
    gates = find(report, "verdict", "gates") or []
    return [_row(gate) for gate in sorted(gates, key=lambda gate: gate["status"] == "passed")]


def _row(gate: Mapping[str, Any]) -> GateRow:
    form = wording.relative_change if gate["change"] == "relative" else wording.plain
    found = find(gate, "found")
    at = gate["at"] or {}
    places = [at.get("group"), at.get("slice") and f"{at['slice']} {at['value']}"]
    return GateRow(
        gate["name"],
        _what(gate),
        _wanted(gate["wanted"], form),
        Markup("nothing") if found is None else shown(found, form),
        ", ".join(place for place in places if place) or (gate["reason"] or ""),
        gate["status"],
    )


def _what(gate: Mapping[str, Any]) -> str:
    """`exposure ratio of female, by gender`."""
    what = _ENDS[gate["end"]] + wording.measure_name(gate["figure"])
    what += f" of {gate['group']}" if gate["group"] else ""
    everyone = gate["over"] == "overall"
    if gate["of"] in _OF:
        what += f", {_OF[gate['of']]} of {'the groups' if everyone else gate['over']}"
    else:
        what += ", all users" if everyone else f", by {gate['over']}"
    return what + (", change from the previous release" if gate["change"] else "")


def _wanted(wanted: Mapping[str, Any], form: wording.Form) -> Markup:
    low, high = (
        None if wanted[end] is None else shown(wanted[end], form) for end in ("min", "max")
    )
    if low is None:
        return Markup("at most {}").format(high)
    return (
        Markup("at least {}").format(low) if high is None else Markup("{} to {}").format(low, high)
    )
