"""The frontier: what each point gives the group, what it costs, and whether a bonus does better."""

from __future__ import annotations

import csv
import json
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipelines.config import RunConfig
from pipelines.report.wording import find
from pipelines.sweep.config import BONUS, BONUS_PER_SLICE, SweepConfig
from pipelines.sweep.parity import from_parity
from pipelines.sweep.points import Point

BONUSES = (BONUS, BONUS_PER_SLICE)
"""Lines that a regularizer is compared with."""

_NOTHING = {"value": 0.0, "low": 0.0, "high": 0.0}
"""The change of the model without a regularizer."""


def frontier(
    results: Sequence[tuple[Point, Mapping[str, Any]]], config: RunConfig, sweep: SweepConfig
) -> dict[str, Any]:
    """Puts the results of all points together, as JSON values.

    Args:
        results: Points with what `Measuring.result` returned, the baseline first.
        config: The run configuration.
        sweep: Its sweep.

    Returns:
        `title`, `group`, `bonus_by`, `metrics` (NDCG and recall at the largest k), `users` and
        `points`. A point has its `kind`, `line`, `strength` and `name`, whether it `diverged`, and

        - `quality` per metric, and its relative `change`, paired with the baseline by user;
        - `ratio`, the group's exposure ratio over all users, and `worst`, that of the slice where
          it is furthest from 1 (see `from_parity`), with its `slice` and `value`;
        - `against`, for the lines `bonus` and `bonus_per_slice`: by how much the change of NDCG of
          a regularizer is above that of the cheapest bonus that was tried whose worst ratio is at
          least as close to 1; None where no bonus comes as close. The interval is that of the
          regularizer's change alone, and the bonus's is taken as exact; it holds for other users,
          not for other trainings. Bonuses per slice are tuned on the lists that are measured, and
          know every user's slice: no comparison is harder.

        Figures are as in `pipelines.audit.figures`; None where a slice has too few users.
    """
    depth = max(config.audit.ks)
    metrics = [f"ndcg@{depth}", f"recall@{depth}"]
    points = [_entry(point, result, metrics, sweep.group) for point, result in results]
    _, baseline = results[0]
    lines = lines_of(points)
    for entry in points:
        entry["against"] = {
            bonus: _against(entry, [points[0], *lines[bonus]], metrics[0])
            if bonus in lines
            else None
            for bonus in BONUSES
        }
    return {
        "title": config.name,
        "group": sweep.group,
        "bonus_by": sweep.bonus_by,
        "metrics": metrics,
        "users": find(baseline, "audit", "overall", "users"),
        "points": points,
    }


def write_frontier(found: Mapping[str, Any], out: pathlib.Path) -> None:
    """Writes `frontier.json`, `frontier.csv` and `frontier.png` into a folder."""
    from pipelines.sweep.plot import plot_frontier

    text = json.dumps(found, ensure_ascii=False, indent=1, allow_nan=False)
    (out / "frontier.json").write_text(text + "\n", encoding="utf-8")
    rows = [_row(entry, found["metrics"]) for entry in found["points"]]
    with (out / "frontier.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    plot_frontier(found, out / "frontier.png")


def lines_of(points: Iterable[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    """Returns the points of every line, by strength; the baseline is on none of them."""
    lines: dict[str, list[Mapping[str, Any]]] = {}
    for entry in points:
        if entry["kind"] != "baseline":
            lines.setdefault(entry["line"], []).append(entry)
    return {name: sorted(line, key=lambda e: e["strength"]) for name, line in lines.items()}


def _entry(
    point: Point, result: Mapping[str, Any], metrics: Sequence[str], group: str
) -> dict[str, Any]:
    overall = find(result, "audit", "overall")
    change = {name: find(result, "change", "overall", "quality", name) for name in metrics}
    ratio = find(overall, "groups", group, "exposure_ratio")
    return {
        "kind": point.kind,
        "line": point.line,
        "strength": point.strength,
        "name": point.name,
        "diverged": not result,
        "quality": {name: find(overall, "quality", name) for name in metrics},
        "change": {
            name: _NOTHING if point.kind == "baseline" else find(figures, "relative")
            for name, figures in change.items()
        },
        "ratio": ratio,
        "worst": _worst(result, group) or {"slice": None, "value": None, "ratio": ratio},
    }


def _worst(result: Mapping[str, Any], group: str) -> dict[str, Any] | None:
    """The slice where the group's ratio is furthest from 1, of those with enough users."""
    ratios = [
        {"slice": name, "value": value, "ratio": ratio}
        for name, cells in (find(result, "audit", "slices") or {}).items()
        for value, cell in cells.items()
        if (ratio := find(cell, "groups", group, "exposure_ratio"))
    ]
    return max(ratios, key=lambda each: from_parity(each["ratio"]["value"]), default=None)


def _against(
    entry: Mapping[str, Any], bonuses: Sequence[Mapping[str, Any]], metric: str
) -> dict[str, float] | None:
    change, ratio = find(entry, "change", metric), find(entry, "worst", "ratio", "value")
    if entry["kind"] != "regularizer" or change is None or ratio is None:
        return None
    as_close = [
        cost["value"]
        for bonus in bonuses
        if (reached := find(bonus, "worst", "ratio", "value")) is not None
        and from_parity(reached) <= from_parity(ratio)
        and (cost := find(bonus, "change", metric)) is not None
    ]
    if not as_close:
        return None
    return {end: change[end] - max(as_close) for end in ("value", "low", "high")}


def _row(entry: Mapping[str, Any], metrics: Sequence[str]) -> dict[str, Any]:
    """A line of the table; empty where there is no figure."""
    row = {key: entry[key] for key in ("line", "strength", "diverged")}
    for name in metrics:
        row[name] = find(entry, "quality", name, "value")
        row |= _columns(f"{name}_change", find(entry, "change", name))
    row |= _columns("ratio", entry["ratio"])
    row |= _columns("worst_ratio", entry["worst"]["ratio"])
    row |= {"worst_slice": entry["worst"]["slice"], "worst_value": entry["worst"]["value"]}
    for bonus in BONUSES:
        row |= _columns(f"against_{bonus}", entry["against"][bonus])
    return row


def _columns(name: str, figure: Mapping[str, float] | None) -> dict[str, float | None]:
    return {name: find(figure, "value")} | {
        f"{name}_{end}": find(figure, end) for end in ("low", "high")
    }
