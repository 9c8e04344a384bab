"""Where candidates of a quota come from: what is measured, and the cheapest that is good enough."""

from __future__ import annotations

import pathlib
import shutil
import time
from typing import Any

import numpy as np
import tensorflow as tf

from serving.catalogue import Catalogue
from serving.config import ServingConfig
from serving.index_audit import Comparison
from serving.mix.assembly import BUCKETS_FOLDER, assemble
from serving.mix.buckets import build_buckets
from serving.mix.config import PolicyConfig
from serving.mix.mix import CandidateMix
from serving.mix.targets import Targets
from serving.query_batches import in_batches, search_all
from serving.search import ExactSearch, Search

_NUM_TIMED = 200


def choose_strategy(
    targets: Targets,
    catalogue: Catalogue,
    queries: np.ndarray,
    config: ServingConfig,
    search: Search,
    index_dir: pathlib.Path,
) -> dict[str, Any]:
    """Builds what the strategies need, measures them and keeps the chosen one."""
    policy, k = config.policy, min(config.k, len(catalogue.vectors))
    tried = ["over_fetch", "bucketized", "hybrid"]
    if policy.strategy != "auto":
        tried = [policy.strategy]
    folder = index_dir / BUCKETS_FOLDER
    exact_mix = assemble(
        policy, targets, ExactSearch(catalogue.vectors), catalogue, k, {}, index_dir
    )
    exact = _lists(exact_mix, queries)
    depths = dict(enumerate(exact_mix.depths))
    buckets = {}
    if tried != ["over_fetch"]:
        buckets = build_buckets(
            catalogue.vectors, targets.codes, depths, queries, policy.min_recall, folder
        )
    plans = {}
    for strategy in tried:
        used = buckets if strategy == "bucketized" else {}
        if strategy == "hybrid":
            short = short_groups(search, targets, queries, policy.over_fetch * k, exact)
            used = {g: b for g, b in buckets.items() if int(g) in short}
        plan = {"strategy": strategy, "buckets": used}
        mix = assemble(policy, targets, search, catalogue, k, plan, index_dir)
        measured = _measure(mix, queries, exact, targets)
        plans[strategy] = {**plan, "measured": measured}
    chosen = _cheapest(plans, policy)
    for group in set(buckets) - set(plans[chosen]["buckets"]):
        shutil.rmtree(folder / group, ignore_errors=True)
    return {
        **plans[chosen], "measured": {name: p["measured"] for name, p in plans.items()}
    }  # fmt: skip


def _cheapest(plans: dict[str, dict[str, Any]], policy: PolicyConfig) -> str:
    """The fastest strategy that finds enough of every group; else the one that finds most."""

    def least(name: str) -> float:
        recalls = plans[name]["measured"]["recall"].values()
        return min(recall["value"] for recall in recalls if recall)

    good = [name for name in plans if least(name) >= policy.min_recall]
    if good:
        return min(good, key=lambda name: plans[name]["measured"]["mean_ms"])
    return max(plans, key=least)


def short_groups(
    search: Search, targets: Targets, queries: np.ndarray, first: int, exact: np.ndarray
) -> set[int]:
    """Groups of which the first candidates of some query are fewer than its exact list holds.

    Args:
        search: Over the catalogue.
        targets: Of its groups.
        queries: float32 `[num_queries, dim]`.
        first: Candidates that are fetched.
        exact: Rows of the exact lists, int `[num_queries, k]`.
    """
    found = search_all(search, queries, min(first, len(targets.codes)))
    comparison = Comparison.of(exact, found, targets.labels, targets.codes)
    return set(np.flatnonzero((comparison.found < comparison.listed).any(axis=0)).tolist())


def _measure(
    mix: CandidateMix, queries: np.ndarray, exact: np.ndarray, targets: Targets
) -> dict[str, Any]:
    """Recall of the exact lists per group, and milliseconds of one query at a time."""
    rows = _lists(mix, queries)
    comparison = Comparison.of(exact, rows, targets.labels, targets.codes)
    ask = tf.function(mix.by_policy).get_concrete_function(
        tf.TensorSpec([None, queries.shape[1]], tf.float32)
    )
    seconds = []
    timed = queries[:_NUM_TIMED]
    for query_vector in [timed[:1], *np.split(timed, len(timed))]:
        start = time.perf_counter()
        ask(tf.constant(query_vector))
        seconds.append(time.perf_counter() - start)
    return {
        "recall": comparison.group_recalls(),
        "full": float(comparison.is_full.mean()),
        "same_counts": float((comparison.found == comparison.listed).all(axis=1).mean()),
        "p50_ms": round(1e3 * float(np.median(seconds[1:])), 3),
        "mean_ms": round(1e3 * float(np.mean(seconds[1:])), 3),
    }


def _lists(mix: CandidateMix, queries: np.ndarray) -> np.ndarray:
    return in_batches(lambda batch: mix.by_policy(batch)[:1], queries)[0]
