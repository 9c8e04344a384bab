"""Bounds of a cell's figures, whatever the labels are that nobody stated.

Two labels may be missing. An item without a group may be of any. A user without a slice may be in
the cell, with any part of such users' lists. The bounds are the worst cases of both at once, of the
figures as they are: they say nothing of chance, which the intervals are for. With exposure E,

- the users who may belong to the cell add at most all their exposure of a group, and nothing of any
  other, or the other way round;
- all unknown items are of the group, or none;
- a target that follows from the labels (`catalogue`, `merit`) moves likewise: for the upper bound
  of a ratio none of the unknown items counts for the group's target, for the lower one all do.

All known sums enter, and no user or item is looked at on its own: real worst cases, of whole users
and the same items in exposure and target, may lie further in, and never further out.

Source: Manski, "Partial Identification of Probability Distributions", 2003, chapter 1.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from fairness_losses.config import UNKNOWN
from pipelines.audit.layout import Layout

Interval = tuple[np.ndarray, np.ndarray]


@dataclasses.dataclass(frozen=True)
class _Sums:
    """Exposure or slots of a cell and of the users who may belong to it, `[num_groups]` each."""

    own: np.ndarray
    others: np.ndarray
    is_unknown: np.ndarray

    @property
    def share(self) -> Interval:
        """Bounds of each group's share."""
        known = ~self.is_unknown
        own_unknown, others_unknown = self.own[~known].sum(), self.others[~known].sum()
        total = self.own.sum()
        highest = self.own + own_unknown + self.others + others_unknown
        with np.errstate(invalid="ignore", divide="ignore"):
            high = highest / (total + self.others + others_unknown)
            low = self.own / (total + self.others.sum() - self.others)
        return low, high


def may_belong(value: str, values: Mapping[str, Any]) -> list[str]:
    """Returns the values of a slice whose users may belong to one of them, it left out.

    Args:
        value: Of the slice; those of crossed columns are joined by ` × `.
        values: All values of the slice.
    """
    wanted = value.split(" × ")
    return [
        other
        for other in values
        if other != value
        and len(parts := other.split(" × ")) == len(wanted)
        and all(part in (UNKNOWN, own) for part, own in zip(parts, wanted, strict=True))
    ]


def cell_bounds(layout: Layout, own: np.ndarray, others: np.ndarray) -> dict[str, Any]:
    """Returns bounds of a cell's figures, as JSON values.

    Args:
        layout: What the columns of sums are.
        own: float `[num_sums]`, over the cell's lists.
        others: The same over the lists of users who may belong to the cell.

    Returns:
        `unknown_items`, the share of the listed places whose item's group is unknown;
        `unknown_lists`, that of the lists whose user may or may not belong; `quality` and `groups`
        (of those but `unknown`), `low` and `high` by the names of the figures. None where nothing
        was measured.
    """
    quality, positives, _, _, exposure, slots = layout.split(own)
    more_quality, more_positives, _, _, more_exposure, more_slots = layout.split(others)
    labels, is_unknown = layout.groups.labels, layout.groups.is_unknown
    places, more_places = slots.sum(), more_slots.sum()
    found: dict[str, Any] = {
        "unknown_items": _number(slots[is_unknown].sum() / places) if places else None,
        "unknown_lists": _number(more_places / (places + more_places)) if places else None,
        "quality": {},
        "groups": {},
    }
    # A list's quality is between 0 and 1: as few lists as can hold all of it, or all others.
    with np.errstate(invalid="ignore", divide="ignore"):
        low = quality / (positives + more_positives - more_quality)
        high = (quality + more_quality) / (positives + more_quality)
    for i, name in enumerate(layout.metrics):
        found["quality"][name] = _pair(low[i], high[i]) if positives[0] else None
    shares = {
        "candidate_share": _Sums(slots, more_slots, is_unknown).share,
        "exposure_share": _Sums(exposure, more_exposure, is_unknown).share,
    }
    low_target, high_target = layout.target_bounds
    low, high = shares["exposure_share"]
    with np.errstate(invalid="ignore", divide="ignore"):
        shares["exposure_ratio"] = (
            np.where(layout.target > 0, low / high_target, np.nan),
            np.where(layout.target > 0, high / low_target, np.nan),
        )
    for i in np.flatnonzero(~is_unknown):
        found["groups"][labels[i]] = {
            name: _pair(low[i], high[i]) for name, (low, high) in shares.items()
        }
    return found


def _pair(low: float, high: float) -> dict[str, float] | None:
    if not np.isfinite([low, high]).all():
        return None
    return {"low": float(low), "high": float(high)}


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
