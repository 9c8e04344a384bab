"""From vectors to lists: the index and candidate mix that an export holds."""

from __future__ import annotations

import pathlib

import numpy as np
import tensorflow as tf

from pipelines.simulation.config import ArmConfig
from pipelines.simulation.learning import Vectors
from serving.catalogue import Catalogue
from serving.config import ServingConfig
from serving.index import build_index
from serving.mix.mix import Controls
from serving.mix.plan import index_queries, index_vectors, load_mix, plan_mix

_LISTS_AT_ONCE = 100
"""Requests that are answered together: prices move between such batches."""


def make_lists(
    arm: ArmConfig,
    k: int,
    vectors: Vectors,
    item_ids: np.ndarray,
    groups: np.ndarray,
    seen: np.ndarray,
    order: np.ndarray,
    folder: pathlib.Path,
    seed: int,
) -> np.ndarray:
    """Makes one list for every user.

    Args:
        arm: With the policy.
        k: Length of the lists.
        vectors: Of the users and of the items that are there.
        item_ids: Of these items, string `[num_items]`.
        groups: Their stated groups, string `[num_items]`.
        seen: int32 `[num_users, n]`, rows of the items that a user's list leaves out, -1 for none.
        order: In which users ask, int `[num_users]`.
        folder: For the index; what it held is lost.
        seed: Of the sample of queries that starting prices are found on.

    Returns:
        Rows of the items, int32 `[num_users, k]`, -1 where a list is short.
    """
    config = ServingConfig(k=k, index="exact", policy=arm.policy)
    build_index(
        index_vectors(vectors.items, groups, arm.policy),
        groups,
        config,
        folder,
        seed,
        query_vectors=index_queries(vectors.users, groups, arm.policy),
    )
    if arm.policy.kind != "relevance":
        plan_mix(
            vectors.items,
            groups,
            config,
            folder,
            seed,
            target=arm.fairness.target,
            query_vectors=vectors.users,
        )
    mix, *_ = load_mix(folder, Catalogue(vectors.items, item_ids, groups), config)
    lists = np.full((len(vectors.users), k), -1, np.int32)
    for users in np.array_split(order, -(-len(order) // _LISTS_AT_ONCE)):
        row = tf.zeros([len(users)], tf.int32)
        controls = Controls(row, tf.constant(seen[users], tf.int32), None)
        found, _ = mix.controlled(tf.constant(vectors.users[users]), controls)
        if mix.prices is not None:
            mix.prices.observe(row, mix.codes_of(found), tf.ones_like(row, tf.bool))
        lists[users, : found.shape[1]] = found.numpy()
    return lists
