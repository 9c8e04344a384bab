"""A retriever of random vectors to put load on, and a request to it."""

from __future__ import annotations

import json
import pathlib

import numpy as np

NAME = "retriever"
_DIM = 64
_USERS = 1000


def export_versions(folder: pathlib.Path, num_items: int) -> pathlib.Path:
    """Exports the versions 1 and 2 of a retriever with exact search; returns the model's folder."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import tensorflow as tf

    import towers  # noqa: F401  (asks TensorFlow for Keras 2)
    from serving.config import ServingConfig
    from serving.export import export
    from serving.index import build_index

    rng = np.random.default_rng(0)
    vectors = _unit_vectors(rng, num_items)
    groups = rng.choice(["a", "b", "c", "d"], num_items, p=[0.6, 0.25, 0.1, 0.05])
    embeddings = folder / "embeddings"
    embeddings.mkdir()
    np.save(embeddings / "vectors.npy", vectors)
    items = pa.table({"item_id": [f"item {i}" for i in range(num_items)], "group": groups})
    pq.write_table(items, embeddings / "items.parquet")

    class Tower(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vectors = tf.Variable(_unit_vectors(rng, _USERS))
            keys = tf.constant([f"u{i}" for i in range(_USERS)])
            rows = tf.range(_USERS, dtype=tf.int64)
            initializer = tf.lookup.KeyValueTensorInitializer(keys, rows)
            self.table = tf.lookup.StaticHashTable(initializer, 0)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="user_id")])
        def serve(self, user_id: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"embedding": tf.gather(self.vectors, self.table.lookup(user_id))}

    tower = Tower()
    tower_dir = folder / "tower"
    tf.saved_model.save(tower, str(tower_dir), signatures={"serving_default": tower.serve})
    config = ServingConfig(name=NAME, index="exact", k=100)
    queries = _unit_vectors(rng, 10)
    build_index(vectors, groups, config, folder / "index", 0, query_vectors=queries)
    users = {"user_id": np.array([f"u{i}" for i in range(8)], dtype=object)}
    out = folder / "serving"
    for version in (1, 2):
        export(tower_dir, embeddings, folder / "index", config, out, version, {}, users)
    return out / NAME


def grpc_body() -> bytes:
    """Returns a request for one list as a serialized `PredictRequest`."""
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name = NAME
    request.inputs["user_id"].CopyFrom(tf.make_tensor_proto(["u7"]))
    return request.SerializeToString()


def rest_body() -> bytes:
    """Returns the same request as JSON."""
    return json.dumps({"instances": [{"user_id": "u7"}]}).encode()


def _unit_vectors(rng: np.random.Generator, num: int) -> np.ndarray:
    vectors = rng.normal(size=(num, _DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
