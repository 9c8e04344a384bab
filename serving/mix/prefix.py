"""How many items of a group every prefix of a list should hold."""

from __future__ import annotations

import numpy as np
from scipy import stats

from fairness_losses.errors import InvalidInputError
from serving.mix.config import PolicyConfig


def minimum_tables(policy: PolicyConfig, shares: np.ndarray, k: int) -> np.ndarray:
    """Minimums of all policy rows under `policy.prefix`.

    Args:
        policy: Whose lists have minimums.
        shares: float `[num_rows, num_groups]`, target shares.
        k: Length of the list.

    Returns:
        int32 `[num_rows, k + 1, num_groups]`.
    """
    if policy.prefix == "shares":
        return np.stack([minimum_by_shares(row, k) for row in shares])
    return np.stack([minimum_by_significance(row, k, policy.alpha) for row in shares])


def minimum_by_shares(shares: np.ndarray, k: int) -> np.ndarray:
    """The whole part of the target, at every prefix: floor(i p).

    Source: Geyik, Ambler and Kenthapadi, "Fairness-Aware Ranking in Search & Recommendation
    Systems with Application to LinkedIn Talent Search", KDD 2019, section 4.1.

    Args:
        shares: float `[num_groups]`, target shares.
        k: Length of the list.

    Returns:
        int32 `[k + 1, num_groups]`, for the first i = 0, ..., k items.
    """
    return np.floor(np.outer(np.arange(k + 1), shares) + 1e-6).astype(np.int32)


def minimum_by_significance(shares: np.ndarray, k: int, alpha: float) -> np.ndarray:
    """What a lottery with the target shares gives, but in one of 1 / alpha lists.

    A prefix of length i holds at least the alpha_c-quantile of the binomial distribution of i
    draws with probability p. alpha_c is below alpha, because a list is tested at each of its
    prefixes: it is the largest for which a list that was drawn fails anywhere with a probability
    of at most alpha / num_groups. With two groups or more that have a target, each is tested as in
    the case of one protected group, and alpha is divided among them (Bonferroni).

    Source: Zehlike, Bonchi, Castillo, Hajian, Megahed and Baeza-Yates, "FA*IR: A Fair Top-k Ranking
    Algorithm", CIKM 2017, sections 3.2 and 4.

    Args:
        shares: float `[num_groups]`, target shares; 0 for a group without a target.
        k: Length of the list.
        alpha: Probability that a list drawn by the targets is refused.

    Returns:
        int32 `[k + 1, num_groups]`, for the first i = 0, ..., k items.

    Raises:
        InvalidInputError: The minimums of all groups do not fit into some prefix.
    """
    table = np.zeros((k + 1, len(shares)), np.int32)
    tested = np.flatnonzero((shares > 0) & (shares < 1))
    for group in tested:
        adjusted = adjust_alpha(float(shares[group]), k, alpha / len(tested))
        table[:, group] = minimum_table(float(shares[group]), k, adjusted)
    # Together with the bounds of the list, which are at least the whole parts of the targets.
    needed = np.maximum(table, minimum_by_shares(shares, k)).sum(axis=1)
    over = np.flatnonzero(needed > np.arange(k + 1))
    if len(over):
        raise InvalidInputError(
            f"`serving.policy.prefix: significance` needs {needed[over[0]]} items among the first "
            f"{over[0]}. Lower `serving.policy.alpha`."
        )
    return table


def minimum_table(share: float, k: int, alpha: float) -> np.ndarray:
    """Quantiles of binomial distributions: the smallest m with P(X <= m) > alpha.

    Args:
        share: Probability of a draw, between 0 and 1.
        k: Longest prefix.
        alpha: Level of one test.

    Returns:
        int32 `[k + 1]`, from 0 for the empty prefix; it rises by at most 1 from one to the next.
    """
    return stats.binom.ppf(alpha, np.arange(k + 1), share).clip(0).astype(np.int32)


def failure_probability(minimum: np.ndarray, share: float) -> float:
    """Probability that draws by lottery fall below their minimum at any prefix.

    It follows the distribution of the number of successes from draw to draw and takes out what
    has failed (FA*IR, section 4.3, there by recursion over the blocks of the table).

    Args:
        minimum: int `[k + 1]`.
        share: Probability of a draw.
    """
    k = len(minimum) - 1
    alive = np.zeros(k + 2)
    alive[0] = 1.0
    for i in range(1, k + 1):
        alive[1:] = alive[1:] * (1 - share) + alive[:-1] * share
        alive[0] *= 1 - share
        alive[: minimum[i]] = 0.0
    return float(1.0 - alive.sum())


def adjust_alpha(share: float, k: int, alpha: float) -> float:
    """The largest level of one test for which a drawn list fails any with at most `alpha`.

    Args:
        share: Probability of a draw.
        k: Longest prefix.
        alpha: Probability to fail anywhere.
    """
    low, high = 0.0, alpha
    for _ in range(40):
        middle = (low + high) / 2
        if failure_probability(minimum_table(share, k, middle), share) <= alpha:
            low = middle
        else:
            high = middle
    return low
