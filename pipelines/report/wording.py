"""The audit in numbers and sentences for people."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

Figure = Mapping[str, float] | None
"""A figure of the audit: `value`, `low`, `high`, `count`; None where there is none."""

_SPACE = "\u00a0"
NONE = "–"
"""Stands for a figure that does not exist."""


def ratio(value: float) -> str:
    """`0.93`."""
    return f"{value:.2f}"


def quality(value: float) -> str:
    """`0.402`."""
    return f"{value:.3f}"


def fine(value: float) -> str:
    """`0.9962`."""
    return f"{value:.4f}"


def share(value: float) -> str:
    """`4.6 %`; two significant digits below one percent, as small groups need them."""
    percent = 100 * value
    digits = 1 if abs(percent) >= 1 or not percent else 2
    return f"{percent:.{digits}f}{_SPACE}%"


def whole_share(value: float) -> str:
    """`93 %`."""
    return f"{100 * value:.0f}{_SPACE}%"


def ratio_change(value: float) -> str:
    """`+0.52`."""
    return _signed(value, ".2f")


def fine_change(value: float) -> str:
    """`+0.0012`."""
    return _signed(value, ".4f")


def relative_change(value: float) -> str:
    """`−1.2 %`."""
    return _signed(100 * value, ".1f") + f"{_SPACE}%"


def _signed(value: float, form: str) -> str:
    text = f"{value:+{form}}".replace("-", "−")
    return text[1:] if float(f"{value:{form}}") == 0 else text


def interval(figure: Mapping[str, float], form: Callable[[float], str]) -> str:
    """The ends of a figure's interval: `91–95 %`, `−1.9 to −0.5 %`."""
    low, high = form(figure["low"]), form(figure["high"])
    unit = f"{_SPACE}%"
    low = low.removesuffix(unit) if high.endswith(unit) else low
    return f"{low} to {high}" if {low[0], high[0]} & {"+", "−"} else f"{low}–{high}"


def with_interval(figure: Figure, form: Callable[[float], str]) -> str:
    """`0.93 (0.91–0.95)`."""
    if figure is None:
        return NONE
    return f"{form(figure['value'])} ({interval(figure, form)})"


@dataclasses.dataclass(frozen=True)
class SummaryRow:
    """One line of the summary, in words: a measure before and after, and the paired change."""

    measure: str
    before: str
    after: str
    change: str


def summary_table(report: Mapping[str, Any]) -> list[SummaryRow]:
    """Returns recall and NDCG at the largest k and every group's exposure ratio, overall.

    Args:
        report: What `build_report` returned. With a single run `before` and `change` are `–`.
    """
    before, after, change = overall_cells(report)
    return [
        SummaryRow(
            measure_name(name),
            with_interval(find(before, "quality", name), quality),
            with_interval(find(after, "quality", name), quality),
            with_interval(find(change, "quality", name, "relative"), relative_change),
        )
        for name in headline_metrics(report)
    ] + [
        SummaryRow(
            f"exposure ratio: {group}",
            with_interval(find(before, "groups", group, "exposure_ratio"), ratio),
            with_interval(find(after, "groups", group, "exposure_ratio"), ratio),
            with_interval(find(change, "groups", group, "exposure_ratio"), ratio_change),
        )
        for group in steered_groups(report)
    ]


def measure_name(name: str) -> str:
    """`NDCG@20`, `hit rate@20`, `min skew`."""
    measure, at, k = name.partition("@")
    spelled = measure.upper() if measure in ("ndcg", "mrr", "awrf", "ndkl") else measure
    return spelled.replace("_", " ") + at + k


def headline_metrics(report: Mapping[str, Any]) -> tuple[str, str]:
    """The quality metrics at the largest k."""
    depth = report["runs"][-1]["depth"]
    return f"recall@{depth}", f"ndcg@{depth}"


def steered_groups(report: Mapping[str, Any]) -> list[str]:
    """The groups with a target."""
    return [g for g, about in report["runs"][-1]["groups"].items() if about["target"] is not None]


def overall_cells(report: Mapping[str, Any]) -> tuple[Mapping, Mapping, Mapping]:
    """The cell of all users in the run before, the run after and their comparison.

    With one run, it is the run after; what there is not is an empty cell.
    """
    runs, comparison = report["runs"], report["comparison"]
    before = runs[0]["overall"] if len(runs) > 1 else {}
    return before, runs[-1]["overall"], comparison["overall"] if comparison else {}


