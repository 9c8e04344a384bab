"""Ranking quality of lists: recall and NDCG with binary relevance."""

from __future__ import annotations

import numpy as np

from fairness_losses.browsing import dcg_weights


def recall_at_k(hits: np.ndarray, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """Recall at k per list: `hits in the first k / min(k, num_relevant)`, in [0, 1].

    Args:
        hits: bool `[num_lists, depth >= k]`, whether the item at a rank is relevant.
        num_relevant: int `[num_lists]`, relevant items per list's user, found or not.
        k: Cutoff.

    Returns:
        float64 `[num_lists]`; NaN where nothing is relevant.
    """
    _check_depth(hits, k)
    with np.errstate(invalid="ignore", divide="ignore"):
        return hits[:, :k].sum(axis=1) / np.minimum(num_relevant, k)


def ndcg_at_k(hits: np.ndarray, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """NDCG at k per list with binary gains and the discount `1 / log2(rank + 1)`, in [0, 1].

    Source: Järvelin and Kekäläinen, TOIS 2002. The ideal list begins with
    `min(k, num_relevant)` relevant items.

    Args:
        hits: bool `[num_lists, depth >= k]`, whether the item at a rank is relevant.
        num_relevant: int `[num_lists]`, relevant items per list's user, found or not.
        k: Cutoff.

    Returns:
        float64 `[num_lists]`; NaN where nothing is relevant.
    """
    _check_depth(hits, k)
    weights = dcg_weights(k)
    ideal = np.concatenate([[0.0], weights.cumsum()])[np.minimum(num_relevant, k)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return (hits[:, :k] @ weights) / ideal


def _check_depth(hits: np.ndarray, k: int) -> None:
    if hits.ndim != 2 or hits.shape[1] < k:
        raise ValueError(
            f"`hits` should have the shape [num_lists, at least {k}]. Received: {list(hits.shape)}."
        )
