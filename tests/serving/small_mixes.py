"""Mixes of small catalogues, with exact search behind every pool of candidates."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fairness_losses.config import TargetConfig
from serving.mix.config import PolicyConfig
from serving.mix.mix import CandidateMix
from serving.mix.over_fetch import OverFetchPool
from serving.mix.pools import BucketPool, ExactPool, GroupIndex, Pool
from serving.mix.targets import Targets, resolve_targets
from serving.search import ExactSearch


def mix_of(
    vectors: Any,
    groups: Sequence[str] | np.ndarray,
    k: int,
    target: dict[str, float] | None = None,
    pool: str = "exact",
    **policy: Any,
) -> CandidateMix:
    """A mix by a policy; `target` maps groups to shares, `hybrid` has an index of the rarest."""
    vectors = np.asarray(vectors, np.float32)
    config = PolicyConfig(**policy)
    wanted = TargetConfig(kind="explicit", shares=target) if target else TargetConfig()
    targets = resolve_targets(np.array(groups), config, wanted)
    variable = tf.Variable(vectors) if config.diversify == "dpp" else None
    search = ExactSearch(vectors)
    candidates = _pool(pool, search, vectors, targets, k)
    return CandidateMix(config, targets, search, candidates, k, vectors=variable)


def _pool(name: str, search: ExactSearch, vectors: np.ndarray, targets: Targets, k: int) -> Pool:
    num_groups = len(targets.labels)
    if name == "exact":
        return ExactPool(search, targets.codes, num_groups, k)

    def index(group: int) -> GroupIndex:
        rows = np.flatnonzero(targets.codes == group)
        return GroupIndex(ExactSearch(vectors[rows]), rows, len(vectors))

    if name == "bucketized":
        return BucketPool({g: index(g) for g in range(num_groups)})
    rarest = int(np.bincount(targets.codes).argmin())
    own = {rarest: index(rarest)} if name == "hybrid" else {}
    return OverFetchPool(search, targets.codes, num_groups, k, k, own)
