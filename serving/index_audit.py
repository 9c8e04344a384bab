"""What an approximate index costs each group: recall and share of the lists beside exact search.

Quantisation loses the items of small groups first, so a recall over all items hides what it does.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairness_losses.bootstrap import estimate, resampled_sums
from fairness_losses.errors import InvalidInputError

FEWEST_LISTED = 300
"""Places on exact lists from which on a group's recall is judged: at .95, one interval of 95 % is
then within .03."""

_CONFIDENCE = 0.95
_Z = 1.959964
_SAMPLES = 1000


class ShareChangedError(InvalidInputError):
    """The index changes the share of a group by more than was allowed."""

    exit_code = 3


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Places on lists, per query and group.

    Attributes:
        labels: Of the groups, `[num_groups]`.
        listed: Items of the group on the exact list, float `[num_queries, num_groups]`.
        hits: Those of them that the index found.
        found: Items of the group on the index's list.
        is_full: Whether the index's list is as long as the exact one, bool `[num_queries]`.
    """

    labels: list[str]
    listed: np.ndarray
    hits: np.ndarray
    found: np.ndarray
    is_full: np.ndarray

    @classmethod
    def of(
        cls, exact: np.ndarray, found: np.ndarray, labels: Sequence[str], codes: np.ndarray
    ) -> Comparison:
        """Counts places.

        Args:
            exact: Rows by exact search, int `[num_queries, k]`, negative where a list is short.
            found: Rows by the index, int `[num_queries, <= k]`, negative where a list is short.
            labels: Of the groups.
            codes: Group of every item, int `[num_items]`, see `fairness_losses.groups.Groups`.
        """
        query = np.arange(len(exact))[:, None] * len(codes)
        is_listed, is_item = exact >= 0, found >= 0
        is_found = is_listed & np.isin(query + exact, (query + found)[is_item])

        def count(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
            cells = np.arange(len(rows))[:, None] * len(labels) + codes[rows]
            size = len(rows) * len(labels)
            sums = np.bincount(cells.ravel(), weights=weights.ravel(), minlength=size)
            return sums.reshape(len(rows), len(labels))

        return cls(
            list(labels),
            count(exact, is_listed),
            count(exact, is_found),
            count(found, is_item),
            is_item.sum(axis=1) == is_listed.sum(axis=1),
        )

    @property
    def recall(self) -> float:
        """Share of the exact lists that was found."""
        return float(self.hits.sum() / self.listed.sum())

    def recall_interval(self) -> tuple[float, float]:
        """Interval of `recall`, see `wilson_interval`."""
        return wilson_interval(self.hits.sum(axis=1), self.listed.sum(axis=1))

    def group_recalls(self) -> dict[str, dict[str, float] | None]:
        """Recall by group: `value`, `low`, `high`, `count` (places); None where there are none."""
        counts = self.listed.sum(axis=0)
        recalls: dict[str, dict[str, float] | None] = {}
        for g, label in enumerate(self.labels):
            if not counts[g]:
                recalls[label] = None
                continue
            low, high = wilson_interval(self.hits[:, g], self.listed[:, g])
            value = float(self.hits[:, g].sum() / counts[g])
            recalls[label] = {"value": value, "low": low, "high": high, "count": int(counts[g])}
        return recalls

    def judged_recalls(self) -> dict[str, dict[str, float]]:
        """`group_recalls` of the groups with at least `FEWEST_LISTED` places."""
        recalls = self.group_recalls().items()
        return {g: r for g, r in recalls if r and r["count"] >= FEWEST_LISTED}

    def shares(self, seed: int) -> dict[str, dict[str, Any] | None]:
        """Share of all places that each group has, on exact lists and on the index's.

        Returns:
            By group `exact`, `found` and `change`, the relative change from one to the other with
            a bootstrap interval over queries, paired: `value`, `low`, `high`, `count` (places on
            exact lists). None where exact lists have none of the group.
        """
        per_query = np.concatenate([self.listed, self.found], axis=1)
        exact, found = _shares(per_query.sum(axis=0))
        drawn_exact, drawn_found = _shares(resampled_sums(per_query, _SAMPLES, seed))
        with np.errstate(divide="ignore", invalid="ignore"):
            change, drawn = found / exact - 1, drawn_found / drawn_exact - 1
        counts = self.listed.sum(axis=0)
        return {
            label: {
                "exact": float(exact[g]),
                "found": float(found[g]),
                "change": estimate(float(change[g]), drawn[:, g], _CONFIDENCE, int(counts[g])),
            }
            if counts[g]
            else None
            for g, label in enumerate(self.labels)
        }


def _shares(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares on exact lists and on the index's, from sums of places, `[..., 2 * num_groups]`."""
    listed, found = np.split(sums, 2, axis=-1)
    return listed / listed.sum(axis=-1, keepdims=True), found / found.sum(axis=-1, keepdims=True)


def wilson_interval(hits: np.ndarray, listed: np.ndarray) -> tuple[float, float]:
    """Interval of 95 % of the ratio `hits.sum() / listed.sum()`.

    Wilson's interval, which stays below 1 when everything was found, for as many places as are
    worth independent ones: those of one query are found or lost together.

    Sources: Wilson, Probable Inference, JASA 1927; for the effective number Korn and Graubard,
    Confidence Intervals for Proportions with Small Expected Number of Positive Counts, 1998.

    Args:
        hits: Found places per query, `[num_queries]`.
        listed: Places per query, `[num_queries]`; not all 0.
    """
    count = listed.sum()
    share = hits.sum() / count
    queries = np.count_nonzero(listed)
    independent = share * (1 - share) / count
    clustered = ((hits - share * listed) ** 2).sum() / count**2 * queries / max(queries - 1, 1)
    effective = count / max(1.0, clustered / independent) if independent else count
    middle = share + _Z**2 / (2 * effective)
    spread = _Z * math.sqrt(share * (1 - share) / effective + (_Z / (2 * effective)) ** 2)
    scale = 1 + _Z**2 / effective
    return max(float((middle - spread) / scale), 0.0), min(float((middle + spread) / scale), 1.0)


def describe(comparison: Comparison, target: float, seed: int) -> dict[str, Any]:
    """Returns the part of `index.json` that compares with exact search.

    Args:
        comparison: Of queries that no setting was tried on.
        target: Recall wanted.
        seed: Of the bootstrap.

    Returns:
        `recall`, `groups`, `target`, `target_reached` and `short_groups`, see
        `serving.index.build_index`.
    """
    low, high = comparison.recall_interval()
    recalls, shares = comparison.group_recalls(), comparison.shares(seed)
    judged = comparison.judged_recalls().items()
    short = [label for label, recall in judged if recall["value"] < target]
    return {
        "recall": {
            "num_queries": len(comparison.listed),
            "overall": comparison.recall,
            "low": low,
            "high": high,
            "by_group": {label: r["value"] if r else None for label, r in recalls.items()},
        },
        "groups": {label: {"recall": recalls[label], "share": shares[label]} for label in recalls},
        "target": target,
        "target_reached": comparison.recall >= target and not short,
        "short_groups": short,
    }


def check_shares(groups: Mapping[str, Any], limit: float) -> None:
    """Refuses an index that moves a group's share too far.

    Groups with fewer than `FEWEST_LISTED` places on exact lists are left out.

    Args:
        groups: `groups` of `index.json`.
        limit: Largest relative change of a share.

    Raises:
        ShareChangedError: A group's share changes by more.
    """
    moved = []
    for label, group in groups.items():
        share = group["share"]
        change = share and share["change"]
        if change and change["count"] >= FEWEST_LISTED and abs(change["value"]) > limit:
            moved.append(
                f"`{label}` has {share['exact']:.2%} of the places on exact lists and "
                f"{share['found']:.2%} on the index's, {change['value']:+.1%} "
                f"({change['low']:+.1%} to {change['high']:+.1%})"
            )
    if moved:
        raise ShareChangedError(
            f"the index changes the share of groups by more than `serving.max_share_change`, "
            f"{limit:.1%}: {'; '.join(moved)}. Raise `serving.recall_target`, or set "
            "`serving.index: exact`."
        )