def headline(report: Mapping[str, Any]) -> str:
    """The outcome in one sentence."""
    _, after, _ = overall_cells(report)
    if after.get("suppressed"):
        fewer = report["runs"][-1]["min_users"]
        return f"The lists are of fewer than {fewer} users: too few to report on."
    parts = [part for part in (_exposure_outcome(report), _quality_outcome(report)) if part]
    if not parts:
        return "Too few of the users have a held-out item to say how good the lists are."
    opening = "With the regularizer, " if report["comparison"] else ""
    return f"{opening}{'; '.join(parts)}."


def _exposure_outcome(report: Mapping[str, Any]) -> str | None:
    before, after, _ = overall_cells(report)
    closer = [
        abs(now["value"] - 1) < abs(was["value"] - 1)
        for was, now in (
            [find(cell, "groups", group, "exposure_ratio") for cell in (before, after)]
            for group in steered_groups(report)
        )
        if was and now
    ]
    if not closer:
        return None
    who = "every group" if all(closer) else f"{sum(closer)} of {len(closer)} groups"
    return f"exposure is closer to the target for {who}"


def _quality_outcome(report: Mapping[str, Any]) -> str | None:
    _, after, change = overall_cells(report)
    _, ndcg = headline_metrics(report)
    moved = find(change, "quality", ndcg, "relative")
    if moved is None:
        now = find(after, "quality", ndcg)
        return None if now is None else f"{measure_name(ndcg)} is {with_interval(now, quality)}"
    size = with_interval(moved, relative_change)
    if moved["low"] <= 0 <= moved["high"]:
        return f"{measure_name(ndcg)} shows no clear change: {size}"
    return f"{measure_name(ndcg)} changed by {size}"


def verdict(report: Mapping[str, Any]) -> list[str]:
    """What the audit found about each group, and where the worst slice is, in sentences."""
    before, after, change = overall_cells(report)
    sentences = []
    for group in steered_groups(report):
        was, now, moved = (
            find(cell, "groups", group, "exposure_ratio") for cell in (before, after, change)
        )
        if now is not None:
            sentences.append(_group_sentence(report, group, was, now, moved))
    sentences += [_constraint_sentence(**said) for said in report["constraint"].values()]
    worst = _worst_slice(report)
    if worst is not None:
        name, value, group, now = worst
        sentences.append(
            f"The slice furthest from the target is {value} ({name}): there, items of group "
            f"{group} get {_percent(now)} of what the target gives them."
        )
    return sentences


def _group_sentence(
    report: Mapping[str, Any],
    group: str,
    was: Figure,
    now: Mapping[str, float],
    moved: Figure,
) -> str:
    due = {
        "catalogue": "their share of the catalogue gives them",
        "uniform": "an equal share for every group gives them",
    }.get(report["settings"]["fairness"]["target"]["kind"], "the target gives them")
    sentence = f"Items of group {group} get {_percent(now)} of the exposure that {due}"
    if was is None or moved is None:
        return sentence + "."
    if moved["low"] <= 0 <= moved["high"]:
        return f"{sentence}; from {whole_share(was['value'])} this is no clear change."
    direction = "up" if moved["value"] > 0 else "down"
    return f"{sentence}, {direction} from {whole_share(was['value'])}."


def _constraint_sentence(bands: int, unmet_bands: int) -> str:
    # Ratios stay out: a band may be of fewer users than are reported on.
    measured = "as measured on lists for users of the training part when it ended"
    if not unmet_bands:
        return f"The model was trained under a constraint, {bands} bands, all met {measured}."
    return (
        f"The model was trained under a constraint: of its {bands} bands {unmet_bands} are not "
        f"met, {measured}."
    )


def _worst_slice(report: Mapping[str, Any]) -> tuple[str, str, str, Mapping[str, float]] | None:
    """The slice value and group furthest from a ratio of 1, among those that chance cannot be."""
    found = [
        (name, value, group, figure)
        for name, cells in report["runs"][-1]["slices"].items()
        for value, cell in cells.items()
        for group in steered_groups(report)
        if (figure := find(cell, "groups", group, "exposure_ratio"))
        and not figure["low"] <= 1 <= figure["high"]
    ]
    return max(found, key=lambda each: abs(each[-1]["value"] - 1), default=None)


def _percent(figure: Mapping[str, float]) -> str:
    """`93 % (91–95)`, with a decimal where whole percents would hide the interval."""
    low, value, high = (100 * figure[part] for part in ("low", "value", "high"))
    digits = 0 if high - low >= 1 else 1
    return f"{value:.{digits}f}{_SPACE}% ({low:.{digits}f}–{high:.{digits}f})"


def find(cell: Any, *path: str) -> Any:
    """The value at a path in nested mappings, None if there is none."""
    for step in path:
        cell = (cell or {}).get(step)
    return cell
