"""Builds the index of a catalogue and measures what its approximation costs each group."""

from __future__ import annotations

import json
import math
import pathlib
import shutil
import time
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from fairness_losses.errors import InvalidInputError
from serving.config import ServingConfig
from serving.scann_index import build_scann
from serving.search import ExactSearch, Search, load_scann_search

INDEX_FILE = "index.json"
_SCANN_FOLDER = "scann"
_NUM_QUERIES = 1000
_BATCH_SIZE = 256
_FEWEST_FOR_SCANN = 16  # Asymmetric hashing has 16 codewords per block to learn.


def build_index(
    vectors: np.ndarray,
    group_labels: np.ndarray,
    config: ServingConfig,
    out_dir: pathlib.Path,
    seed: int,
    *,
    query_vectors: np.ndarray,
) -> dict[str, Any]:
    """Builds the index and writes it, with its recall, to a folder.

    An index built twice from the same vectors answers the same, on any number of threads.

    Args:
        vectors: Catalogue, float32 `[num_items, dim]`.
        group_labels: Group of every item, string `[num_items]`.
        config: Kind and settings of the index.
        out_dir: Receives `index.json` and, for ScaNN, the folder `scann`. What it held is lost.
        seed: Of the sample of queries.
        query_vectors: Vectors of real queries, float32 `[num_queries, dim]`; recall is measured
            on a sample of at most 1000 of them.

    Returns:
        What `index.json` holds: `kind` (exact or scann), `num_items`, `dim`, `k`, `settings`
        (empty for exact), `build_seconds`, and `recall` with `num_queries`, `overall` (mean over
        the queries of the share of the exact list that is found) and `by_group` (share of the
        group's items on all exact lists that is found; None where no list has any).

    Raises:
        InvalidInputError: The settings do not fit the catalogue, or ScaNN is not to be had.
    """
    num_items, dim = vectors.shape
    k = min(config.k, num_items)
    kind = choose_kind(config, num_items)
    shutil.rmtree(out_dir, ignore_errors=True)
    out_dir.mkdir(parents=True)
    settings = _scann_settings(config, num_items) if kind == "scann" else {}
    start = time.monotonic()
    if kind == "scann":
        build_scann(vectors, k, settings, out_dir / _SCANN_FOLDER)
    report = {
        "kind": kind,
        "num_items": num_items,
        "dim": dim,
        "k": k,
        "settings": settings,
        "build_seconds": round(time.monotonic() - start, 3),
    }
    queries = _sample(query_vectors, seed)
    exact = _search_all(ExactSearch(vectors), queries, k)
    found = exact if kind == "exact" else _search_all(_load(report, vectors, out_dir), queries, k)
    report["recall"] = measure_recall(exact, found, group_labels)
    text = json.dumps(report, indent=2, ensure_ascii=False)
    (out_dir / INDEX_FILE).write_text(text, encoding="utf-8")
    return report


def load_index(index_dir: pathlib.Path, vectors: np.ndarray) -> tuple[Search, dict[str, Any]]:
    """Returns the search that `build_index` wrote to a folder, and its `index.json`.

    Raises:
        InvalidInputError: The folder holds no complete index, or one of another catalogue.
    """
    path = index_dir / INDEX_FILE
    if not path.is_file():
        raise InvalidInputError(f"{index_dir}: holds no complete index. Build the index again.")
    report = json.loads(path.read_text(encoding="utf-8"))
    if [report["num_items"], report["dim"]] != list(vectors.shape):
        raise InvalidInputError(
            f"{path}: the index is of {report['num_items']} vectors of dimension "
            f"{report['dim']}, but the catalogue has {vectors.shape[0]} of dimension "
            f"{vectors.shape[1]}. Build the index again."
        )
    return _load(report, vectors, index_dir), report


def choose_kind(config: ServingConfig, num_items: int) -> Literal["exact", "scann"]:
    """Returns the kind of index that a catalogue of this size gets."""
    if config.index == "auto":
        return "exact" if num_items <= config.exact_up_to else "scann"
    return config.index


def measure_recall(exact: np.ndarray, found: np.ndarray, group_labels: np.ndarray) -> dict:
    """Compares approximate lists with the exact ones.

    Args:
        exact: Rows by exact search, int `[num_queries, k]`.
        found: Rows by the index, int `[num_queries, k]`, negative where a list is short.
        group_labels: Group of every item, string `[num_items]`.

    Returns:
        `num_queries`, `overall` and `by_group`, see `build_index`.
    """
    query = np.arange(len(exact))[:, None] * len(group_labels)
    is_found = np.isin(query + exact, (query + found)[found >= 0])
    labels, codes = np.unique(np.asarray(group_labels, dtype=str), return_inverse=True)
    listed = np.bincount(codes[exact].ravel(), minlength=len(labels))
    hits = np.bincount(codes[exact].ravel(), weights=is_found.ravel(), minlength=len(labels))
    return {
        "num_queries": len(exact),
        "overall": float(is_found.mean()),
        "by_group": {
            str(label): float(hits[g] / listed[g]) if listed[g] else None
            for g, label in enumerate(labels)
        },
    }


def _load(report: dict[str, Any], vectors: np.ndarray, index_dir: pathlib.Path) -> Search:
    if report["kind"] == "exact":
        return ExactSearch(vectors)
    return load_scann_search(index_dir / _SCANN_FOLDER, len(vectors), report["settings"])


def _scann_settings(config: ServingConfig, num_items: int) -> dict[str, int]:
    if num_items < _FEWEST_FOR_SCANN:
        raise InvalidInputError(
            f"`serving.index: scann` needs at least {_FEWEST_FOR_SCANN} items. Received: "
            f"{num_items}. Set `serving.index: exact`."
        )
    k = min(config.k, num_items)
    leaves = config.leaves or round(math.sqrt(num_items))
    leaves_to_search = config.leaves_to_search or min(max(10, leaves // 10), leaves)
    reorder = config.reorder or 10 * k
    if leaves > num_items:
        raise InvalidInputError(
            f"`serving.leaves` should be at most the number of items, {num_items}. Received: "
            f"{leaves}."
        )
    if leaves_to_search > leaves:
        raise InvalidInputError(
            f"`serving.leaves_to_search` should be at most `serving.leaves`, here {leaves}. "
            f"Received: {leaves_to_search}."
        )
    if reorder < k:
        raise InvalidInputError(
            f"`serving.reorder` should be at least `serving.k`, here {k}: ScaNN returns no more "
            f"candidates than it reorders. Received: {reorder}."
        )
    return {"leaves": leaves, "leaves_to_search": leaves_to_search, "reorder": reorder}


def _sample(query_vectors: np.ndarray, seed: int) -> np.ndarray:
    if len(query_vectors) <= _NUM_QUERIES:
        return query_vectors
    chosen = np.random.default_rng(seed).choice(len(query_vectors), _NUM_QUERIES, replace=False)
    return query_vectors[np.sort(chosen)]


def _search_all(search: Search, queries: np.ndarray, k: int) -> np.ndarray:
    batches = np.split(queries, range(_BATCH_SIZE, len(queries), _BATCH_SIZE))
    nothing = [tf.zeros([len(batch), 0], tf.int32) for batch in batches]
    rows = [search(tf.constant(q), k, n)[0].numpy() for q, n in zip(batches, nothing, strict=True)]
    return np.concatenate(rows)
