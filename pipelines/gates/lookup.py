"""Finds what a gate is about in a report."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.gates.config import OVERALL, GateConfig

SUPPRESSED = {"suppressed": True}


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a figure stands.

    Attributes:
        slice: Name of the slice; None over all users.
        value: Of the slice; None for a difference or ratio between its values.
        group: Of items; None for a figure of no group.
    """

    slice: str | None = None
    value: str | None = None
    group: str | None = None

    def __str__(self) -> str:
        at = f"{self.slice}={self.value}" if self.value else self.slice or "all users"
        return f"{at}, {self.group}" if self.group else at


Figure = Mapping[str, Any]


class NotThereError(LookupError):
    """A report does not have what a gate names; its text says what it has instead."""


def audit_of(report: Mapping[str, Any], run: str | None) -> Mapping[str, Any]:
    """Returns the audit of a variant: of a run's report, or that which `audit-lists` wrote.

    Args:
        report: Either of them.
        run: Name of the variant; the last one if None.

    Raises:
        NotThereError: There is no such variant.
    """
    audits = report.get("runs", [report])
    if run is None:
        return audits[-1]
    for audit in audits:
        if audit["run"].get("variant") == run:
            return audit
    names = ", ".join(str(audit["run"].get("variant")) for audit in audits)
    raise NotThereError(f"the report has no run `{run}`, only {names}")


def figures(report: Mapping[str, Any], gate: GateConfig) -> dict[Place, Figure | None]:
    """Returns every figure that a gate is about; None where it is withheld or undefined.

    Args:
        report: Of a run, or of `audit-lists`.
        gate: What is looked for.

    Raises:
        NotThereError: The report does not know its run, slice, group or figure.
    """
    audit = audit_of(report, gate.run)
    if gate.figure == "index_recall":
        return _index_recalls(report, audit, gate)
    if gate.of != "value":
        return _between(audit, gate)
    found: dict[Place, Figure | None] = {}
    for place, cell in _cells(audit, gate):
        found |= _of_cell(audit, cell, place, gate)
    return found


def _cells(audit: Mapping[str, Any], gate: GateConfig) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    if gate.over == OVERALL:
        yield Place(), audit["overall"]
        return
    values = _known(audit["slices"], gate.over, "slice")
    for value in values if gate.value is None else [gate.value]:
        yield Place(gate.over, value), _known(values, value, f"value of `{gate.over}`")


def _of_cell(
    audit: Mapping[str, Any], cell: Mapping[str, Any], place: Place, gate: GateConfig
) -> dict[Place, Figure | None]:
    """The figure of a cell, or those of its groups. What a hidden cell would have is None."""
    shown = _a_shown_cell(audit) if cell == SUPPRESSED else cell
    for part in ("quality", "across_groups"):
        if gate.figure in shown.get(part, {}):
            if gate.group is not None:
                raise NotThereError(f"`{gate.figure}` is of no group: leave `group` out")
            return {place: None if cell == SUPPRESSED else cell[part][gate.figure]}
    return {
        dataclasses.replace(place, group=group): (
            None if cell == SUPPRESSED else cell["groups"][group][gate.figure]
        )
        for group in _groups(audit, shown, gate)
    }


def _groups(audit: Mapping[str, Any], cell: Mapping[str, Any], gate: GateConfig) -> list[str]:
    of_groups = cell["groups"]
    # Coverage has no interval, and counts no lists.
    known = [name for name in next(iter(of_groups.values()), {}) if name != "catalogue_coverage"]
    if gate.figure not in known:
        names = [*cell["quality"], *cell.get("across_groups", {}), *known]
        raise NotThereError(f"there is no figure `{gate.figure}`, only {', '.join(names)}")
    if gate.group is not None:
        _known(of_groups, gate.group, "group")
        return [gate.group]
    targets = audit["groups"]
    return [
        g for g in of_groups if gate.figure != "exposure_ratio" or targets[g]["target"] is not None
    ]


def _a_shown_cell(audit: Mapping[str, Any]) -> Mapping[str, Any]:
    if audit["overall"] == SUPPRESSED:
        raise NotThereError("too few users were served for any figure to be shown")
    return audit["overall"]


def _between(audit: Mapping[str, Any], gate: GateConfig) -> dict[Place, Figure | None]:
    of_all = audit.get("disparities")
    if of_all is None:
        raise NotThereError("the report was written before differences were; audit again")
    if gate.over == OVERALL:
        if gate.group is not None:
            raise NotThereError("between groups there is no one group: leave `group` out")
        metric = _known(of_all["groups"]["overall"] or {}, gate.figure, "figure")
        return {Place(): metric[gate.of]}
    metrics = _known(of_all["slices"], gate.over, "slice")
    if gate.figure in metrics:
        names: dict[str | None, str] = {None: gate.figure}
    else:
        groups = [gate.group] if gate.group else list(audit["groups"])
        names = {g: f"{gate.figure}[{g}]" for g in groups}
        if gate.group is None:
            names = {g: name for g, name in names.items() if name in metrics}
        if not names:
            raise NotThereError(f"there is no figure `{gate.figure}`")
    return {
        Place(gate.over, None, group): _known(metrics, name, "figure")[gate.of]
        for group, name in names.items()
    }


def _index_recalls(
    report: Mapping[str, Any], audit: Mapping[str, Any], gate: GateConfig
) -> dict[Place, Figure | None]:
    index = report.get("index", {}).get(audit["run"].get("variant"))
    if not index:
        raise NotThereError("the report says nothing of an index")
    groups = {g: found["recall"] for g, found in index["groups"].items()}
    if gate.group is not None:
        groups = {gate.group: _known(groups, gate.group, "group")}
    return {Place(group=g): recall for g, recall in groups.items()}


def _known(values: Mapping[str, Any], name: str, what: str) -> Any:
    if name not in values:
        raise NotThereError(f"there is no {what} `{name}`, only {', '.join(values) or 'none'}")
    return values[name]
