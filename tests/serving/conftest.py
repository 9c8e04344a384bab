"""A query tower as the towers room saves it, and a small catalogue."""

import pathlib
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf


class LookupTower(tf.Module):
    """`user_id` -> its vector (unknown users get zeros), plus `offset`, a numeric feature."""

    def __init__(self, user_ids: list[str], vectors: np.ndarray) -> None:
        super().__init__()
        zeros = np.zeros_like(vectors[:1])
        self.vectors = tf.Variable(np.concatenate([zeros, vectors]), dtype=tf.float32)
        rows = tf.range(1, len(user_ids) + 1, dtype=tf.int64)
        initializer = tf.lookup.KeyValueTensorInitializer(tf.constant(user_ids), rows)
        self.table = tf.lookup.StaticHashTable(initializer, 0)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.string, name="user_id"),
            tf.TensorSpec([None, None], tf.float32, name="offset"),
        ]
    )
    def serve(self, user_id: tf.Tensor, offset: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": tf.gather(self.vectors, self.table.lookup(user_id)) + offset}


@pytest.fixture
def save_query_tower(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Saves a `LookupTower` and returns its folder."""

    def save(user_ids: list[str], vectors: np.ndarray) -> pathlib.Path:
        tower = LookupTower(user_ids, np.asarray(vectors, np.float32))
        folder = tmp_path / "query_tower"
        tf.saved_model.save(tower, str(folder), signatures={"serving_default": tower.serve})
        return folder

    return save


@pytest.fixture
def save_catalogue(tmp_path: pathlib.Path) -> Callable[..., pathlib.Path]:
    """Writes an embeddings folder and returns it."""

    def save(vectors: np.ndarray, item_ids: list[str], groups: list[str]) -> pathlib.Path:
        folder = tmp_path / "embeddings"
        folder.mkdir(exist_ok=True)
        np.save(folder / "vectors.npy", np.asarray(vectors, np.float32))
        pq.write_table(pa.table({"item_id": item_ids, "group": groups}), folder / "items.parquet")
        return folder

    return save


def clustered_vectors(num: int, seed: int, dim: int = 16) -> np.ndarray:
    """Unit vectors, float32 `[num, dim]`, around 20 centres that are the same for all seeds."""
    centres = np.random.default_rng(0).normal(size=(20, dim))
    rng = np.random.default_rng(seed)
    vectors = centres[rng.integers(0, 20, num)] + 0.7 * rng.normal(size=(num, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="session")
def clustered() -> Callable[..., np.ndarray]:
    """The function `clustered_vectors`."""
    return clustered_vectors
