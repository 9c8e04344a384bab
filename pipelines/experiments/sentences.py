"""The result of an experiment in sentences for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.report.wording import relative_change, with_interval
from serving.experiments.guardrails import TRIPPED
from serving.experiments.sample_ratio import ALPHA
from serving.experiments.verdict import INVALID, KEEP, RUN, SHIP, STOP, guardrail_name

_OUTCOMES = {
    INVALID: "The experiment is broken",
    STOP: "Stop it",
    RUN: "Let it run",
    SHIP: "Ship it",
    KEEP: "Keep the control",
}


def outcome(result: Mapping[str, Any], decision: Mapping[str, Any]) -> str:
    """What to do with an arm, in a few words."""
    words = _OUTCOMES[decision["decision"]]
    return words if len(result["arms"]) == 2 else f"{result['arms'][decision['arm']]}: {words}"


def lead(result: Mapping[str, Any]) -> str:
    """The result in one sentence."""
    if result["is_mismatch"]:
        users = ", ".join(
            f"{n:,} in {arm}"
            for arm, n in zip(result["arms"], result["sample_ratio"]["users"], strict=True)
        )
        return (
            f"The arms do not have the users that they should have ({users}): something else than "
            "chance chose them, and nothing that would be measured meant anything."
        )
    tripped = [row for row in result["guardrails"] if row["status"] == TRIPPED]
    if tripped:
        return _loss(max(tripped, key=lambda row: abs(row["effect"]["value"])), result)
    if result["primary"] is None:
        return "Effects are shown when the experiment is over, as was fixed before its launch."
    first = result["primary"][0]
    change = with_interval(first["effect"], relative_change)
    return f"{_capital(first['metric'])}: {change} in {result['arms'][first['arm']]}."


def _loss(row: Mapping[str, Any], result: Mapping[str, Any]) -> str:
    """What was lost most."""
    change = with_interval(row["effect"], relative_change)
    allowed = relative_change(-row["margin"] if row["better"] == "higher" else row["margin"])
    return (
        f"{_capital(guardrail_name(row))}: {change} in {result['arms'][row['arm']]}, where "
        f"{allowed} was the most that may be lost."
    )


def findings(result: Mapping[str, Any]) -> Iterator[str]:
    """What was found, a sentence each."""
    if result["is_mismatch"]:
        yield (
            "Look for what treats arms differently: requests that fail in one of them, redirects, "
            "bots, a share that was changed, logs that are missing. Then start anew with a new "
            "salt."
        )
        return
    if result["primary"] is not None:
        # Without a loss, the first one is the lead.
        has_loss = any(row["status"] == TRIPPED for row in result["guardrails"])
        for row in result["primary"][0 if has_loss else 1 :]:
            change = with_interval(row["effect"], relative_change)
            yield f"{_capital(row['metric'])}: {change} in {result['arms'][row['arm']]}."
    for decision in result["decisions"]:
        for reason in decision["reasons"]:
            yield f"{_capital(result['arms'][decision['arm']])}: {reason}."
    statuses = [row["status"] for row in result["guardrails"]]
    if statuses:
        counts = [f"{statuses.count(each)} {each}" for each in dict.fromkeys(statuses)]
        yield f"Of {len(statuses)} guardrail tests: {', '.join(counts)}."
    for row in result["novelty"] or []:
        if row["change"] and row["change"]["is_clear"]:
            yield (
                f"In {result['arms'][row['arm']]} the effect changes with time "
                f"(p {p_value(row['change']['p'])}): it may not last."
            )


def warnings(counts: Mapping[str, Any]) -> Iterator[str]:
    """What is to be known of the log, though it changed nothing, a sentence each."""
    lists = counts["lists"]
    if lists["other_version"]:
        yield (
            f"{lists['other_version']:,} lists were served by another version than their arm "
            "names. They count: users belong to the arm whose lists they were served."
        )
    if lists["other_arm_than_assigned"]:
        yield (
            f"{lists['other_arm_than_assigned']:,} lists are of another arm than the salt puts "
            "their users into. Was the experiment changed after its launch?"
        )
    for who, users in lists["users_left_out"].items():
        if users:
            yield f"{users:,} users were left out with all their lists: {who}."


def mismatch(result: Mapping[str, Any]) -> str:
    """The test of the sample ratio."""
    p = p_value(result["sample_ratio"]["p"])
    return f"p {p}; below {ALPHA} nothing else is shown."


def p_value(value: float) -> str:
    """`0.032`, `< 0.0001`."""
    return "< 0.0001" if value < 1e-4 else f"{value:.2g}" if value < 0.1 else f"{value:.2f}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
