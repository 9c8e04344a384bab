"""An index per group, of the kind that fits its size."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from serving.index_audit import wilson_interval
from serving.mix.pools import GroupIndex
from serving.scann_index import build_scann
from serving.search import NO_ITEM, ExactSearch, Search, load_scann_search, require_scann

_EXACT_UP_TO = 5_000
_HASHED_UP_TO = 30_000
_FEWEST_REORDERED = 100
_STEP = 1.5
_BATCH = 64


def build_buckets(
    vectors: np.ndarray,
    codes: np.ndarray,
    depths: Mapping[int, int],
    queries: np.ndarray,
    min_recall: float,
    folder: pathlib.Path,
) -> dict[str, Any]:
    """Builds an index for each of some groups, and searches as much of it as its recall needs.

    Groups of at most 5,000 items are compared with exactly, those of at most 30,000 by asymmetric
    hashing of all their items, larger ones by hashing in the leaves of a tree. How many candidates
    are reordered, and how many leaves are searched, rises until the lower end of the interval of
    the recall, see `serving.index_audit.wilson_interval`, is what is wanted: so other queries have
    that recall as well.

    Args:
        vectors: Catalogue, float32 `[num_items, dim]`.
        codes: Group of every item, int `[num_items]`.
        depths: Group to the number of its items that a list may hold.
        queries: float32 `[num_queries, dim]`, to measure with.
        min_recall: Share of the best `depths` items to find.
        folder: Receives a folder for every group that is not searched exactly.

    Returns:
        By the group's number as a string: `kind` (exact, hashed or tree), `size`, `settings`, the
        `recall` at its depth and its interval's `low` end.
    """
    return {
        str(group): _build(vectors[codes == group], depth, queries, min_recall, folder / str(group))
        for group, depth in depths.items()
        if (codes == group).any()
    }


def load_buckets(
    vectors: np.ndarray,
    codes: np.ndarray,
    report: Mapping[str, Any],
    groups: Iterable[int],
    folder: pathlib.Path,
) -> dict[int, GroupIndex]:
    """Loads the indexes of some groups.

    Args:
        vectors: Catalogue, float32 `[num_items, dim]`.
        codes: Group of every item, int `[num_items]`.
        report: What `build_buckets` returned.
        groups: Which to load.
        folder: As it was given to `build_buckets`.
    """
    return {
        group: GroupIndex(
            _load(vectors[codes == group], report[str(group)], folder / str(group)),
            np.flatnonzero(codes == group),
            len(codes),
        )
        for group in groups
    }


def _build(
    vectors: np.ndarray, depth: int, queries: np.ndarray, min_recall: float, folder: pathlib.Path
) -> dict[str, Any]:
    size = len(vectors)
    depth = min(depth, size)
    if size <= _EXACT_UP_TO:
        return {"kind": "exact", "size": size, "settings": {}, "recall": 1.0, "low": 1.0}
    reorder = min(max(4 * depth, _FEWEST_REORDERED), size)
    if size <= _HASHED_UP_TO:
        kind, settings = "hashed", {"leaves": 1, "leaves_to_search": 1, "reorder": reorder}
        _build_hashed(vectors, depth, reorder, folder)
    else:
        leaves = round(math.sqrt(size))
        settings = {"leaves": leaves, "leaves_to_search": max(leaves // 50, 10), "reorder": reorder}
        kind = "tree"
        build_scann(vectors, depth, settings, folder)
    exact = _search_all(ExactSearch(vectors), queries, depth)
    while True:
        report = {"kind": kind, "size": size, "settings": settings}
        found = _search_all(_load(vectors, report, folder), queries, depth)
        recall, low = _recall(exact, found, size)
        if low >= min_recall or (
            settings["leaves_to_search"] == settings["leaves"] and (settings["reorder"] >= size)
        ):
            return {**report, "recall": recall, "low": low}
        settings = {
            "leaves": settings["leaves"],
            "leaves_to_search": min(
                math.ceil(settings["leaves_to_search"] * _STEP), settings["leaves"]
            ),
            "reorder": min(math.ceil(settings["reorder"] * _STEP), size),
        }


def _build_hashed(vectors: np.ndarray, depth: int, reorder: int, folder: pathlib.Path) -> None:
    searcher = (
        require_scann()
        .builder(vectors, depth, "dot_product")
        .score_ah(2, anisotropic_quantization_threshold=0.2)
        .reorder(reorder)
        .build()
    )
    tf.saved_model.save(searcher.serialize_to_module(), str(folder))


def _load(vectors: np.ndarray, report: Mapping[str, Any], folder: pathlib.Path) -> Search:
    if report["kind"] == "exact":
        return ExactSearch(vectors)
    return load_scann_search(folder, len(vectors), report["settings"])


def _search_all(search: Search, queries: np.ndarray, k: int) -> np.ndarray:
    ask = tf.function(lambda q: search(q, k, tf.zeros([tf.shape(q)[0], 0], tf.int32))[0])
    batches = [queries[start : start + _BATCH] for start in range(0, len(queries), _BATCH)]
    return np.concatenate([ask(tf.constant(batch)).numpy() for batch in batches])


def _recall(exact: np.ndarray, found: np.ndarray, size: int) -> tuple[float, float]:
    """The recall and the lower end of its interval."""
    query = np.arange(len(exact))[:, None] * size
    hits = np.isin(query + exact, (query + found)[found != NO_ITEM]).sum(axis=1)
    return float(hits.sum() / exact.size), wilson_interval(
        hits, np.full(len(exact), exact.shape[1])
    )[0]
