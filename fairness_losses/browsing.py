"""Browsing models: how much attention a user pays to each rank of a list."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np

BrowsingKind = Literal["dcg", "rbp", "geometric", "top_k"]
"""Browsing models whose attention depends on the rank alone."""


def browsing_weights(kind: BrowsingKind, depth: int, patience: float | None = None) -> np.ndarray:
    """Attention per rank under a browsing model, by name.

    `patience` is the probability of looking at the next rank too, in every model that has one:
    `rbp` and `geometric` with the same patience are proportional.

    Args:
        kind: `dcg`, `rbp`, `geometric` or `top_k`.
        depth: Number of ranks.
        patience: Between 0 and 1, for `rbp` and `geometric`; the others have none.

    Returns:
        float64 `[depth]`, not increasing.

    Raises:
        ValueError: There is no such model, it lacks its patience, or a value is out of range.
    """
    if kind == "dcg":
        return dcg_weights(depth)
    if kind == "top_k":
        return top_k_weights(depth)
    if kind not in get_args(BrowsingKind):
        names = ", ".join(get_args(BrowsingKind))
        raise ValueError(f"`kind` should be one of {names}. Received: {kind}.")
    if patience is None:
        raise ValueError(f"`patience` should be given for `{kind}`. Received: None.")
    if kind == "rbp":
        return rbp_weights(depth, patience)
    _check_probability("patience", patience)
    return geometric_weights(depth, 1.0 - patience)


def dcg_weights(depth: int) -> np.ndarray:
    """Attention under the discount of DCG: `1 / log2(rank + 1)`, rank from 1.

    Source: Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002;
    as exposure: Singh and Joachims, "Fairness of Exposure in Rankings", KDD 2018, section 3.1.

    Args:
        depth: Number of ranks.

    Returns:
        float64 `[depth]`, decreasing from 1.
    """
    return 1.0 / np.log2(_ranks(depth) + 1.0)


def rbp_weights(depth: int, patience: float) -> np.ndarray:
    """Attention under rank-biased precision: `patience^(rank - 1)`, rank from 1.

    Source: Moffat and Zobel, "Rank-biased precision for measurement of retrieval effectiveness",
    TOIS 2008, without its factor `1 - patience`, so that the first rank has attention 1. (Papers
    that begin with `patience^1` have squared metrics smaller by `patience^2`.)

    Args:
        depth: Number of ranks.
        patience: Probability of looking at the next rank, between 0 and 1.

    Returns:
        float64 `[depth]`, decreasing from 1.
    """
    _check_probability("patience", patience)
    return patience ** (_ranks(depth) - 1.0)


def geometric_weights(depth: int, stop: float) -> np.ndarray:
    """Probability that a rank is the last one seen: `stop * (1 - stop)^(rank - 1)`, rank from 1.

    Source: Sapiezynski, Zeng, Robertson, Mislove and Wilson, "Quantifying the Impact of User
    Attention on Fair Group Representation in Ranked Lists", WWW Companion 2019.

    Args:
        depth: Number of ranks.
        stop: Probability of looking no further, between 0 and 1.

    Returns:
        float64 `[depth]`, decreasing from `stop`; sums to `1 - (1 - stop)^depth`.
    """
    _check_probability("stop", stop)
    return stop * (1.0 - stop) ** (_ranks(depth) - 1.0)


def top_k_weights(depth: int) -> np.ndarray:
    """The same attention for every rank: exposure counts the items on the list.

    Args:
        depth: Number of ranks.

    Returns:
        float64 `[depth]`, ones.
    """
    return np.ones(len(_ranks(depth)))


def cascade_weights(relevance: np.ndarray, patience: float) -> np.ndarray:
    """Attention of a user who goes from rank to rank until an item satisfies.

    With the probability `u` that the item at a rank satisfies,

        v(k) = patience^(k - 1) * product over the ranks l < k of (1 - u(l)),

    so that an item hides those below it, and attention differs from list to list.
    `exposure.list_exposure` takes it as it takes the attention of any other model.

    Source: Craswell, Zoeter, Taylor and Ramsey, "An experimental comparison of click
    position-bias models", WSDM 2008 (patience 1); with patience as exposure: Diaz, Mitra,
    Ekstrand, Biega and Carterette, "Evaluating Stochastic Rankings with Expected Exposure",
    CIKM 2020.

    Args:
        relevance: float `[num_lists, depth]` in [0, 1], in the order of the list: the probability
            that the item at a rank satisfies; 0 for padding.
        patience: Probability of looking at the next rank if not satisfied, above 0, at most 1.

    Returns:
        float64 `[num_lists, depth]`, not increasing along a list, from 1.

    Raises:
        ValueError: A relevance is no probability, or the patience is out of range.
    """
    if patience != 1.0:
        _check_probability("patience", patience)
    if relevance.ndim != 2:
        raise ValueError(
            "`relevance` should have the shape [num_lists, depth]. "
            f"Received: {list(relevance.shape)}."
        )
    if not ((relevance >= 0) & (relevance <= 1)).all():
        raise ValueError("`relevance` should be between 0 and 1. Received: values outside.")
    goes_on = patience * (1.0 - relevance[:, :-1].astype(np.float64))
    return np.cumprod(np.hstack([np.ones((len(relevance), 1)), goes_on]), axis=1)


def _ranks(depth: int) -> np.ndarray:
    if depth < 1:
        raise ValueError(f"`depth` should be at least 1. Received: {depth}.")
    return np.arange(1, depth + 1)


def _check_probability(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise ValueError(f"`{name}` should be between 0 and 1. Received: {value}.")
