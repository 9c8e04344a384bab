"""From an analysis to a decision for each arm, by a rule and not by taste.

An arm is shipped when the primary metric improved and every guardrail held; harm that was shown
stops it at any time. Source: Schultzberg, Ankargren and Frånberg, "Risk-aware product decisions in
A/B tests with multiple metrics", 2024.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from serving.experiments.config import Experiment
from serving.experiments.guardrails import OPEN, TRIPPED

INVALID, STOP, RUN, SHIP, KEEP = "invalid", "stop", "keep running", "ship", "keep the control"
"""Decisions: the experiment is broken; end it now; it goes on; take the arm; leave all as it is."""

EXIT_TRIPPED = 3
"""Exit code where the sample ratio is wrong, a guardrail tripped, or was not shown to hold when the
experiment was over."""


def decide(experiment: Experiment, result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns for each arm but the control `arm`, `decision` and `reasons`.

    Args:
        experiment: With alpha.
        result: Of the analysis, but for this.
    """
    decisions = []
    for arm in range(1, len(experiment.arms)):
        decision, reasons = _decide(experiment, result, arm)
        decisions.append({"arm": arm, "decision": decision, "reasons": reasons})
    return decisions


def exit_code(result: Mapping[str, Any]) -> int:
    """Returns the exit code of a program that printed a result: 0, or `EXIT_TRIPPED`."""
    if result["is_mismatch"]:
        return EXIT_TRIPPED
    statuses = {row["status"] for row in result["guardrails"]}
    failed = TRIPPED in statuses or (result["is_over"] and OPEN in statuses)
    return EXIT_TRIPPED if failed else 0


def _decide(experiment: Experiment, result: Mapping[str, Any], arm: int) -> tuple[str, list[str]]:
    if result["is_mismatch"]:
        return INVALID, ["sample ratio mismatch"]
    rows = [row for row in result["guardrails"] if row["arm"] == arm]
    tripped = [guardrail_name(row) for row in rows if row["status"] == TRIPPED]
    if tripped:
        return STOP, [f"{name} tripped" for name in tripped]
    if result["primary"] is None:
        return RUN, ["effects are shown when it is over"]
    change = _change(experiment, result, arm)
    if change < 0:
        return STOP, ["the primary metric got worse"]
    not_held = [guardrail_name(row) for row in rows if row["status"] == OPEN]
    reasons = [] if change > 0 else ["no improvement of the primary metric was shown"]
    reasons += [f"{name} was not shown to hold" for name in not_held]
    if not reasons:
        return SHIP, ["the primary metric improved, and every guardrail held"]
    return (KEEP if result["is_over"] else RUN), reasons


def _change(experiment: Experiment, result: Mapping[str, Any], arm: int) -> int:
    """1 for an improvement that was shown, −1 for its contrary, 0 for neither."""
    (row,) = (row for row in result["primary"] if row["arm"] == arm)
    if row["effect"] is None or row["p_holm"] >= experiment.alpha:
        return 0
    return 1 if (row["effect"]["value"] > 0) == (row["better"] == "higher") else -1


def guardrail_name(row: Mapping[str, Any]) -> str:
    """Returns what a guardrail test is about: `exposure ratio of female, gender f`."""
    group = f" of {row['group']}" if row["group"] else ""
    users = f", {row['slice']} {row['value']}" if row["slice"] else ""
    return f"{row['metric']}{group}{users}"
