"""Expected exposure against merit: EE-D, EE-R and EE-L.

Source: Diaz, Mitra, Ekstrand, Biega and Carterette, "Evaluating Stochastic Rankings with Expected
Exposure", CIKM 2020, sections 3 and 4. Exposure E itself: `fairness_losses.expected_exposure`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class ExpectedExposure(NamedTuple):
    """Deviation of exposure from merit, and what it is made of.

    `loss = disparity - 2 * relevance + |target|^2`, where the last does not depend on the policy.

    Attributes:
        loss: EE-L, `|E - E*|^2`, float64 `[num_queries]`, not negative; 0 if and only if exposure
            is at its target.
        disparity: EE-D, `|E|^2`, float64 `[num_queries]`: how unequal exposure is.
        relevance: EE-R, `E . E*`, float64 `[num_queries]`: how much exposure goes to merit.
    """

    loss: np.ndarray
    disparity: np.ndarray
    relevance: np.ndarray

    def means(self) -> dict[str, float]:
        """Returns the means over queries, NaN if there is none."""
        return {
            name: float(values.mean()) if len(values) else float("nan")
            for name, values in self._asdict().items()
        }


def expected_exposure(
    exposure: np.ndarray, target: np.ndarray, membership: np.ndarray | None = None
) -> ExpectedExposure:
    """Expected-exposure metrics per query, of items or of groups.

    Args:
        exposure: float `[num_queries, num_items]`, E, for example of `plackett_luce_exposure`.
        target: float `[num_queries, num_items]`, E*, for example of `target_exposure`.
        membership: float `[num_items, num_groups]`; if given, both are summed over the items of
            each group first. Fractions are allowed; a group without items adds nothing.

    Raises:
        ValueError: Shapes do not fit.
    """
    if exposure.ndim != 2 or exposure.shape != target.shape:
        raise ValueError(
            "`exposure` and `target` should have the same shape [num_queries, num_items]. "
            f"Received: {list(exposure.shape)} and {list(target.shape)}."
        )
    if membership is not None:
        if membership.ndim != 2 or len(membership) != exposure.shape[1]:
            raise ValueError(
                f"`membership` should have the shape [{exposure.shape[1]}, num_groups]. "
                f"Received: {list(membership.shape)}."
            )
        exposure, target = exposure @ membership, target @ membership
    return ExpectedExposure(
        loss=((exposure - target) ** 2).sum(axis=1),
        disparity=(exposure**2).sum(axis=1),
        relevance=(exposure * target).sum(axis=1),
    )


def target_exposure(
    relevance: np.ndarray, attention: np.ndarray, listed: np.ndarray | None = None
) -> np.ndarray:
    """Exposure by merit: items of one grade share equally the ranks below all better ones.

    It is the expected exposure of the policy that draws uniformly from the ideal lists. For m items
    of a grade and b better ones, it is the mean of v over the ranks `b + 1` to `b + m`; for
    rank-biased precision, `(patience^b - patience^(b + m)) / (m * (1 - patience))`. What is not
    relevant shares the ranks that are left; where nothing is, that is all of them.

    Args:
        relevance: float `[num_queries, num_items]`, grades, for example 0 and 1.
        attention: float `[depth]`, v per rank; nobody looks further.
        listed: bool `[num_queries, num_items]`, whether an item can be on the list at all; by
            default every one can.

    Returns:
        float64 `[num_queries, num_items]`, not negative; 0 for what is not listed.

    Raises:
        ValueError: A grade is NaN, or shapes do not fit.
    """
    if relevance.ndim != 2 or (listed is not None and listed.shape != relevance.shape):
        raise ValueError(
            "`relevance` and `listed` should have the same shape [num_queries, num_items]. "
            f"Received: {list(relevance.shape)}"
            + ("." if listed is None else f" and {list(listed.shape)}.")
        )
    if np.isnan(relevance).any():
        raise ValueError("`relevance` should not be NaN: it would have no order.")
    grades = relevance if listed is None else np.where(listed, relevance, -np.inf)
    num_items = grades.shape[1]
    by_rank = np.zeros(num_items)
    by_rank[: len(attention)] = attention[:num_items]
    order = np.argsort(-grades, axis=1, kind="stable")
    grades = np.take_along_axis(grades, order, axis=1)
    # A number per grade and query: it goes up where a row begins and where the grade falls.
    is_first = np.ones(grades.shape, dtype=bool)
    is_first[:, 1:] = grades[:, 1:] != grades[:, :-1]
    grade = is_first.ravel().cumsum() - 1
    mean = np.bincount(grade, np.tile(by_rank, len(grades))) / np.bincount(grade)
    target = np.empty(grades.shape)
    np.put_along_axis(target, order, mean[grade].reshape(grades.shape), axis=1)
    return target if listed is None else np.where(listed, target, 0.0)
