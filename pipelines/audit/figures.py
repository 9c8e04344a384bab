"""The audit of served lists: quality and group exposure, overall and per slice of the users.

`measure` reduces a run's lists to sums per user; `audit` turns those into figures with intervals,
and `compare` into paired differences between two runs. `audit_of_cells` does the former for sums
that were added up elsewhere, such as by `pipelines.audit.transforms`. A figure is
`{"value", "low", "high", "count"}`, or None where it is undefined or rests on too few users.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fairness_losses.bootstrap import estimate, resampled_sums
from fairness_losses.errors import InvalidInputError
from pipelines.audit.layout import Layout, Statistics
from pipelines.audit.measurement import Measurement, measure
from pipelines.config import RunConfig
from pipelines.slicing import Cells

__all__ = ["CellSums", "Measurement", "audit", "audit_of_cells", "compare", "measure"]


@dataclasses.dataclass(frozen=True)
class CellSums:
    """The lists of a cell, added up.

    Attributes:
        users: Distinct users.
        users_with_positives: Those of them who have a relevant item.
        users_with_ndkl: Those of them with a list whose NDKL is defined.
        lists: Lists.
        sums: float64 `[num_sums]`, over the lists.
        resampled: float64 `[samples, num_sums]`, the same of every resample of the users.
    """

    users: int
    users_with_positives: int
    users_with_ndkl: int
    lists: int
    sums: np.ndarray
    resampled: np.ndarray


def audit(measurement: Measurement, config: RunConfig) -> dict[str, Any]:
    """Returns the figures of one run, as JSON values, see `audit_of_cells`."""
    layout = measurement.layout

    def sums_of(who: np.ndarray) -> CellSums:
        per_user = measurement.sums[who]
        positive, ndkl = layout.has(per_user).sum(axis=1).tolist()
        resampled = resampled_sums(per_user, config.audit.bootstrap_samples, config.seed)
        return CellSums(len(who), positive, ndkl, len(who), per_user.sum(axis=0), resampled)

    cells = _by_cell(measurement.cells, sums_of)
    return audit_of_cells(measurement.run, layout, cells["overall"], cells["slices"], config)


def audit_of_cells(
    run: Mapping[str, Any],
    layout: Layout,
    overall: CellSums,
    slices: Mapping[str, Mapping[str, CellSums]],
    config: RunConfig,
) -> dict[str, Any]:
    """Returns the figures of lists that were added up, as JSON values.

    Args:
        run: What the lists are, copied into the report.
        layout: What the columns of the sums are.
        overall: All lists.
        slices: Those of every slice, by its name and value.
        config: The run configuration.

    Returns:
        `run`; `depth`, `confidence`, `bootstrap_samples`, `min_users`; `groups`, the target and
        catalogue share per group; `overall`, a cell; and `slices`, the cells by the slice's name
        and value. A cell has `users` and `lists`, `users_with_positives`, `quality` (mean over the
        lists with a positive), `groups`: `candidate_share`, `exposure_share` and
        `exposure_ratio`, whose `count` is the group's candidate slots; and, if there are groups,
        `across_groups`: `min_skew` and `max_skew` of all candidates, `awrf` of all exposure, the
        mean `diversity` and `ndkl` of the lists. A cell of fewer than `audit.min_users` users is
        `{"suppressed": true}`; if only the users with a positive are so few, its quality and their
        number are None; if those with an item of a group with a target, its NDKL.
    """
    groups = layout.groups
    return {
        "run": dict(run),
        "depth": layout.depth,
        "confidence": config.audit.confidence,
        "bootstrap_samples": len(overall.resampled),
        "min_users": config.audit.min_users,
        "groups": {
            label: {"target": float(target) or None, "catalogue_share": float(share)}
            for label, target, share in zip(
                groups.labels, layout.target, groups.catalogue_share, strict=True
            )
        },
        "overall": _audit_cell(layout, overall, config),
        "slices": {
            name: {value: _audit_cell(layout, sums, config) for value, sums in values.items()}
            for name, values in slices.items()
        },
    }


def compare(before: Measurement, after: Measurement, config: RunConfig) -> dict[str, Any]:
    """Returns the differences `after - before`, paired by user, as JSON values.

    Returns:
        `before` and `after`, the runs; `overall` and `slices` as in `audit`. A cell has `users`,
        `quality` (`difference`, and `relative`: after / before - 1), `groups`
        (`exposure_ratio`, the difference) and `across_groups` (differences). Each `count` is the
        number of users behind it.

    Raises:
        InvalidInputError: The runs listed different users or groups.
    """
    if not np.array_equal(before.user_ids, after.user_ids):
        raise InvalidInputError(
            "two runs can only be compared on the same users. Serve both to the same users."
        )
    if before.layout.groups.labels != after.layout.groups.labels or (
        before.layout.ks != after.layout.ks
    ):
        raise InvalidInputError(
            "two runs can only be compared with the same `groups` and `audit.ks`. Audit both "
            "with one configuration."
        )
    return {
        "before": dict(before.run),
        "after": dict(after.run),
        **_by_cell(before.cells, lambda who: _compare_cell(before, after, who, config)),
    }


def _by_cell(cells: Cells, make: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    return {
        "overall": make(cells.everyone),
        "slices": {
            name: {value: make(who) for value, who in values.items()}
            for name, values in cells.slices.items()
        },
    }


def _audit_cell(layout: Layout, cell: CellSums, config: RunConfig) -> dict[str, Any]:
    if cell.users < config.audit.min_users:
        return {"suppressed": True}
    counts = layout.counts(cell.sums)
    few_positives = cell.users_with_positives < config.audit.min_users
    observed, drawn = layout.statistics(cell.sums), layout.statistics(cell.resampled)
    if few_positives:
        counts |= {path: 0 for path in counts if path[0] == "quality"}
    if cell.users_with_ndkl < config.audit.min_users:
        counts["across_groups", "ndkl"] = 0
    return {
        "users": cell.users,
        "lists": cell.lists,
        **_figures(observed, drawn, counts, config),
        "users_with_positives": None if few_positives else cell.users_with_positives,
    }


def _compare_cell(
    before: Measurement, after: Measurement, who: np.ndarray, config: RunConfig
) -> dict[str, Any]:
    if len(who) < config.audit.min_users:
        return {"suppressed": True}

    def changes(sums: np.ndarray) -> Statistics:
        old, new = (
            run.layout.statistics(part)
            for run, part in zip((before, after), np.split(sums, 2, axis=-1), strict=True)
        )
        figures: Statistics = {}
        with np.errstate(invalid="ignore", divide="ignore"):
            for path, was in old.items():
                if path[0] == "quality":
                    figures[(*path, "difference")] = new[path] - was
                    figures[(*path, "relative")] = new[path] / was - 1
                elif path[0] == "across_groups" or path[-1] == "exposure_ratio":
                    figures[path] = new[path] - was
        return figures

    old, new = (run.layout.counts(run.sums[who].sum(axis=0)) for run in (before, after))
    counts = {
        path: len(who) if path[0] == "groups" else min(count, new[path])
        for path, count in old.items()
    }
    per_user = np.hstack([before.sums[who], after.sums[who]])
    resampled = resampled_sums(per_user, config.audit.bootstrap_samples, config.seed)
    observed, drawn = changes(per_user.sum(axis=0)), changes(resampled)
    return {"users": len(who), **_figures(observed, drawn, counts, config)}


def _figures(
    observed: Statistics,
    drawn: Statistics,
    counts: Mapping[tuple[str, ...], int],
    config: RunConfig,
) -> dict[str, Any]:
    """One cell's figures, nested by their paths."""
    figures: dict[str, Any] = {"quality": {}, "groups": {}}
    for path, value in observed.items():
        count = counts[path[:2]]
        hidden = path[0] != "groups" and count < config.audit.min_users
        place = figures
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place[path[-1]] = (
            None if hidden else estimate(float(value), drawn[path], config.audit.confidence, count)
        )
    return figures
