"""What stands in the tables of the page: the lines, and the measures in their columns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipelines.report import wording
from pipelines.report.wording import find, steered_groups

_MEANINGS = {
    "recall": "part of a user’s held-out items that is among the first k",
    "ndcg": "the same, counting how near the top they are",
    "mrr": "1 over the rank of the first held-out item, 0 if it is beyond k",
    "hit_rate": "part of the users with at least one held-out item among the first k",
    "min_skew": "the group furthest behind: logarithm of its candidate share over its target; "
    "0 is on target, −0.69 half of it",
    "max_skew": "the group furthest ahead, likewise; +0.69 is twice its target",
    "awrf": "likeness of the exposure shares and the targets; 1 is on target",
    "diversity": "part of the lists that hold every group with a target",
    "joint_exposure": "how unequally slices of users see groups of items; lower is more equal",
    "ndkl": "how far each list, from the top down, is from the targets; lower is nearer",
}


@dataclasses.dataclass(frozen=True)
class Line:
    """The same users in the run before, the run after and their comparison.

    What there is not is an empty cell.
    """

    label: str
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    change: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Column:
    """A measure in a table: where a cell holds it and its change, and how they are written."""

    label: str
    path: tuple[str, ...]
    form: wording.Form
    change: tuple[str, ...] = ()
    change_form: wording.Form = wording.ratio_change
    meaning: str = ""


def slice_lines(report: Mapping[str, Any]) -> Iterator[tuple[str, list[Line]]]:
    """Every slice's name and its lines, one per value."""
    runs, comparison = report["runs"], report["comparison"] or {}
    for name, cells in runs[-1]["slices"].items():
        yield (
            name,
            [
                Line(
                    value,
                    (find(runs[0], "slices", name, value) or {}) if len(runs) > 1 else {},
                    after,
                    find(comparison, "slices", name, value) or {},
                )
                for value, after in cells.items()
            ],
        )


def main_columns(report: Mapping[str, Any]) -> dict[str, list[Column]]:
    """The columns of the tables per slice: `ratio`, `share` and `quality`."""
    ratio_paths = {g: ("groups", g, "exposure_ratio") for g in steered_groups(report)}
    return {
        "ratio": [Column(g, path, wording.ratio, path) for g, path in ratio_paths.items()],
        "share": [
            Column(g, ("groups", g, "exposure_share"), wording.share)
            for g in report["runs"][-1]["groups"]
        ],
        "quality": [_of_quality(name) for name in reversed(wording.headline_metrics(report))],
    }


def more_measures(report: Mapping[str, Any]) -> list[Column]:
    """The measures over all users that no other table shows."""
    overall = report["runs"][-1]["overall"]
    shown = wording.headline_metrics(report)
    quality = [_of_quality(name) for name in overall.get("quality", {}) if name not in shown]
    return quality + [_across_groups(name) for name in overall.get("across_groups", {})]


@dataclasses.dataclass(frozen=True)
class Compared:
    """A measure whose highest and lowest slice are compared, and how differences are written."""

    key: str
    label: str
    form: wording.Form


def compared(report: Mapping[str, Any]) -> list[Compared]:
    """The measures whose disparities are shown: each group's exposure ratio, and the quality."""
    return [
        *(
            Compared(f"exposure_ratio[{group}]", f"exposure ratio: {group}", wording.ratio_change)
            for group in steered_groups(report)
        ),
        *(
            Compared(name, wording.measure_name(name), wording.quality_change)
            for name in wording.headline_metrics(report)
        ),
    ]


def by_slice(cells: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """The cells of every slice, slices and cells in the order of the report."""
    slices: dict[str, list[Mapping[str, Any]]] = {}
    for cell in cells:
        slices.setdefault(cell["slice"], []).append(cell)
    return slices


def _of_quality(name: str) -> Column:
    path = ("quality", name)
    meaning = _MEANINGS[name.partition("@")[0]]
    change = (*path, "relative")
    form = wording.relative_change
    return Column(wording.measure_name(name), path, wording.quality, change, form, meaning)


def _across_groups(name: str) -> Column:
    path = ("across_groups", name)
    skew = name.endswith("skew")
    form = wording.ratio_change if skew else wording.fine
    change_form = wording.ratio_change if skew else wording.fine_change
    return Column(
        wording.measure_name(name), path, form, path, change_form, _MEANINGS.get(name, "")
    )
