"""Builds a ScaNN index that two builds of the same vectors agree on, byte for byte."""

from __future__ import annotations

import pathlib

import numpy as np
import tensorflow as tf

from serving.search import require_scann


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
    leaves = settings["leaves"]
    searcher = (
        require_scann()
        .builder(vectors, k, "dot_product")
        .tree(
            leaves,
            settings["leaves_to_search"],
            # Smaller samples leave partitions badly placed, and the default minimum of 50
            # vectors per partition would merge the small ones.
            training_sample_size=max(100_000, 125 * leaves),
            min_partition_size=10,
            # From random centres two builds of the same vectors differ, whatever the number of
            # threads; from k-means++ they are equal byte for byte.
            random_init=False,
        )
        .score_ah(2, anisotropic_quantization_threshold=0.2)
        .reorder(settings["reorder"])
        .build()
    )
    tf.saved_model.save(searcher.serialize_to_module(), str(folder))
