"""How the numbers of the audit are written for people, and what they are called."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sized
from typing import Any

Figure = Mapping[str, float] | None
"""A figure of the audit: `value`, `low`, `high`, `count`; None where there is none."""

Form = Callable[[float], str]
"""Writes a number."""

_SPACE = "\u00a0"
NONE = "–"
"""Stands for a figure that does not exist."""


def count(value: float) -> str:
    """`1,234`."""
    return f"{value:,}"


def length(values: Sized) -> str:
    """How many there are."""
    return count(len(values))


def plain(value: float) -> str:
    """`0.8`, `12.3`, with three significant digits."""
    return f"{value:.3g}".replace("-", "−")


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


def quality_change(value: float) -> str:
    """`+0.012`."""
    return _signed(value, ".3f")


def fine_change(value: float) -> str:
    """`+0.0012`."""
    return _signed(value, ".4f")


def relative_change(value: float) -> str:
    """`−1.2 %`."""
    return _signed(100 * value, ".1f") + f"{_SPACE}%"


def _signed(value: float, form: str) -> str:
    text = f"{value:+{form}}".replace("-", "−")
    return text[1:] if float(f"{value:{form}}") == 0 else text


def interval(figure: Mapping[str, float], form: Form) -> str:
    """The ends of a figure's interval: `91–95 %`, `−1.9 to −0.5 %`."""
    low, high = form(figure["low"]), form(figure["high"])
    unit = f"{_SPACE}%"
    low = low.removesuffix(unit) if high.endswith(unit) else low
    return f"{low} to {high}" if {low[0], high[0]} & {"+", "−"} else f"{low}–{high}"


def with_interval(figure: Figure, form: Form) -> str:
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


def find(cell: Any, *path: str) -> Any:
    """The value at a path in nested mappings, None if there is none."""
    for step in path:
        cell = (cell or {}).get(step)
    return cell
