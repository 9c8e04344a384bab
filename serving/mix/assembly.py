"""A mix of the parts that a plan names."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import tensorflow as tf

from serving.catalogue import Catalogue
from serving.mix.buckets import load_buckets
from serving.mix.config import PolicyConfig
from serving.mix.mix import CandidateMix
from serving.mix.over_fetch import OverFetchPool
from serving.mix.pools import BucketPool, ExactPool, Pool
from serving.mix.steering import Prices, price_unit
from serving.mix.targets import Targets
from serving.search import ExactSearch, Search

BUCKETS_FOLDER = "buckets"
"""In the folder of the index: what groups with an index of their own are searched by."""


def assemble(
    policy: PolicyConfig,
    targets: Targets,
    search: Search,
    catalogue: Catalogue,
    k: int,
    plan: dict[str, Any],
    index_dir: pathlib.Path,
) -> CandidateMix:
    """Makes a mix of its parts.

    Args:
        policy: How lists are made.
        targets: Of the catalogue's groups.
        search: The one index.
        catalogue: What it is of.
        k: Length of the lists.
        plan: `strategy`, `buckets`, `prices` and `step`, as far as the policy needs them.
        index_dir: Holds the folder `buckets`.
    """
    prices = None
    if policy.kind == "steered":
        prices = Prices(np.array(plan["prices"]), targets.shares, k, plan["step"])
    vectors = None
    if policy.diversify == "dpp":
        vectors = tf.Variable(catalogue.vectors, trainable=False, dtype=tf.float32)
    pool = _pool(policy, targets, search, catalogue, k, plan, index_dir)
    return CandidateMix(policy, targets, search, pool, k, prices, vectors)


def _pool(
    policy: PolicyConfig,
    targets: Targets,
    search: Search,
    catalogue: Catalogue,
    k: int,
    plan: dict[str, Any],
    index_dir: pathlib.Path,
) -> Pool:
    num_groups = len(targets.labels)
    if isinstance(search, ExactSearch) and policy.kind != "steered":
        return ExactPool(search, targets.codes, num_groups, k)
    strategy = plan.get("strategy")
    indexes = load_buckets(
        catalogue.vectors,
        targets.codes,
        plan.get("buckets", {}),
        map(int, plan.get("buckets", {})),
        index_dir / BUCKETS_FOLDER,
    )
    if strategy == "bucketized":
        return BucketPool(indexes)
    first = k if strategy is None else policy.over_fetch * k
    unit = price_unit(catalogue.vectors) if policy.kind == "steered" else None
    return OverFetchPool(search, targets.codes, num_groups, k, first, indexes, unit)
