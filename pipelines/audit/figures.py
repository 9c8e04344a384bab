"""The audit of served lists: quality and group exposure, overall and per slice of the users.

`measure` reduces a run's lists to sums per user; `audit` turns those into figures with intervals,
and `compare` into paired differences between two runs. A figure is
`{"value", "low", "high", "count"}`, or None where it is undefined or rests on too few users.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fairness_losses.errors import InvalidInputError
from pipelines.audit.bootstrap import estimate, resampled_sums
from pipelines.audit.measurement import Measurement, Statistics, measure
from pipelines.config import RunConfig
from pipelines.slicing import Cells

__all__ = ["Measurement", "audit", "compare", "measure"]


def audit(measurement: Measurement, config: RunConfig) -> dict[str, Any]:
    """Returns the figures of one run, as JSON values.

    Returns:
        `run`; `depth`, `confidence`, `bootstrap_samples`, `min_users`; `groups`, the target and
        catalogue share per group; `overall`, a cell; and `slices`, the cells by the slice's name
        and value. A cell has `users` (lists), `users_with_positives`, `quality` (mean over the
        users with a positive), `groups`: `candidate_share`, `exposure_share` and
        `exposure_ratio`, whose `count` is the group's candidate slots; and, if there are groups,
        `across_groups`: `min_skew` and `max_skew` of all candidates, `awrf` of all exposure, the
        mean `diversity` and `ndkl` of the lists. A cell of fewer than `audit.min_users` users is
        `{"suppressed": true}`; if only the users with a positive are so few, its quality and their
        number are None.
    """
    groups = measurement.groups
    return {
        "run": dict(measurement.run),
        "depth": max(config.audit.ks),
        "confidence": config.audit.confidence,
        "bootstrap_samples": config.audit.bootstrap_samples,
        "min_users": config.audit.min_users,
        "groups": {
            label: {"target": float(target) or None, "catalogue_share": float(share)}
            for label, target, share in zip(
                groups.labels, measurement.target, groups.catalogue_share, strict=True
            )
        },
        **_by_cell(measurement.cells, lambda who: _audit_cell(measurement, who, config)),
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
    if before.groups.labels != after.groups.labels or before.metrics != after.metrics:
        raise InvalidInputError(
            "two runs can only be compared with the same `groups` and `audit.ks`. Audit both "
            "with one configuration."
        )
    return {
        "before": dict(before.run),
        "after": dict(after.run),
        **_by_cell(before.cells, lambda who: _compare_cell(before, after, who, config)),
    }


def _by_cell(cells: Cells, report: Callable[[np.ndarray], dict[str, Any]]) -> dict[str, Any]:
    return {
        "overall": report(cells.everyone),
        "slices": {
            name: {value: report(who) for value, who in values.items()}
            for name, values in cells.slices.items()
        },
    }


def _audit_cell(m: Measurement, who: np.ndarray, config: RunConfig) -> dict[str, Any]:
    if len(who) < config.audit.min_users:
        return {"suppressed": True}
    per_user = m.sums[who]
    counts = m.counts(per_user.sum(axis=0))
    positives = counts["quality", m.metrics[0]]
    return _cell(per_user, m.statistics, counts, config) | {
        "users_with_positives": _unless_few(positives, config)
    }


def _compare_cell(
    before: Measurement, after: Measurement, who: np.ndarray, config: RunConfig
) -> dict[str, Any]:
    if len(who) < config.audit.min_users:
        return {"suppressed": True}

    def changes(sums: np.ndarray) -> Statistics:
        old, new = (
            run.statistics(part)
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

    old, new = (run.counts(run.sums[who].sum(axis=0)) for run in (before, after))
    counts = {
        path: len(who) if path[0] == "groups" else min(count, new[path])
        for path, count in old.items()
    }
    return _cell(np.hstack([before.sums[who], after.sums[who]]), changes, counts, config)


def _cell(
    per_user: np.ndarray,
    statistics: Callable[[np.ndarray], Statistics],
    counts: Mapping[tuple[str, ...], int],
    config: RunConfig,
) -> dict[str, Any]:
    """One cell's figures, nested by their paths."""
    observed = statistics(per_user.sum(axis=0))
    drawn = statistics(resampled_sums(per_user, config.audit.bootstrap_samples, config.seed))
    cell: dict[str, Any] = {"users": len(per_user), "quality": {}, "groups": {}}
    for path, value in observed.items():
        count = counts[path[:2]]
        hidden = path[0] != "groups" and count < config.audit.min_users
        place = cell
        for step in path[:-1]:
            place = place.setdefault(step, {})
        place[path[-1]] = (
            None if hidden else estimate(float(value), drawn[path], config.audit.confidence, count)
        )
    return cell


def _unless_few(count: int, config: RunConfig) -> int | None:
    return count if count >= config.audit.min_users else None
