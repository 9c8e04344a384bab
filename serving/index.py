"""Builds the index of a catalogue and measures what its approximation costs each group."""

from __future__ import annotations

import dataclasses
import itertools
import pathlib
import shutil
import time
from typing import Any, Literal

import numpy as np
import pyarrow.parquet as pq

from fairness_losses.errors import InvalidInputError
from fairness_losses.groups import Groups
from serving.config import ServingConfig
from serving.index_audit import Comparison, check_shares, describe
from serving.index_files import (
    INDEX_FILE,
    ITEMS_FILE,
    SCANN_FOLDER,
    read_report,
    write_items,
)
from serving.query_batches import search_all
from serving.refresh import RefreshedSearch, built_for, refresh_index
from serving.scann_index import build_scann, build_tuned, given_settings
from serving.scann_state import load_state
from serving.search import ExactSearch, Search, load_scann_search
from serving.sharding import ShardedScannSearch, ShardedSearch, shard_starts
from serving.tuning import Sample
from serving.whole_files import write_json

_NUM_QUERIES = 1000


def build_index(
    vectors: np.ndarray,
    group_labels: np.ndarray,
    config: ServingConfig,
    out_dir: pathlib.Path,
    seed: int,
    *,
    query_vectors: np.ndarray,
    item_ids: np.ndarray | None = None,
    previous_dir: pathlib.Path | None = None,
) -> dict[str, Any]:
    """Builds the index and writes it, with its recall, to a folder.

    An index built twice from the same vectors answers the same, on any number of threads.

    Args:
        vectors: Catalogue, float32 `[num_items, dim]`.
        group_labels: Group of every item, string `[num_items]`.
        config: Kind and settings of the index.
        out_dir: Receives `index.json` and, for ScaNN, the folder `scann`, `items.parquet` and,
            where settings were tried, `tuning.json`. What it held is lost.
        seed: Of the samples of queries and of the intervals.
        query_vectors: Vectors of real queries, float32 `[num_queries, dim]`. Settings are tried
            on a sample of at most 1000 of them; recall is measured on as many others.
        item_ids: Unique ids, string `[num_items]`; without them the index cannot be refreshed.
        previous_dir: An earlier index, which is refreshed if `config.refresh_up_to` allows.

    Returns:
        What `index.json` holds:

        - `kind` (exact or scann), `num_items`, `dim`, `k`, `shards`, `settings` (empty for exact),
          `build_seconds`;
        - `tuned`, `built_for` (what was asked of the index) and `refreshed` (None, or how many
          items were `built`, `kept` and `added`);
        - `recall` with `num_queries`, `overall` (share of the exact lists that is found), `low`
          and `high` of its interval, and `by_group` (None where no list has any of the group);
        - `groups`: per group `recall` (`value`, `low`, `high`, `count`, places on exact lists)
          and `share` of all places (`exact`, `found` by the index, and the relative `change`);
        - `target`, `target_reached` and `short_groups`, those that miss it.

    Raises:
        InvalidInputError: The settings do not fit the catalogue, or ScaNN is not to be had.
        ShareChangedError: A group's share changes by more than `config.max_share_change`.
    """
    if config.shards > len(vectors):
        raise InvalidInputError(
            f"`serving.shards` should be at most the number of items, {len(vectors)}. Received: "
            f"{config.shards}."
        )
    catalogue = _Catalogue(vectors, group_labels, item_ids)
    kind = choose_kind(config, len(vectors))
    is_tuned = kind == "scann" and config.leaves_to_search is None and config.reorder is None
    tried, held_out = _samples(query_vectors, vectors, config.k, is_tuned, seed)
    report = None
    if kind == "scann" and previous_dir is not None:
        _empty(out_dir)
        refreshed = _refresh(catalogue, config, previous_dir, out_dir)
        if refreshed:
            report = _measure(refreshed, catalogue, held_out, config, out_dir, seed)
    # What is new may be what the settings of a refreshed index were not made for.
    if report is None or not report["target_reached"]:
        _empty(out_dir)
        made = _build(kind, catalogue, config, tried if is_tuned else None, out_dir)
        report = _measure(made, catalogue, held_out, config, out_dir, seed)
    write_json(report, out_dir / INDEX_FILE)
    if config.max_share_change is not None:
        check_shares(report["groups"], config.max_share_change)
    return report


def load_index(index_dir: pathlib.Path, vectors: np.ndarray) -> tuple[Search, dict[str, Any]]:
    """Returns the search that `build_index` wrote to a folder, and its `index.json`.

    Raises:
        InvalidInputError: The folder holds no complete index, or one of another catalogue.
    """
    report = read_report(index_dir)
    if report is None:
        raise InvalidInputError(f"{index_dir}: holds no complete index. Build the index again.")
    if [report["num_items"], report["dim"]] != list(vectors.shape):
        raise InvalidInputError(
            f"{index_dir / INDEX_FILE}: the index is of {report['num_items']} vectors of dimension "
            f"{report['dim']}, but the catalogue has {vectors.shape[0]} of dimension "
            f"{vectors.shape[1]}. Build the index again."
        )
    return _load(report, vectors, index_dir), report


