"""Ranking quality of lists with binary relevance, list by list, and its mean over slices."""

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


def precision_at_k(hits: np.ndarray, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """Precision at k per list: `hits in the first k / k`, in [0, 1].

    Args:
        hits: bool `[num_lists, depth >= k]`, whether the item at a rank is relevant.
        num_relevant: int `[num_lists]`, relevant items per list's user, found or not.
        k: Cutoff.

    Returns:
        float64 `[num_lists]`, at most `num_relevant / k`; NaN where nothing is relevant.
    """
    _check_depth(hits, k)
    return _where_relevant(hits[:, :k].mean(axis=1), num_relevant)


def hit_rate_at_k(hits: np.ndarray, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """Whether the first k hold a relevant item, per list: 1 or 0. The hit rate is the mean.

    Args:
        hits: bool `[num_lists, depth >= k]`, whether the item at a rank is relevant.
        num_relevant: int `[num_lists]`, relevant items per list's user, found or not.
        k: Cutoff.

    Returns:
        float64 `[num_lists]`; NaN where nothing is relevant.
    """
    _check_depth(hits, k)
    return _where_relevant(hits[:, :k].any(axis=1), num_relevant)


def reciprocal_rank_at_k(hits: np.ndarray, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """1 over the rank of the first relevant item, per list; 0 if it is not in the first k.

    Its mean over lists is the mean reciprocal rank (MRR). Source: Voorhees, "The TREC-8 Question
    Answering Track Report", TREC 1999.

    Args:
        hits: bool `[num_lists, depth >= k]`, whether the item at a rank is relevant.
        num_relevant: int `[num_lists]`, relevant items per list's user, found or not.
        k: Cutoff.

    Returns:
        float64 `[num_lists]`, in [0, 1]; NaN where nothing is relevant.
    """
    _check_depth(hits, k)
    return _where_relevant((hits[:, :k] / np.arange(1, k + 1)).max(axis=1), num_relevant)


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


def by_slice(values: np.ndarray, slices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means of a figure per list over slices, and the number of lists behind each mean.

    Means merge as their counts say: over two halves they are `sum(mean * count) / sum(count)`.

    Args:
        values: float or bool `[num_lists]`, NaN for a list without the figure, which is left out.
        slices: bool `[num_lists, num_slices]`, whether a list's user belongs to a slice. Slices
            may overlap.

    Returns:
        Means, float64 `[num_slices]`, NaN for a slice without a value; counts, int `[num_slices]`.
    """
    if slices.dtype != bool or slices.shape[:1] != values.shape:
        raise ValueError(
            f"`slices` should be bool of the shape {[*values.shape, 'num_slices']}. "
            f"Received: {slices.dtype} of the shape {list(slices.shape)}."
        )
    counted = slices & ~np.isnan(values)[:, None]
    counts = counted.sum(axis=0)
    # Selected by `where`, not by a product, which would make NaN of an infinite value elsewhere.
    sums = np.sum(np.broadcast_to(values[:, None], counted.shape), axis=0, where=counted)
    with np.errstate(invalid="ignore"):
        return sums / counts, counts


def _where_relevant(values: np.ndarray, num_relevant: np.ndarray) -> np.ndarray:
    return np.where(num_relevant > 0, values, np.nan)


def _check_depth(hits: np.ndarray, k: int) -> None:
    if hits.ndim != 2 or hits.shape[1] < k:
        raise ValueError(
            f"`hits` should have the shape [num_lists, at least {k}]. Received: {list(hits.shape)}."
        )
