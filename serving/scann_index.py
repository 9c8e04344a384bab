"""Builds a ScaNN index that two builds of the same vectors agree on, byte for byte."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import shutil
import time
from typing import Any

import numpy as np
import tensorflow as tf

from fairness_losses.errors import InvalidInputError
from serving.config import ServingConfig
from serving.index_audit import FEWEST_LISTED
from serving.index_files import SCANN_FOLDER, TUNING_FILE
from serving.search import load_scann_search, require_scann
from serving.tuning import Point, Sample, choose, tune
from serving.whole_files import write_json

_FEWEST_ITEMS = 16  # Asymmetric hashing has 16 codewords per block to learn.
_LEAVES = (1, 2)  # In square roots of the catalogue size.


def build_scann(
    vectors: np.ndarray, k: int, settings: dict[str, int], folder: pathlib.Path
) -> None:
    """Builds a tree with asymmetric hashing and exact reordering, and saves it.

    Args:
        vectors: float32 `[num_items, dim]`.
        k: Longest list that is usual.
        settings: `leaves`, `leaves_to_search` and `reorder`, see `serving.config`.
        folder: Receives the SavedModel that `serving.search.load_scann_search` reads.
    """
    builder = configure(require_scann().builder(vectors, k, "dot_product"), settings)
    tf.saved_model.save(builder.build().serialize_to_module(), str(folder))


def configure(builder: Any, settings: dict[str, int]) -> Any:
    """Tells a builder, of ScaNN's TensorFlow ops or its Python bindings, how to build.

    Args:
        builder: What `scann_ops.builder` or `scann_ops_pybind.builder` returned.
        settings: See `build_scann`.

    Returns:
        The builder.
    """
    leaves = settings["leaves"]
    return (
        builder.tree(
            leaves,
            settings["leaves_to_search"],
            # Larger samples find little more and take as much longer; smaller ones leave partitions
            # badly placed, and the default minimum of 50 vectors would merge the small ones.
            training_sample_size=max(100_000, 50 * leaves),
            min_partition_size=10,
            # From random centres two builds of the same vectors differ, whatever the number of
            # threads; from k-means++ they are equal byte for byte.
            random_init=False,
        )
        # No other threshold found more in vectors of unit length, and in others it is all one.
        .score_ah(2, anisotropic_quantization_threshold=0.2)
        .reorder(settings["reorder"])
    )


def build_tuned(
    vectors: np.ndarray,
    group_labels: np.ndarray,
    config: ServingConfig,
    sample: Sample,
    out_dir: pathlib.Path,
) -> tuple[dict[str, int], float]:
    """Builds the index whose settings reach the recall target at the least cost.

    Args:
        vectors: float32 `[num_items, dim]`.
        group_labels: Group of every item, string `[num_items]`.
        config: `recall_target`, and `leaves` if they are given.
        sample: Queries to try settings on, with lists of the length k.
        out_dir: Receives the folder `scann` and `tuning.json`: `target`, `num_queries`, `chosen`
            and `why`, `reached`, `build_seconds` and `tuning_seconds`, and `points`, everything
            that was tried, see `serving.tuning.Point`.

    Returns:
        `leaves`, `leaves_to_search` and `reorder`, and the seconds that building took.

    Raises:
        InvalidInputError: The settings do not fit the catalogue, or ScaNN is not to be had.
    """
    num_items, k = len(vectors), sample.exact.shape[1]
    given = [config.leaves] if config.leaves else [round(f * num_items**0.5) for f in _LEAVES]
    trees = [
        _check({"leaves": leaves, "leaves_to_search": 1, "reorder": k}, num_items, k)
        for leaves in given
    ]
    points: list[Point] = []
    build_seconds, start = 0.0, time.monotonic()
    for tree in trees:
        built = time.monotonic()
        build_scann(vectors, k, tree, _tree_folder(out_dir, tree))
        build_seconds += time.monotonic() - built
        search = load_scann_search(_tree_folder(out_dir, tree), num_items, tree)
        points += tune(search, sample, group_labels, config.recall_target, points)
        del search  # It holds the whole index.
    best = choose(points)
    _tree_folder(out_dir, best.settings).rename(out_dir / SCANN_FOLDER)
    for tree in trees:
        shutil.rmtree(_tree_folder(out_dir, tree), ignore_errors=True)
    num_reached = sum(point.reached for point in points)
    report = {
        "target": config.recall_target,
        "fewest_listed": FEWEST_LISTED,
        "num_queries": len(sample.queries),
        "chosen": best.settings,
        "reached": best.reached,
        "why": f"the least modelled cost of the {num_reached} settings that reach the target"
        if best.reached
        else "no setting reaches the target; this one misses it by least",
        "build_seconds": round(build_seconds, 3),
        "tuning_seconds": round(time.monotonic() - start - build_seconds, 3),
        "points": [dataclasses.asdict(point) for point in points],
    }
    write_json(report, out_dir / TUNING_FILE)
    return best.settings, build_seconds


def given_settings(config: ServingConfig, num_items: int) -> dict[str, int]:
    """Returns the settings where nothing is to be tried; what is not given, has a default.

    Args:
        config: `leaves`, `leaves_to_search`, `reorder` and `k`.
        num_items: Size of the catalogue.

    Returns:
        `leaves`, `leaves_to_search` and `reorder`.

    Raises:
        InvalidInputError: They do not fit each other or the catalogue.
    """
    k = min(config.k, num_items)
    leaves = config.leaves or round(math.sqrt(num_items))
    settings = {
        "leaves": leaves,
        "leaves_to_search": config.leaves_to_search or min(max(10, leaves // 10), leaves),
        "reorder": config.reorder or 10 * k,
    }
    return _check(settings, num_items, k)


def _tree_folder(out_dir: pathlib.Path, settings: dict[str, int]) -> pathlib.Path:
    return out_dir / f"{SCANN_FOLDER}-{settings['leaves']}"


def _check(settings: dict[str, int], num_items: int, k: int) -> dict[str, int]:
    """Refuses what ScaNN would silently bend."""
    leaves, reorder = settings["leaves"], settings["reorder"]
    if num_items < _FEWEST_ITEMS:
        raise InvalidInputError(
            f"`serving.index: scann` needs at least {_FEWEST_ITEMS} items. Received: "
            f"{num_items}. Set `serving.index: exact`."
        )
    if leaves > num_items:
        raise InvalidInputError(
            f"`serving.leaves` should be at most the number of items, {num_items}. Received: "
            f"{leaves}."
        )
    if settings["leaves_to_search"] > leaves:
        raise InvalidInputError(
            f"`serving.leaves_to_search` should be at most `serving.leaves`, here {leaves}. "
            f"Received: {settings['leaves_to_search']}."
        )
    if reorder < k:
        raise InvalidInputError(
            f"`serving.reorder` should be at least `serving.k`, here {k}: ScaNN returns no more "
            f"candidates than it reorders. Received: {reorder}."
        )
    return settings
