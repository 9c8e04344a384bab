"""Who may take part, by what a request says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from serving.experiments.arms import Rule


def is_eligible(rules: Sequence[Rule], attributes: Mapping[str, Any]) -> bool:
    """Whether a request fulfils all rules.

    Args:
        rules: None of them on a sensitive attribute, which `Experiment` has seen to.
        attributes: Of the request, by name.
    """
    return all(_holds(rule, attributes.get(rule.attribute)) for rule in rules)


def _holds(rule: Rule, value: Any) -> bool:
    if value is None:
        return False
    if rule.any_of is not None:
        return str(value) in rule.any_of
    if rule.none_of is not None:
        return str(value) not in rule.none_of
    assert rule.at_least is not None
    # A number that came as text is no reason to leave a user out, and other text is.
    try:
        return float(value) >= rule.at_least
    except (TypeError, ValueError):
        return False
