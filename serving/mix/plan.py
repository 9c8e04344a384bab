"""What the index stage decides about the mix, and how the export makes a module of it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
from typing import Any

import numpy as np
import tensorflow as tf

from fairness_losses.config import TargetConfig
from fairness_losses.errors import InvalidInputError
from fairness_losses.groups import Groups
from serving.catalogue import Catalogue
from serving.config import ServingConfig
from serving.index import load_index
from serving.mix.assembly import BUCKETS_FOLDER, assemble
from serving.mix.config import PolicyConfig
from serving.mix.mix import CandidateMix
from serving.mix.pools import ExactPool, Wanted
from serving.mix.steering import score_spread, starting_prices, with_groups, without_prices
from serving.mix.strategies import choose_strategy
from serving.mix.targets import Targets, resolve_targets
from serving.query_batches import in_batches
from serving.search import ExactSearch
from serving.whole_files import write_json

PLAN_FILE = "mix.json"
_NUM_QUERIES = 1000


def index_vectors(
    vectors: np.ndarray, group_labels: np.ndarray, policy: PolicyConfig
) -> np.ndarray:
    """The vectors that the index is built of: for `steered`, with a column per group.

    Args:
        vectors: Catalogue, float32 `[num_items, dim]`.
        group_labels: Group of every item, string `[num_items]`.
        policy: Of the lists.
    """
    if policy.kind != "steered":
        return vectors
    groups = Groups.from_labels(group_labels)
    return with_groups(vectors, groups.codes, len(groups.labels))


def index_queries(
    queries: np.ndarray, group_labels: np.ndarray, policy: PolicyConfig
) -> np.ndarray:
    """Queries of the width of `index_vectors`, without prices; to measure the index with."""
    if policy.kind != "steered":
        return queries
    return without_prices(queries, len(np.unique(np.asarray(group_labels, dtype=str))))


def plan_mix(
    vectors: np.ndarray,
    group_labels: np.ndarray,
    config: ServingConfig,
    index_dir: pathlib.Path,
    seed: int,
    *,
    target: TargetConfig,
    query_vectors: np.ndarray,
    relevance: np.ndarray | None = None,
) -> dict[str, Any]:
    """Decides what the mix needs to know of catalogue and queries; writes it beside the index.

    Args:
        vectors: Catalogue, float32 `[num_items, dim]`.
        group_labels: Group of every item, string `[num_items]`.
        config: With the policy.
        index_dir: What `serving.index.build_index` wrote for `index_vectors`; receives `mix.json`
            and, where groups have indexes of their own, the folder `buckets`.
        seed: Of the sample of queries.
        target: Where the policy has none of its own.
        query_vectors: Vectors of real queries, float32 `[num_queries, dim]`; at most 1000 are used.
        relevance: For a target by merit, `[num_items]`.

    Returns:
        What `mix.json` holds: `kind`, `groups`, `shares` and `tolerance` of the policy rows,
        `strategy` (None where the kind, or an exact index, leaves no choice), `buckets`, what was
        `measured` of every strategy, and of `steered` the starting `prices` and the `step`.

    Raises:
        InvalidInputError: A target does not fit, or no strategy reaches the wanted recall.
    """
    policy = config.policy
    targets = resolve_targets(group_labels, policy, target, relevance)
    catalogue = Catalogue(vectors, np.arange(len(vectors)).astype(str), np.asarray(group_labels))
    queries = _sample(query_vectors, seed)
    plan: dict[str, Any] = {
        "kind": policy.kind,
        "groups": list(targets.labels),
        "shares": targets.shares.tolist(),
        "tolerance": targets.tolerance.tolist(),
        "strategy": None,
        "buckets": {},
        "measured": {},
    }
    shutil.rmtree(index_dir / BUCKETS_FOLDER, ignore_errors=True)
    search, index = load_index(index_dir, index_vectors(vectors, group_labels, policy))
    if policy.kind == "steered":
        plan |= _steering(targets, catalogue, queries, config)
    elif policy.kind == "quota" and index["kind"] != "exact":
        plan |= choose_strategy(targets, catalogue, queries, config, search, index_dir)
    write_json(plan, index_dir / PLAN_FILE)
    return plan


def load_mix(
    index_dir: pathlib.Path, catalogue: Catalogue, config: ServingConfig, exact: bool = False
) -> tuple[CandidateMix, Targets, dict[str, Any], dict[str, Any]]:
    """Makes the mix of a catalogue from what the index stage wrote.

    Args:
        index_dir: Folder of the index.
        catalogue: The one it was built of.
        config: With the policy it was planned for.
        exact: Whether to compare with every item, whatever the index is.

    Returns:
        The mix, its targets, the plan and the content of `index.json`.

    Raises:
        InvalidInputError: There is no index or plan, or one for another catalogue or policy.
    """
    policy = config.policy
    vectors = index_vectors(catalogue.vectors, catalogue.groups, policy)
    search, index = load_index(index_dir, vectors)
    if exact and index["kind"] != "exact":
        search, index = ExactSearch(vectors), {**index, "kind": "exact", "settings": {}}
    plan: dict[str, Any] = {}
    targets = resolve_targets(catalogue.groups, PolicyConfig(), TargetConfig())
    if policy.kind != "relevance":
        plan = _read_plan(index_dir, catalogue, policy)
        shares, tolerance = np.array(plan["shares"]), np.array(plan["tolerance"])
        targets = dataclasses.replace(targets, shares=shares, tolerance=tolerance)
    k = min(config.k, len(catalogue.vectors))
    mix = assemble(policy, targets, search, catalogue, k, plan, index_dir)
    return mix, targets, plan, index


def _read_plan(
    index_dir: pathlib.Path, catalogue: Catalogue, policy: PolicyConfig
) -> dict[str, Any]:
    path = index_dir / PLAN_FILE
    plan = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    if (
        plan is None
        or plan["kind"] != policy.kind
        or (set(plan["groups"]) != set(np.asarray(catalogue.groups, dtype=str)))
    ):
        raise InvalidInputError(
            f"{index_dir}: the index was not built for `serving.policy.kind: {policy.kind}` and "
            "the groups of this catalogue. Build the index again."
        )
    return plan


def _steering(
    targets: Targets, catalogue: Catalogue, queries: np.ndarray, config: ServingConfig
) -> dict[str, Any]:
    """Starting prices of every policy row, and the step in units of the score."""
    k, num_groups = min(config.k, len(catalogue.vectors)), len(targets.labels)
    pool = ExactPool(ExactSearch(catalogue.vectors), targets.codes, num_groups, k)

    def best_of_every_group(batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        num_queries = tf.shape(batch)[0]
        shape = [num_queries, num_groups]
        wanted = Wanted(
            (k,) * num_groups,
            tf.zeros(shape, tf.int32),
            True,
            tf.ones(shape, tf.bool),
            tf.zeros(shape),
            tf.zeros([num_queries, 0], tf.int32),
        )
        return pool(batch, wanted)

    rows, scores = in_batches(best_of_every_group, queries)
    codes = np.append(targets.codes, -1)[rows]
    prices = [starting_prices(scores, codes, shares, k) for shares in targets.shares]
    spread = score_spread(scores, k)
    return {
        "prices": np.stack(prices).tolist(),
        "step": config.policy.step_size * spread,
        "spread": spread,
    }


def _sample(query_vectors: np.ndarray, seed: int) -> np.ndarray:
    if len(query_vectors) <= _NUM_QUERIES:
        return query_vectors
    chosen = np.random.default_rng(seed).choice(len(query_vectors), _NUM_QUERIES, replace=False)
    return query_vectors[np.sort(chosen)]
