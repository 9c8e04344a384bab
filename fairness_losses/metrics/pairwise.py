"""Pairwise accuracy per group: how often what a user chose ranks above what the user did not.

The scores of a query compare each of its positives with each of its non-positives. The pairwise
accuracy of group g is

    P(score of the positive > score of the non-positive | the positive is of group g),

over all pairs, or over those whose non-positive is of the same group (*intra*: is the group's order
within itself right?), or of another group (*inter*: is the group ranked below others although its
items are what users want?). Ties count one half, so the accuracy of chance is 1/2. Source: Beutel
et al., "Fairness in Recommendation Ranking through Pairwise Comparisons", KDD 2019
(arXiv 1903.00780).
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np

Kind = Literal["overall", "intra", "inter"]
"""Which non-positives a positive is compared with: all, those of its group, those of others."""


class PairwiseAccuracy(NamedTuple):
    """Pairwise accuracies, each in [0, 1] and NaN where there is no pair.

    Attributes:
        by_group: float64 `[num_groups]`, by the group of the positive.
        pairs: float64 `[num_groups]`, the number of pairs behind each; with weights, the number in
            the catalogue that they stand for.
        pooled: Accuracy over the pairs of all groups together.
    """

    by_group: np.ndarray
    pairs: np.ndarray
    pooled: float


def pairwise_accuracy(
    scores: np.ndarray,
    relevance: np.ndarray,
    membership: np.ndarray,
    kind: Kind = "overall",
    *,
    weights: np.ndarray | None = None,
    listed: np.ndarray | None = None,
) -> PairwiseAccuracy:
    """Pairwise accuracy by the group of the positive.

    Pairs of all queries count alike, so a query with many positives counts more often. An item of
    several groups counts in each with its fraction, and is of another group than g with what is
    left of 1.

    Each query's candidates are sorted once and then counted: time `O(num_queries * num_candidates *
    (log(num_candidates) + num_groups))`, memory `O(num_queries * num_candidates)`.

    Args:
        scores: float `[num_queries, num_candidates]`.
        relevance: float `[num_queries, num_candidates]`; positive where above 0.
        membership: float `[num_candidates, num_groups]`, each row sums to 1.
        kind: Which non-positives a positive is compared with.
        weights: float `[num_candidates]`, how many items each candidate stands for; 1 by default. A
            pair stands for the product of its two.
        listed: bool `[num_queries, num_candidates]`. A non-positive that is not listed, because the
            user chose it before, is left out of the comparison; by default none is.

    Raises:
        ValueError: Shapes do not fit, a score is NaN, or there is no such kind.
    """
    check_kind(kind)
    _check_inputs(scores, relevance, membership, weights, listed)
    order = np.argsort(scores, axis=1)
    is_positive = relevance > 0
    is_compared = ~is_positive if listed is None else ~is_positive & listed
    stands_for = np.ones(len(membership)) if weights is None else np.asarray(weights, np.float64)
    compared = _take(is_compared, order) * stands_for[order]
    query, column = np.nonzero(_take(is_positive, order))
    first, end = (edge[query, column] for edge in _ties(_take(scores, order)))
    positive = order[query, column]
    below = np.zeros((len(scores), scores.shape[1] + 1))
    won, pairs = np.zeros((2, membership.shape[1]))
    # Group by group, so that memory does not grow with their number.
    for group, member in enumerate(membership.T.astype(np.float64)):
        np.cumsum(compared * _comparable(member, kind)[order], axis=1, out=below[:, 1:])
        of_group = stands_for[positive] * member[positive]
        # Half of a tie is won: the mean of what is below the tie and what is below its end.
        won[group] = (of_group * (below[query, first] + below[query, end]) / 2).sum()
        pairs[group] = (of_group * below[query, -1]).sum()
    with np.errstate(invalid="ignore", divide="ignore"):
        return PairwiseAccuracy(won / pairs, pairs, float(won.sum() / pairs.sum()))


def check_kind(kind: str) -> None:
    """Raises ValueError where there is no such kind of pairs."""
    if kind not in get_args(Kind):
        raise ValueError(f"`kind` should be one of {', '.join(get_args(Kind))}. Received: {kind}.")


def _comparable(member: np.ndarray, kind: Kind) -> np.ndarray:
    """Fraction of each candidate that positives of a group are compared with."""
    if kind == "overall":
        return np.ones_like(member)
    return member if kind == "intra" else 1 - member


def _ties(ascending: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First column, and one past the last, of the run of equal scores that a score belongs to."""
    size = ascending.shape[1]
    column = np.arange(size)
    starts = np.ones(ascending.shape, dtype=bool)
    starts[:, 1:] = ascending[:, 1:] != ascending[:, :-1]
    ends = np.ones(ascending.shape, dtype=bool)
    ends[:, :-1] = starts[:, 1:]
    first = np.maximum.accumulate(np.where(starts, column, 0), axis=1)
    end = np.minimum.accumulate(np.where(ends, column + 1, size)[:, ::-1], axis=1)[:, ::-1]
    return first, end


def _take(values: np.ndarray, columns: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, columns, axis=1)


def _check_inputs(
    scores: np.ndarray,
    relevance: np.ndarray,
    membership: np.ndarray,
    weights: np.ndarray | None,
    listed: np.ndarray | None,
) -> None:
    if scores.ndim != 2:
        raise ValueError(
            "`scores` should have the shape [num_queries, num_candidates]. "
            f"Received: {list(scores.shape)}."
        )
    for name, values in (("relevance", relevance), ("listed", listed)):
        if values is not None and values.shape != scores.shape:
            raise ValueError(
                f"`{name}` should have the shape of `scores`, {list(scores.shape)}. "
                f"Received: {list(values.shape)}."
            )
    size = scores.shape[1]
    if membership.ndim != 2 or len(membership) != size:
        raise ValueError(
            f"`membership` should have the shape [{size}, num_groups], one row per candidate. "
            f"Received: {list(membership.shape)}."
        )
    if weights is not None and np.shape(weights) != (size,):
        raise ValueError(
            f"`weights` should have the shape [{size}], one per candidate. "
            f"Received: {list(np.shape(weights))}."
        )
    if np.isnan(scores).any():
        raise ValueError(
            f"`scores` should be numbers that have an order. Received: {np.isnan(scores).sum()} "
            "that are NaN."
        )
