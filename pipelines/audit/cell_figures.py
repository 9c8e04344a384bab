"""The figures of one cell."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fairness_losses.metrics.diversity import group_coverage
from pipelines.audit.intervals import figure
from pipelines.audit.label_noise import corrected_ratio
from pipelines.audit.layout import Layout, Statistics
from pipelines.config import RunConfig

_FROM_LABELS = ("catalogue", "merit")
"""Targets that follow from the groups of the items."""


@dataclasses.dataclass(frozen=True)
class CellSums:
    """The lists of a cell, added up.

    Attributes:
        users: Distinct users.
        lists: Lists.
        sums: float64 `[num_sums]`, over the lists.
        resampled: float64 `[samples, num_sums]`, the same of every resample of the users.
    """

    users: int
    lists: int
    sums: np.ndarray
    resampled: np.ndarray


def cell_figures(
    layout: Layout,
    cell: CellSums,
    drawn: Statistics,
    positives: int | None,
    ndkl: int | None,
    shown: np.ndarray | None,
    config: RunConfig,
) -> dict[str, Any]:
    """Returns the figures of a cell that is shown, as JSON values.

    Args:
        layout: What the columns of the sums are.
        cell: Its sums.
        drawn: The figures of its resamples.
        positives: Users with a positive; None if that is withheld.
        ndkl: Users with a list whose NDKL is defined; None if that is withheld.
        shown: bool `[num_items]`, what was listed; None if that is not known.
        config: The run configuration.

    Returns:
        `users` and `lists`; `quality`, means over the lists with a positive; `groups`:
        `candidate_share`, `exposure_share` and `exposure_ratio`, whose `count` is the group's
        candidate slots, and `catalogue_coverage`, the number and share of its `items` that were
        listed; if there are groups, `across_groups`: `min_skew` and `max_skew` of all candidates,
        `awrf` of all exposure, the mean `diversity` and `ndkl` of the lists; `joint_exposure`;
        `users_with_positives`; and `label_noise`, by a share of wrong labels, the exposure ratios
        that would then be true.
    """
    counts = layout.counts(cell.sums)
    withheld = {("quality", name) for name in layout.metrics} if positives is None else set()
    if ndkl is None:
        withheld.add(("across_groups", "ndkl"))
    observed = layout.statistics(cell.sums)
    figures: dict[str, Any] = {"users": cell.users, "lists": cell.lists}
    figures |= {"quality": {}, "groups": {}}
    for path, value in observed.items():
        place = figures
        for step in path[:-1]:
            place = place.setdefault(step, {})
        count = counts[path[:2]]
        # Quality rests on the users who could have been served well.
        users = (positives or 0) if path[0] == "quality" else cell.users
        is_hidden = path in withheld or (path[0] != "groups" and count < config.audit.min_users)
        place[path[-1]] = (
            None
            if is_hidden
            else figure(
                float(value),
                drawn[path],
                config.audit.confidence,
                count,
                users,
                layout.most(path),
            )
        )
    for label, coverage in _coverage(layout, shown).items():
        figures["groups"][label]["catalogue_coverage"] = coverage
    figures["users_with_positives"] = positives
    figures["label_noise"] = _label_noise(layout, observed, config)
    return figures


def _coverage(layout: Layout, shown: np.ndarray | None) -> dict[str, dict[str, float] | None]:
    labels, membership = layout.groups.labels, layout.groups.membership
    if shown is None:
        return dict.fromkeys(labels)
    shares = group_coverage(shown, membership)
    sizes = membership.sum(axis=0, dtype=np.float64)
    return {
        label: {"items": float(share * size), "of": float(size), "share": float(share)}
        for label, share, size in zip(labels, shares, sizes, strict=True)
    }


def _label_noise(
    layout: Layout, observed: Statistics, config: RunConfig
) -> dict[str, Mapping[str, float | None]]:
    labels = layout.groups.labels
    share = np.array([observed["groups", label, "exposure_share"] for label in labels])
    from_labels = config.fairness.target.kind in _FROM_LABELS
    found: dict[str, Mapping[str, float | None]] = {}
    for rate in config.audit.label_noise if labels else []:
        ratios = corrected_ratio(share, layout.target, rate, from_labels)
        found[f"{rate:g}"] = {
            label: float(ratio) if np.isfinite(ratio) else None
            for label, ratio, target in zip(labels, ratios, layout.target, strict=True)
            if target > 0
        }
    return found
