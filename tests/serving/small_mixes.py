"""Mixes of catalogues small enough to compare with every list."""

from typing import Any

import numpy as np
import tensorflow as tf

from fairness_losses.config import TargetConfig
from serving.mix.config import PolicyConfig
from serving.mix.mix import CandidateMix
from serving.mix.pools import ExactPool
from serving.mix.targets import resolve_targets
from serving.search import ExactSearch


def exact_mix(
    vectors: Any, groups: list[str], k: int, target: dict[str, float] | None = None, **policy: Any
) -> CandidateMix:
    """A mix that compares with every item; `target` maps groups to shares."""
    config = PolicyConfig(**policy)
    wanted = TargetConfig(kind="explicit", shares=target) if target else TargetConfig()
    targets = resolve_targets(np.array(groups), config, wanted)
    search = ExactSearch(vectors)
    variable = tf.Variable(vectors, dtype=tf.float32) if config.diversify == "dpp" else None
    pool = ExactPool(search, targets.codes, len(targets.labels))
    return CandidateMix(config, targets, search, pool, k, vectors=variable)