def choose_kind(config: ServingConfig, num_items: int) -> Literal["exact", "scann"]:
    """Returns the kind of index that a catalogue of this size gets."""
    if config.index == "auto":
        return "exact" if num_items <= config.exact_up_to else "scann"
    return config.index


@dataclasses.dataclass(frozen=True)
class _Catalogue:
    vectors: np.ndarray
    group_labels: np.ndarray
    item_ids: np.ndarray | None


def _build(
    kind: str,
    catalogue: _Catalogue,
    config: ServingConfig,
    tried: Sample | None,
    out_dir: pathlib.Path,
) -> dict[str, Any]:
    """Builds an index, tuned if there is a sample to try settings on."""
    vectors = catalogue.vectors
    settings: dict[str, int] = {}
    start = time.monotonic()
    if kind == "scann" and tried is None:
        settings = given_settings(config, len(vectors))
        build_scann(vectors, min(config.k, len(vectors)), settings, out_dir / SCANN_FOLDER)
    seconds = time.monotonic() - start
    if tried is not None:
        settings, seconds = build_tuned(vectors, catalogue.group_labels, config, tried, out_dir)
    if kind == "scann" and catalogue.item_ids is not None:
        write_items(catalogue.item_ids, np.arange(len(vectors)), out_dir)
    return {
        "kind": kind,
        "settings": settings,
        "build_seconds": round(seconds, 3),
        "tuned": tried is not None,
        "refreshed": None,
    }


def _refresh(
    catalogue: _Catalogue, config: ServingConfig, previous_dir: pathlib.Path, out_dir: pathlib.Path
) -> dict[str, Any] | None:
    """Brings an earlier index up to date, if that is what is to be done."""
    start = time.monotonic()
    earlier = read_report(previous_dir)
    if earlier is None or catalogue.item_ids is None:
        return None
    changes = refresh_index(previous_dir, catalogue.vectors, catalogue.item_ids, config, out_dir)
    if changes is None:
        return None
    return {
        "kind": "scann",
        "settings": earlier["settings"],
        "build_seconds": round(time.monotonic() - start, 3),
        "tuned": earlier["tuned"],
        "refreshed": dataclasses.asdict(changes),
    }


def _measure(
    made: dict[str, Any],
    catalogue: _Catalogue,
    held_out: Sample,
    config: ServingConfig,
    out_dir: pathlib.Path,
    seed: int,
) -> dict[str, Any]:
    """Completes `index.json` with what the index is of and what it loses."""
    num_items, dim = catalogue.vectors.shape
    report = {
        **made,
        "num_items": num_items,
        "dim": dim,
        "k": held_out.exact.shape[1],
        "shards": config.shards,
        "built_for": built_for(config),
    }
    found = held_out.exact
    if made["kind"] == "scann":
        search = _load(report, catalogue.vectors, out_dir)
        found = search_all(search, held_out.queries, report["k"])
    groups = Groups.from_labels(catalogue.group_labels)
    comparison = Comparison.of(held_out.exact, found, groups.labels, groups.codes)
    return {**report, **describe(comparison, config.recall_target, seed)}


def _load(report: dict[str, Any], vectors: np.ndarray, index_dir: pathlib.Path) -> Search:
    if report["kind"] == "exact":
        return _exact(vectors, report["shards"])
    folder, settings = index_dir / SCANN_FOLDER, report["settings"]
    refreshed = report["refreshed"]
    num_base = refreshed["kept"] if refreshed else len(vectors)
    base: Search
    if report["shards"] == 1:
        base = load_scann_search(folder, num_base, settings)
    else:
        base = ShardedScannSearch(load_state(folder), report["shards"], **settings)
    if num_base == len(vectors):
        return base
    base_rows = pq.read_table(index_dir / ITEMS_FILE)["row"].to_numpy()
    added_rows = np.setdiff1d(np.arange(len(vectors)), base_rows)
    return RefreshedSearch(base, base_rows, ExactSearch(vectors[added_rows]), added_rows)


def _exact(vectors: np.ndarray, shards: int) -> Search:
    if shards == 1:
        return ExactSearch(vectors)
    starts = shard_starts(len(vectors), shards)
    parts = [ExactSearch(vectors[a:b]) for a, b in itertools.pairwise(starts)]
    return ShardedSearch(parts, starts)


def _samples(
    query_vectors: np.ndarray, vectors: np.ndarray, k: int, is_tuned: bool, seed: int
) -> tuple[Sample, Sample]:
    """Two samples of queries with their exact lists: to try settings on, and to measure on.

    Where there is nothing to try, the first is empty; where there is one query, it is in both.
    """
    number = len(query_vectors)
    chosen = np.random.default_rng(seed).permutation(number)
    split = min(number // 2, _NUM_QUERIES) if is_tuned else 0
    tried = chosen[: max(split, is_tuned)]
    search = ExactSearch(vectors)

    def sample(rows: np.ndarray) -> Sample:
        queries = query_vectors[np.sort(rows)]
        return Sample(queries, search_all(search, queries, min(k, len(vectors))))

    return sample(tried), sample(chosen[split : split + _NUM_QUERIES])


def _empty(folder: pathlib.Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
