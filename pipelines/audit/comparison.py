"""What one run changed, beside another: differences, paired by user."""

from __future__ import annotations

from typing import Any

import numpy as np

from fairness_losses.bootstrap import estimate, resampled_sums
from fairness_losses.errors import InvalidInputError
from pipelines.audit.details import OVERALL
from pipelines.audit.layout import Statistics
from pipelines.audit.measurement import Measurement
from pipelines.config import RunConfig


def compare(before: Measurement, after: Measurement, config: RunConfig) -> dict[str, Any]:
    """Returns the differences `after - before`, paired by user, as JSON values.

    Returns:
        `before` and `after`, the runs; `overall` and `slices` as in `figures.audit_of_cells`; what
        is not shown of one of the runs has no difference either. A cell has `users`, `quality`
        (`difference`, and `relative`: after / before - 1), `groups` (`exposure_ratio`, the
        difference) and `across_groups` (differences). Each `count` is the number of users behind
        it.

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
    fewest = config.audit.min_users
    hidden = [run.details.hidden(fewest) for run in (before, after)]
    withheld = [
        {name for run in hidden for name, hide in run[part].items() if hide} for part in range(3)
    ]

    def of_cell(name: tuple[str, str], who: np.ndarray) -> dict[str, Any]:
        if name in withheld[0]:
            return {"suppressed": True}
        shown = [name not in cells for cells in withheld[1:]]
        return _compare_cell(before, after, who, config, *shown)

    return {
        "before": dict(before.run),
        "after": dict(after.run),
        "overall": of_cell(OVERALL, before.cells.everyone),
        "slices": {
            name: {value: of_cell((name, value), who) for value, who in values.items()}
            for name, values in before.cells.slices.items()
        },
    }


def _compare_cell(
    before: Measurement,
    after: Measurement,
    who: np.ndarray,
    config: RunConfig,
    quality: bool,
    ndkl: bool,
) -> dict[str, Any]:
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
    per_user = np.hstack([before.sums[who], after.sums[who]])
    drawn = changes(resampled_sums(per_user, config.audit.bootstrap_samples, config.seed))
    figures: dict[str, Any] = {"users": len(who), "quality": {}, "groups": {}}
    for path, value in changes(per_user.sum(axis=0)).items():
        place = figures
        for step in path[:-1]:
            place = place.setdefault(step, {})
        count = len(who)
        is_hidden = False
        if path[0] != "groups":
            count = min(old[path[:2]], new[path[:2]])
            is_hidden = count < config.audit.min_users
        is_hidden |= path[0] == "quality" and not quality
        is_hidden |= path == ("across_groups", "ndkl") and not ndkl
        level = config.audit.confidence
        place[path[-1]] = None if is_hidden else estimate(float(value), drawn[path], level, count)
    return figures
