"""Figures of lists that come in parts: sums per item, which merge, and what follows from them.

Every figure of this module is a function of what each item got over all lists. So workers sum up
their own lists, the sums are added in any order, and nobody holds all lists at once::

    parts = [ListSums.of(lists, dcg_weights(100), num_items) for lists in batches]
    figures = group_figures(functools.reduce(operator.add, parts), membership, target)

Figures per list (NDKL, DIV@k, ranking quality) need no such sums: their means merge by count, see
`ranking.by_slice`.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from fairness_losses.exposure import exposure_ratio, exposure_share
from fairness_losses.metrics.divergence import awrf
from fairness_losses.metrics.diversity import (
    catalogue_coverage,
    gini,
    group_coverage,
    group_gini,
    item_exposure,
)
from fairness_losses.metrics.skew import group_skew
from fairness_losses.metrics.statistical_parity import (
    recommendation_probability,
    relative_deviation,
)


@dataclasses.dataclass(frozen=True)
class ListSums:
    """What every item got, summed over lists.

    Sums of different lists are added with `+`. Slots are whole numbers, so their sums are the same
    in any order; those of exposure are the same but for rounding.

    Attributes:
        weights: float `[k]`, attention per rank, which is the same in all that is added up.
        num_lists: Number of lists.
        slots: float64 `[num_items]`, how often an item was among the first k.
        exposure: float64 `[num_items]`, the attention it got there.
    """

    weights: np.ndarray
    num_lists: int
    slots: np.ndarray
    exposure: np.ndarray

    @classmethod
    def of(cls, lists: np.ndarray, weights: np.ndarray, num_items: int) -> ListSums:
        """Sums up lists; those of no list (`lists` of the shape `[0, k]`) are zero.

        Args:
            lists: int `[num_lists, depth >= k]`, rows of the catalogue, best first; `PADDING` for
                none.
            weights: float `[k]`, attention per rank.
            num_items: Items of the catalogue.
        """
        return cls(
            weights,
            len(lists),
            item_exposure(lists, np.ones(len(weights)), num_items),
            item_exposure(lists, weights, num_items),
        )

    def __add__(self, other: ListSums) -> ListSums:
        if not np.array_equal(self.weights, other.weights):
            raise ValueError("Sums can only be added if they were taken with the same `weights`.")
        return ListSums(
            self.weights,
            self.num_lists + other.num_lists,
            self.slots + other.slots,
            self.exposure + other.exposure,
        )


@dataclasses.dataclass(frozen=True)
class GroupFigures:
    """What follows from `ListSums`. Arrays are float64 `[num_groups]`, definitions as named.

    Attributes:
        candidates: Slots in the first k, summed over lists.
        exposure: Attention, summed over lists (`group_exposure`).
        candidate_share: `exposure_share` of the candidates.
        exposure_share: `exposure_share` of the exposure.
        exposure_ratio: `exposure_ratio` of the exposure.
        skew: `group_skew` of the candidates.
        awrf: `awrf` of the exposure.
        probability: `recommendation_probability`, the whole catalogue being available to
            every list.
        rsp: `relative_deviation` of these probabilities.
        coverage: `catalogue_coverage`.
        group_coverage: `group_coverage`.
        gini: `gini` of the items' exposure.
        group_gini: `group_gini` of the items' exposure.
    """

    candidates: np.ndarray
    exposure: np.ndarray
    candidate_share: np.ndarray
    exposure_share: np.ndarray
    exposure_ratio: np.ndarray
    skew: np.ndarray
    awrf: float
    probability: np.ndarray
    rsp: float
    coverage: float
    group_coverage: np.ndarray
    gini: float
    group_gini: np.ndarray


def group_figures(sums: ListSums, membership: np.ndarray, target: np.ndarray) -> GroupFigures:
    """Returns every figure that follows from the sums of lists.

    Args:
        sums: Sums over all lists.
        membership: float `[num_items, num_groups]`, rows sum to 1.
        target: float `[num_groups]`, target shares, 0 for a group without a target.
    """
    candidates, exposure = sums.slots @ membership, sums.exposure @ membership
    available = sums.num_lists * membership.sum(axis=0, dtype=np.float64)
    recommended = recommendation_probability(candidates, available)
    return GroupFigures(
        candidates=candidates,
        exposure=exposure,
        candidate_share=exposure_share(candidates, target),
        exposure_share=exposure_share(exposure, target),
        exposure_ratio=exposure_ratio(exposure, target),
        skew=group_skew(candidates, target),
        awrf=float(awrf(exposure, target)),
        probability=recommended,
        rsp=relative_deviation(recommended, target),
        coverage=catalogue_coverage(sums.slots),
        group_coverage=group_coverage(sums.slots, membership),
        gini=gini(sums.exposure),
        group_gini=group_gini(sums.exposure, membership),
    )
