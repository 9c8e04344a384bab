"""The sums that an audit is made of: what a list adds to them, and the figures that follow."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pyarrow as pa

from fairness_losses.browsing import dcg_weights
from fairness_losses.exposure import PADDING, exposure_ratio, exposure_share, list_exposure
from fairness_losses.groups import Groups
from fairness_losses.metrics.divergence import awrf, ndkl
from fairness_losses.metrics.diversity import holds_every_group
from fairness_losses.metrics.ranking import (
    hit_rate_at_k,
    ndcg_at_k,
    recall_at_k,
    reciprocal_rank_at_k,
)
from fairness_losses.metrics.skew import max_skew, min_skew
from fairness_losses.targets import target_bounds, target_shares
from pipelines.config import RunConfig
from pipelines.slicing import distinct_rows

Statistics = dict[tuple[str, ...], np.ndarray]
"""Figures by their path in a cell of the report, each `[...]` for sums `[..., num_sums]`."""

_QUALITY = {
    "recall": recall_at_k,
    "ndcg": ndcg_at_k,
    "mrr": reciprocal_rank_at_k,
    "hit_rate": hit_rate_at_k,
}
_LIST_METRICS = ("diversity", "ndkl")
"""Figures of a list's groups that are averaged over lists, and so need a column each."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the columns of sums are.

    In this order: the quality metrics (0 for a list without a positive), whether it has a positive;
    diversity and NDKL (0 where undefined), whether each is defined; exposure per group, candidate
    slots per group.

    Attributes:
        ks: The k of the quality metrics, ascending; the last is the depth of a list.
        groups: Groups of the catalogue; no group at all if the run has no `groups`.
        target: float64 `[num_groups]`, target shares, 0 for none.
        target_bounds: float64 `[2, num_groups]`, see `targets.target_bounds`.
    """

    ks: tuple[int, ...]
    groups: Groups
    target: np.ndarray
    target_bounds: np.ndarray

    @classmethod
    def of(cls, catalogue: pa.Table, config: RunConfig) -> Layout:
        """The layout of a configuration.

        Args:
            catalogue: `group` of every item, and `frequency` for a target by merit.
            config: The run configuration.
        """
        ks = tuple(sorted(config.audit.ks))
        if config.groups is None:
            nothing = Groups((), np.zeros((len(catalogue), 0), np.float32))
            return cls(ks, nothing, np.zeros(0), np.zeros((2, 0)))
        groups = Groups.from_labels(catalogue["group"].to_pylist())
        target = config.fairness.target
        chosen = catalogue["frequency"].to_numpy() if target.kind == "merit" else None
        return cls(
            ks,
            groups,
            target_shares(groups, target, chosen),
            target_bounds(groups, target, chosen),
        )

    @property
    def depth(self) -> int:
        """Ranks that count."""
        return self.ks[-1]

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the quality metrics."""
        return tuple(f"{name}@{k}" for k in self.ks for name in _QUALITY)

    @property
    def num_sums(self) -> int:
        """Number of columns."""
        return sum(self._lengths) + len(self.groups.labels)

    @property
    def _lengths(self) -> list[int]:
        """Of all parts but the last."""
        return [len(self.metrics), 1, *[len(_LIST_METRICS)] * 2, len(self.groups.labels)]

    def measure(self, rows: np.ndarray, hits: np.ndarray, num_relevant: np.ndarray) -> np.ndarray:
        """What every list adds to the sums.

        Args:
            rows: int `[num_lists, depth]`, rows of the catalogue, best first, padded.
            hits: bool `[num_lists, depth]`, whether the item at a rank is relevant.
            num_relevant: int `[num_lists]`, relevant items of the list's user, listed or not.

        Returns:
            float64 `[num_lists, num_sums]`, finite.
        """
        kind_of_item, membership = self._kinds
        kinds = kind_of_item[rows]
        slots = list_exposure(kinds, membership, np.ones(self.depth))
        return np.column_stack(
            [
                self._quality(hits, num_relevant),
                num_relevant > 0,
                self._list_metrics(kinds, membership, slots),
                list_exposure(kinds, membership, dcg_weights(self.depth)),
                slots,
            ]
        )

    def _quality(self, hits: np.ndarray, num_relevant: np.ndarray) -> np.ndarray:
        """The quality metrics of every list, 0 without a positive; of most lists none is known."""
        quality = np.zeros((len(hits), len(self.metrics)))
        judged = np.flatnonzero(num_relevant)
        hits, num_relevant = hits[judged], num_relevant[judged]
        values = [metric(hits, num_relevant, k) for k in self.ks for metric in _QUALITY.values()]
        quality[judged] = np.column_stack(values)
        return quality

    @functools.cached_property
    def _kinds(self) -> tuple[np.ndarray, np.ndarray]:
        """The kind of every item, with padding at the end, and the membership of the kinds.

        Items that belong to the same groups in the same parts are of one kind. Figures of groups
        are the same for kinds as for items, and few kinds stay in the processor's cache.
        """
        membership = self.groups.membership
        # A column more, for a catalogue without groups.
        first, kind = distinct_rows([np.zeros(len(membership)), *membership.T])
        return np.append(kind, PADDING), membership[first]

    def _list_metrics(
        self, kinds: np.ndarray, membership: np.ndarray, slots: np.ndarray
    ) -> np.ndarray:
        """The list metrics of every list (0 where undefined) and whether each is defined."""
        if not self.groups.labels:
            return np.zeros((len(kinds), 2 * len(_LIST_METRICS)))
        values = np.column_stack(
            [
                holds_every_group(slots, self.target),
                ndkl(kinds, membership, self.target),
            ]
        )
        return np.hstack([np.nan_to_num(values), ~np.isnan(values)])

    def split(self, sums: np.ndarray) -> list[np.ndarray]:
        """Splits sums into quality, positives, list metrics, where defined, exposure and slots."""
        return np.split(sums, np.cumsum(self._lengths), axis=-1)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Counts the places of every group in every list.

        Args:
            rows: int `[num_lists, depth]`, rows of the catalogue, padded.

        Returns:
            int64 `[num_lists, num_groups]`.
        """
        kind_of_item, membership = self._kinds
        places = list_exposure(kind_of_item[rows], membership, np.ones(self.depth))
        return np.rint(places).astype(np.int64)

    def exposure(self, sums: np.ndarray) -> np.ndarray:
        """Returns the exposure of the groups, float64 `[..., num_groups]`, of `[..., num_sums]`."""
        return self.split(sums)[4]

    def has(self, sums: np.ndarray) -> np.ndarray:
        """Returns whether there is a positive, and an NDKL, bool `[2, num_lists]`.

        Quality rests on the former alone, and NDKL on the latter; what rests on few users is not
        shown.

        Args:
            sums: float64 `[num_lists, num_sums]`.
        """
        _, positives, _, defined, *_ = self.split(sums)
        return np.stack([positives[:, 0], defined[:, _LIST_METRICS.index("ndkl")]]) > 0

    def statistics(self, sums: np.ndarray) -> Statistics:
        """Returns every figure of a cell from the sums over its lists, `[..., num_sums]`."""
        quality, positives, of_lists, defined, exposure, slots = self.split(sums)
        with np.errstate(invalid="ignore", divide="ignore"):
            quality, of_lists = quality / positives, of_lists / defined
        figures: Statistics = {
            ("quality", name): quality[..., i] for i, name in enumerate(self.metrics)
        }
        if not self.groups.labels:
            return figures
        by_group = {
            "candidate_share": exposure_share(slots, self.target),
            "exposure_share": exposure_share(exposure, self.target),
            "exposure_ratio": exposure_ratio(exposure, self.target),
        }
        for i, label in enumerate(self.groups.labels):
            for name, values in by_group.items():
                figures["groups", label, name] = values[..., i]
        # Resamples of an extreme or a divergence lie further from the target than the sample does:
        # near the target these intervals lean away from it and may leave the value out.
        across_groups = {
            "min_skew": min_skew(slots, self.target),
            "max_skew": max_skew(slots, self.target),
            "awrf": awrf(exposure, self.target),
            **{name: of_lists[..., i] for i, name in enumerate(_LIST_METRICS)},
        }
        figures |= {("across_groups", name): v for name, v in across_groups.items()}
        return figures | {("joint_exposure",): self._joint_exposure(exposure, defined[..., 0])}

    def _joint_exposure(self, exposure: np.ndarray, lists: np.ndarray) -> np.ndarray:
        """GG-F of the cell's users and the groups with a target; over all users it is AG-F.

        The target gives every group its share of the exposure of all, alike to each item.
        Source: `fairness_losses.metrics.joint_exposure`.
        """
        counted = self.target > 0
        exposure, target = exposure[..., counted], self.target[counted]
        items = self.groups.membership.sum(axis=0, dtype=np.float64)[counted]
        apart = exposure - exposure.sum(axis=-1, keepdims=True) * target
        with np.errstate(invalid="ignore", divide="ignore"):
            return ((apart / (lists[..., None] * items)) ** 2).mean(axis=-1)

    def most(self, path: tuple[str, ...]) -> float | None:
        """Returns the greatest value of a figure that is a share, or a multiple of one; else None.

        Args:
            path: Of the figure in a cell.
        """
        if path[0] == "across_groups":
            return 1.0 if path[1] == "diversity" else None
        if path[0] != "groups":
            return 1.0 if path[0] == "quality" else None
        place = self.groups.labels.index(path[1])
        # Of a group without a target shares are not of a whole that holds it.
        if not self.target[place] > 0:
            return None
        return float(1 / self.target[place]) if path[2] == "exposure_ratio" else 1.0

    def counts(self, sums: np.ndarray) -> dict[tuple[str, ...], int]:
        """Returns what the figures of a cell rest on, by the first two steps of their paths.

        Those of a group rest on its candidate slots, all others on lists.

        Args:
            sums: float64 `[num_sums]`, over the cell's lists.
        """
        _, positives, _, defined, _, slots = self.split(sums)
        # Diversity is defined for every list, and its count is the number of lists.
        lists = dict.fromkeys(("min_skew", "max_skew", "awrf"), defined[0])
        of_lists = dict(zip(_LIST_METRICS, defined, strict=True))
        of_groups = zip(self.groups.labels, slots, strict=True)
        counts: dict[tuple[str, ...], float] = {
            **{("quality", name): positives[0] for name in self.metrics},
            **{("across_groups", name): n for name, n in (lists | of_lists).items()},
            **{("groups", label): n for label, n in of_groups},
            ("joint_exposure",): defined[0],
        }
        return {path: round(float(count)) for path, count in counts.items()}
