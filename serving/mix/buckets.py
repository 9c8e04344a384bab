"""An index per group, of the kind that fits its size."""

from __future__ import annotations

import math
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from serving.mix.pools import GroupIndex
from serving.query_batches import search_all
from serving.scann_index import build_scann
from serving.search import ExactSearch, Search, load_scann_search, require_scann
from serving.tuning import Sample, choose, tune

_EXACT_UP_TO = 5_000
_HASHED_UP_TO = 30_000


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
    hashing of all their items, larger ones by hashing in the leaves of a tree. How many leaves are
    searched and how many candidates are reordered is tuned, see `serving.tuning.tune`: the lower
    end of the recall's interval is what is wanted, so other queries have that recall as well.

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
    kind, leaves = ("hashed", 1) if size <= _HASHED_UP_TO else ("tree", round(math.sqrt(size)))
    settings = {"leaves": leaves, "leaves_to_search": 1, "reorder": depth}
    if kind == "hashed":
        _build_hashed(vectors, depth, folder)
    else:
        build_scann(vectors, depth, settings, folder)
    sample = Sample(queries, search_all(ExactSearch(vectors), queries, depth))
    search = load_scann_search(folder, size, settings)
    best = choose(tune(search, sample, np.full(size, "all"), min_recall))
    return {
        "kind": kind,
        "size": size,
        "settings": best.settings,
        "recall": best.recall["overall"],
        "low": best.recall["low"],
    }


def _build_hashed(vectors: np.ndarray, depth: int, folder: pathlib.Path) -> None:
    searcher = (
        require_scann()
        .builder(vectors, depth, "dot_product")
        .score_ah(2, anisotropic_quantization_threshold=0.2)
        .reorder(depth)
        .build()
    )
    tf.saved_model.save(searcher.serialize_to_module(), str(folder))


def _load(vectors: np.ndarray, report: Mapping[str, Any], folder: pathlib.Path) -> Search:
    if report["kind"] == "exact":
        return ExactSearch(vectors)
    return load_scann_search(folder, len(vectors), report["settings"])
