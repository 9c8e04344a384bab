"""Expected exposure: the attention an item can expect where lists are drawn at random.

A stochastic ranking policy answers a query with a list drawn from a distribution. The expected
exposure of an item is the attention of its rank, on average over the lists,

    E_i = E[v(rank of i)],

with the attention v of a browsing model (`fairness_losses.browsing`). Source: Diaz, Mitra,
Ekstrand, Biega and Carterette, "Evaluating Stochastic Rankings with Expected Exposure", CIKM 2020,
section 3. `fairness_losses.soft_ranking_policy` is the differentiable form.
"""

from __future__ import annotations

import numpy as np


def ranked_exposure(
    scores: np.ndarray, attention: np.ndarray, listed: np.ndarray | None = None
) -> np.ndarray:
    """Exposure of every item where lists are in the order of the scores.

    Of items with the same score the one with the lower number comes first.

    Args:
        scores: float `[num_queries, num_items]`; minus infinity for an item that is not listed.
        attention: float `[depth]`, attention per rank; nobody looks further.
        listed: bool `[num_queries, num_items]`, whether an item can be on the list at all; by
            default every one can.

    Returns:
        float64 `[num_queries, num_items]`, 0 for what is not on the list.

    Raises:
        ValueError: A score is NaN, or shapes do not fit.
    """
    scores = _only_listed(scores, listed)
    num_items = scores.shape[1]
    by_rank = np.zeros(num_items)
    by_rank[: len(attention)] = attention[:num_items]
    order = np.argsort(-scores, axis=1, kind="stable")
    exposure = np.empty(scores.shape)
    np.put_along_axis(exposure, order, np.broadcast_to(by_rank, scores.shape), axis=1)
    return np.where(scores > -np.inf, exposure, 0.0)


def plackett_luce_exposure(
    scores: np.ndarray,
    attention: np.ndarray,
    temperature: float,
    *,
    depth: int = 100,
    num_samples: int = 100,
    seed: int = 0,
    listed: np.ndarray | None = None,
) -> np.ndarray:
    """Expected exposure of every item under the Plackett-Luce policy on a query's best candidates.

    The policy fills rank after rank, each time drawing from the candidates left one with a
    probability proportional to `exp(score / temperature)`. It is exact where there is a closed
    form: for lists of one item (the softmax), for two candidates, and for the temperature 0 (lists
    in the order of the scores). Otherwise it is the mean over sampled lists: a list in the order of
    `score + temperature * Gumbel noise` is a draw from the policy (Yellott, Journal of Mathematical
    Psychology 1977). The standard error is at most `max(attention) / (2 * sqrt(num_samples))`.

    Args:
        scores: float `[num_queries, num_items]`; minus infinity for an item that is not listed.
        attention: float `[length]`, attention per rank; nobody looks further.
        temperature: Of the policy, in units of the scores, not negative. The larger, the closer to
            a list in random order.
        depth: Candidates of each query, its best ones, that the policy ranks. The others are never
            listed. 100 as in Wu et al., "Joint Multisided Exposure Fairness for Recommendation",
            SIGIR 2022, section 4.
        num_samples: Lists drawn per query.
        seed: Of the draws.
        listed: bool `[num_queries, num_items]`, whether an item can be on the list at all; by
            default every one can.

    Returns:
        float64 `[num_queries, num_items]`, not negative.

    Raises:
        ValueError: A score is NaN, shapes do not fit, or a number is out of its range.
    """
    if not 0 <= temperature < np.inf:
        raise ValueError(f"`temperature` should be 0 or positive. Received: {temperature}.")
    for name, number in (("depth", depth), ("num_samples", num_samples)):
        if number < 1:
            raise ValueError(f"`{name}` should be at least 1. Received: {number}.")
    scores = _only_listed(scores, listed)
    columns = np.argsort(-scores, axis=1, kind="stable")[:, :depth]
    best = np.take_along_axis(scores, columns, axis=1)
    exposure = np.zeros(scores.shape)
    expected = _expected(best, attention, temperature, num_samples, seed)
    np.put_along_axis(exposure, columns, expected, axis=1)
    return exposure


def _expected(
    scores: np.ndarray, attention: np.ndarray, temperature: float, num_samples: int, seed: int
) -> np.ndarray:
    if temperature == 0:
        return ranked_exposure(scores, attention)
    if len(attention) == 1 or scores.shape[1] <= 2:
        first, second = np.append(attention, 0.0)[:2]
        probability = _first_rank_probability(scores, temperature)
        at_second = np.where(scores > -np.inf, 1 - probability, 0.0)
        return first * probability + (second * at_second if scores.shape[1] == 2 else 0.0)
    rng = np.random.default_rng(seed)
    total = np.zeros(scores.shape)
    # Sample by sample, so that memory does not grow with their number.
    for _ in range(num_samples):
        noise = rng.gumbel(size=scores.shape)
        total += ranked_exposure(scores + temperature * noise, attention)
    return total / num_samples


def _first_rank_probability(scores: np.ndarray, temperature: float) -> np.ndarray:
    """Softmax over the listed candidates, 0 throughout where there is none."""
    best = scores.max(axis=1, keepdims=True, initial=-np.inf)
    weight = np.exp((scores - np.where(best > -np.inf, best, 0.0)) / temperature)
    total = weight.sum(axis=1, keepdims=True)
    return np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)


def _only_listed(scores: np.ndarray, listed: np.ndarray | None) -> np.ndarray:
    """Checked scores, minus infinity where an item is not listed."""
    if scores.ndim != 2 or (listed is not None and listed.shape != scores.shape):
        raise ValueError(
            "`scores` and `listed` should have the shape [num_queries, num_items]. Received: "
            f"{list(scores.shape)}" + ("." if listed is None else f" and {list(listed.shape)}.")
        )
    if np.isnan(scores).any():
        raise ValueError("`scores` should not be NaN: they would have no order.")
    scores = scores.astype(np.float64)
    return scores if listed is None else np.where(listed, scores, -np.inf)
