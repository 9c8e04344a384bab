"""What users do with a list, by the truth that no model sees.

A user looks at rank r with the attention v(r) of DCG as the probability, and clicks an item that is
looked at with the probability that it is relevant: the position-based model,

    P(click at r) = v(r) * relevance(user, item at r).

Source: Craswell, Zoeter, Taylor and Ramsey, "An experimental comparison of click position-bias
models", WSDM 2008.
"""

from __future__ import annotations

import numpy as np

from fairness_losses.browsing import dcg_weights
from pipelines.datasets.marketplace import Marketplace

_USERS_AT_ONCE = 200


def click_probability(market: Marketplace, users: np.ndarray, lists: np.ndarray) -> np.ndarray:
    """Probability of a click at every place.

    Args:
        market: The truth.
        users: Rows of the users, int `[num_lists]`.
        lists: Rows of the items, int `[num_lists, k]`, negative for none.

    Returns:
        float64 `[num_lists, k]`, 0 where there is no item.
    """
    k = lists.shape[1]
    pairs = np.repeat(users, k), np.maximum(lists, 0).ravel()
    relevance = market.relevance(*pairs).reshape(lists.shape)
    return np.where(lists >= 0, relevance * dcg_weights(k), 0.0)


def attainable(
    market: Marketplace, users: np.ndarray, items: np.ndarray, seen: np.ndarray, k: int
) -> float:
    """Expected clicks on the best lists that the items allow, a mean over users.

    Args:
        market: The truth.
        users: Rows of the users, int `[num_users]`.
        items: Rows of the items that are there, int `[num_items]`.
        seen: int `[num_users, n]`, positions in `items` that a user's list leaves out, -1 for none.
        k: Length of the lists.
    """
    k = min(k, len(items))
    weights, total = dcg_weights(k), 0.0
    for some in np.array_split(np.arange(len(users)), -(-len(users) // _USERS_AT_ONCE)):
        relevance = market.relevance_matrix(users[some])[:, items]
        # One more column, for what -1 points to.
        relevance = np.pad(relevance, ((0, 0), (0, 1)))
        np.put_along_axis(relevance, seen[some], 0.0, axis=1)
        best = -np.sort(-np.partition(relevance, -k, axis=1)[:, -k:], axis=1)
        total += float((best @ weights).sum())
    return total / len(users)
