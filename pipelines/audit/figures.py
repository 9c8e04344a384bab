"""The audit of served lists: quality and group exposure, overall and per slice of the users.

`measure` reduces a run's lists to sums per user; `audit` turns those into figures with intervals.
`audit_of_cells` does so for sums that were added up elsewhere, such as by
`pipelines.audit.transforms`. `pipelines.audit.comparison` compares two runs. A figure is
`{"value", "low", "high", "count"}`, or None where it is undefined or rests on too few users.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fairness_losses.bootstrap import resampled_sums
from pipelines.audit.bounds import cell_bounds, may_belong
from pipelines.audit.cell_figures import CellSums, cell_figures
from pipelines.audit.comparison import compare
from pipelines.audit.details import OVERALL, Details
from pipelines.audit.disparities import between_groups, between_values
from pipelines.audit.layout import Layout, Statistics
from pipelines.audit.measurement import Measurement, measure
from pipelines.audit.permutation import cell_tests
from pipelines.config import RunConfig
from pipelines.slicing import by_cell

__all__ = ["CellSums", "Measurement", "audit", "audit_of_cells", "compare", "measure"]

SUPPRESSED = {"suppressed": True}
"""Stands for a cell that is not shown."""


def audit(measurement: Measurement, config: RunConfig) -> dict[str, Any]:
    """Returns the figures of one run, as JSON values, see `audit_of_cells`."""
    layout = measurement.layout

    def sums_of(who: np.ndarray) -> CellSums:
        per_user = measurement.sums[who]
        resampled = resampled_sums(per_user, config.audit.bootstrap_samples, config.seed)
        return CellSums(len(who), len(who), per_user.sum(axis=0), resampled)

    cells = by_cell(measurement.cells, sums_of)
    return audit_of_cells(
        measurement.run, layout, cells["overall"], cells["slices"], measurement.details, config
    )


def audit_of_cells(
    run: Mapping[str, Any],
    layout: Layout,
    overall: CellSums,
    slices: Mapping[str, Mapping[str, CellSums]],
    details: Details,
    config: RunConfig,
) -> dict[str, Any]:
    """Returns the figures of lists that were added up, as JSON values.

    Args:
        run: What the lists are, copied into the report.
        layout: What the columns of the sums are.
        overall: All lists.
        slices: Those of every slice, by its name and value.
        details: Who is in which cells.
        config: The run configuration.

    Returns:
        `run`; `depth`, `confidence`, `bootstrap_samples`, `min_users`; `groups`, the target and
        catalogue share per group; `overall`, a cell; `slices`, the cells by the slice's name and
        value; `disparities`, `between_values` by slice, and `between_groups` of every shown cell;
        and `tests`, see `permutation.cell_tests`, of the shown cells.

        A cell is what `cell_figures` describes, with `bounds`, see `bounds.cell_bounds` (None where
        they would tell of users who are not shown). One that is not shown is
        `{"suppressed": true}`, see `pipelines.audit.suppression`; if only the users with a positive
        are too few, or would give others away, its quality and their number are None; if those
        with an item of a group with a target, its NDKL.
    """
    groups = layout.groups
    hidden = details.hidden(config.audit.min_users)
    by_name = {OVERALL: overall} | {
        (name, value): sums for name, values in slices.items() for value, sums in values.items()
    }
    drawn: dict[tuple[str, str], Statistics] = {}
    cells: dict[tuple[str, str], dict[str, Any]] = {}
    for name, sums in by_name.items():
        if hidden[0][name]:
            cells[name] = dict(SUPPRESSED)
            continue
        drawn[name] = layout.statistics(sums.resampled)
        positives, ndkl = (
            None if hide[name] else int(users @ details.contains[details.number(name)])
            for hide, users in zip(hidden[1:], details.users[1:], strict=True)
        )
        cells[name] = cell_figures(
            layout, sums, drawn[name], positives, ndkl, details.shown_in(name), config
        )
        cells[name]["bounds"] = _bounds(layout, name, by_name, hidden)
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
        "overall": cells[OVERALL],
        "slices": {
            name: {value: cells[name, value] for value in values} for name, values in slices.items()
        },
        "disparities": _disparities(cells, drawn, slices, config.audit.confidence),
        "tests": cell_tests(
            details.sample.sums,
            {name: details.members(name) for name in drawn if name != OVERALL},
            groups.labels,
            layout.target,
            config.audit,
            config.seed,
        ),
    }


def _bounds(
    layout: Layout,
    name: tuple[str, str],
    sums: Mapping[tuple[str, str], CellSums],
    hidden: list[dict[tuple[str, str], bool]],
) -> dict[str, Any] | None:
    own = sums[name].sums
    cut, value = name
    values = {v: cell for (s, v), cell in sums.items() if s == cut}
    others = [] if name == OVERALL else [(cut, other) for other in may_belong(value, values)]
    if any(hidden[0][other] for other in others):
        return None
    more = sum((sums[other].sums for other in others), np.zeros_like(own))
    found = cell_bounds(layout, own, more)
    if any(hidden[1][each] for each in (name, *others)):
        found["quality"] = dict.fromkeys(found["quality"])
    return found


def _disparities(
    cells: Mapping[tuple[str, str], Mapping[str, Any]],
    drawn: Mapping[tuple[str, str], Statistics],
    slices: Mapping[str, Mapping[str, CellSums]],
    confidence: float,
) -> dict[str, Any]:
    shown = {
        name: {value: cells[name, value] for value in values if (name, value) in drawn}
        for name, values in slices.items()
    }

    def groups_of(name: tuple[str, str]) -> dict[str, Any] | None:
        if name not in drawn:
            return None
        return between_groups(cells[name], drawn[name], confidence)

    return {
        "slices": {
            name: between_values(
                cells[OVERALL], values, {value: drawn[name, value] for value in values}, confidence
            )
            for name, values in shown.items()
        },
        "groups": {
            "overall": groups_of(OVERALL),
            "slices": {
                name: {value: groups_of((name, value)) for value in values}
                for name, values in shown.items()
            },
        },
    }
