"""Holds a report against its gates: one verdict, which people and machines read."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from fairness_losses.errors import InvalidInputError
from pipelines.gates.config import GateConfig, GatesConfig
from pipelines.gates.lookup import Figure, NotThereError, Place, audit_of, figures

VERDICT = "verdict.json"
"""Name of the file with a verdict, beside the report that it is of."""

PASSED, FAILED, NOT_MEASURED = "passed", "failed", "not measured"


class GateError(InvalidInputError):
    """A gate did not hold."""

    exit_code = 3


@dataclasses.dataclass(frozen=True)
class _Measured:
    """A number that a gate looks at.

    Attributes:
        place: Of its figure.
        number: The end of the figure, or its change.
        interval: Of the figure, or of its change.
        count: What it rests on.
    """

    place: Place
    number: float
    interval: tuple[float, float]
    count: int


def evaluate(
    report: Mapping[str, Any], gates: GatesConfig, previous: Mapping[str, Any] | None = None
) -> dict[str, Any] | None:
    """Returns the verdict on a report, as JSON values.

    Args:
        report: Of a run, or of `audit-lists`.
        gates: What has to hold.
        previous: The report of the release before; read from `gates.previous` by default.

    Returns:
        `passed`; `title`, of the report; `previous`, the path; `model_versions`, what the gates
        looked at; and `gates`, for each what was wanted and found, and its `status`: `passed`,
        `failed` or `not measured`, which does not pass. None if there are no gates.

    Raises:
        InvalidInputError: The previous report cannot be read.
    """
    if not gates.checks:
        return None
    if previous is None and gates.previous is not None:
        previous = read_report(pathlib.Path(gates.previous))
    results = [_judge(report, previous, gate) for gate in gates.checks]
    return {
        "passed": all(result["status"] == PASSED for result in results),
        "title": report.get("title") or audit_of(report, None)["run"].get("variant"),
        "previous": gates.previous,
        "model_versions": _versions(report, gates),
        "gates": results,
    }


def read_report(path: pathlib.Path) -> dict[str, Any]:
    """Reads the `report.json` of a run, or of `audit-lists`.

    Raises:
        InvalidInputError: It is none.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise InvalidInputError(f"{path}: no JSON: {error}.") from error
    if not isinstance(report, dict) or not (report.get("runs") or "overall" in report):
        raise InvalidInputError(
            f"{path}: no report of an audit. Give the `report.json` of a run or of `audit-lists`."
        )
    return report


def check_verdict(verdict: Mapping[str, Any] | None, path: pathlib.Path) -> None:
    """Stops where a gate did not hold.

    Args:
        verdict: What `evaluate` returned.
        path: File that it is in.

    Raises:
        GateError: A gate failed, or could not be measured.
    """
    if verdict is None or verdict["passed"]:
        return
    wrong = [gate for gate in verdict["gates"] if gate["status"] != PASSED]
    raise GateError(
        f"{len(wrong)} of {len(verdict['gates'])} gates did not hold: "
        f"{'; '.join(map(sentence, wrong))}. {path} has all of them."
    )


def sentence(gate: Mapping[str, Any]) -> str:
    """Returns a gate of a verdict in words."""
    if gate["status"] == NOT_MEASURED:
        return f"`{gate['name']}` could not be measured: {gate['reason']}"
    at = str(Place(**gate["at"]))
    return f"`{gate['name']}` {gate['status']} with {gate['found']:.4g} ({at})"


def _judge(
    report: Mapping[str, Any], previous: Mapping[str, Any] | None, gate: GateConfig
) -> dict[str, Any]:
    try:
        found = figures(report, gate)
        before = figures(previous, gate) if gate.change and previous is not None else {}
    except NotThereError as error:
        return _result(gate, NOT_MEASURED, reason=str(error))
    measured = [
        one
        for place, figure in found.items()
        if (one := _measured(place, figure, before.get(place), gate)) is not None
    ]
    withheld = len(found) - len(measured)
    if not measured:
        reason = "the figure is withheld or undefined everywhere"
        return _result(gate, NOT_MEASURED, withheld=withheld, reason=reason)
    # What the release before had, and this one has not, is no improvement.
    gone = [p for p, figure in before.items() if figure and not found.get(p)]
    if gate.change and (gone or withheld > sum(figure is None for figure in found.values())):
        reason = "a figure is not in both releases"
        return _result(gate, NOT_MEASURED, withheld=withheld, reason=reason)
    worst = min(measured, key=lambda one: _margin(one.number, gate))
    return _result(
        gate,
        PASSED if _margin(worst.number, gate) >= 0 else FAILED,
        run=audit_of(report, gate.run)["run"].get("variant"),
        found=worst.number,
        interval=list(worst.interval),
        count=worst.count,
        at=dataclasses.asdict(worst.place),
        checked=len(measured),
        withheld=withheld,
    )


def _measured(
    place: Place, figure: Figure | None, before: Figure | None, gate: GateConfig
) -> _Measured | None:
    if figure is None or (gate.change and before is None):
        return None

    def changed(number: float) -> float:
        if not gate.change or before is None:
            return number
        difference = number - before["value"]
        return difference / abs(before["value"]) if gate.change == "relative" else difference

    if gate.change == "relative" and before is not None and not before["value"]:
        return None
    interval = changed(figure["low"]), changed(figure["high"])
    return _Measured(place, changed(figure[gate.end]), interval, figure["count"])


def _margin(number: float, gate: GateConfig) -> float:
    """How far a number is within the limits; negative outside."""
    below = float("inf") if gate.min is None else number - gate.min
    above = float("inf") if gate.max is None else gate.max - number
    return min(below, above)


def _result(gate: GateConfig, status: str, **known: Any) -> dict[str, Any]:
    return {
        "name": gate.title,
        **gate.model_dump(include={"run", "figure", "group", "over", "of", "end", "change"}),
        "wanted": {"min": gate.min, "max": gate.max},
        **dict.fromkeys(("found", "interval", "count", "at")),
        "checked": 0,
        "withheld": 0,
        "status": status,
        "reason": None,
        **known,
    }


def _versions(report: Mapping[str, Any], gates: GatesConfig) -> list[str]:
    """Model versions of the runs that gates name."""
    versions: set[str] = set()
    for run in {gate.run for gate in gates.checks}:
        try:
            versions.update(map(str, audit_of(report, run)["run"].get("model_version", [])))
        except NotThereError:
            continue
    return sorted(versions)
