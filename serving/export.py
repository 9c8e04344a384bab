"""Writes the retriever as a versioned SavedModel for TensorFlow Serving.

An exact retriever runs on a stock server: its graph has core TensorFlow ops only. One with a ScaNN
index needs a server that has ScaNN's ops linked in, which the published images have not;
`requires_scann_ops` in `metadata.json` says which it is.

    <name>/
      models.config batching.config monitoring.config versions.json
      deploy/                                     Docker Compose, Kubernetes, ScaNN's image
      <version>/
        saved_model.pb variables/
        assets.extra/tf_serving_warmup_requests   replayed by the server before it takes requests
        expected.json                             their answers, see `serving.check`
        metadata.json
"""

from __future__ import annotations

import json
import pathlib
import shutil
from typing import Any

import numpy as np
import tensorflow as tf

from serving.catalogue import load_catalogue
from serving.check import EXPECTED_FILE
from serving.config import ServingConfig
from serving.index import load_index
from serving.publication import publish
from serving.retriever import EXCLUDE_IDS, METADATA_FILE, POLICY, Retriever

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"


def export(
    query_tower_dir: pathlib.Path,
    embeddings_dir: pathlib.Path,
    index_dir: pathlib.Path,
    config: ServingConfig,
    out_dir: pathlib.Path,
    version: int,
    provenance: dict[str, Any],
    warmup_features: dict[str, np.ndarray],
) -> pathlib.Path:
    """Exports one version of the retriever, complete or not at all, and tells servers of it.

    See `serving.versions.add_version` for what they are told.

    Args:
        query_tower_dir: SavedModel of the query tower.
        embeddings_dir: `vectors.npy` and `items.parquet`.
        index_dir: What `build_index` wrote for these vectors.
        config: Name and k.
        out_dir: Receives `<name>/<version>/`; the same version from before is replaced.
        version: Number of the version, at least 1.
        provenance: Where the model comes from; JSON, kept in `metadata.json`.
        warmup_features: Query features of a few real users, by name, each with the same first
            dimension. Asked once for all of them and once for the first alone.

    Returns:
        The folder of the version.

    Raises:
        InvalidInputError: The index does not belong to the vectors, or needs ScaNN where there
            is none.
    """
    model_dir = pathlib.Path(out_dir) / config.name
    incomplete = model_dir / f".incomplete-{version}"
    shutil.rmtree(incomplete, ignore_errors=True)
    write_version(
        query_tower_dir,
        embeddings_dir,
        index_dir,
        config,
        incomplete,
        version,
        provenance,
        warmup_features,
    )
    version_dir = model_dir / str(version)
    shutil.rmtree(version_dir, ignore_errors=True)
    incomplete.rename(version_dir)
    publish(version_dir)
    return version_dir


def write_version(
    query_tower_dir: pathlib.Path,
    embeddings_dir: pathlib.Path,
    index_dir: pathlib.Path,
    config: ServingConfig,
    folder: pathlib.Path,
    version: int,
    provenance: dict[str, Any],
    warmup_features: dict[str, np.ndarray],
) -> None:
    """Writes the content of one version into a folder that no server looks at yet.

    The arguments are those of `export`, which see; `folder` takes the place of `out_dir`.
    """
    catalogue = load_catalogue(pathlib.Path(embeddings_dir))
    search, index = load_index(pathlib.Path(index_dir), catalogue.vectors)
    query_tower = tf.saved_model.load(str(query_tower_dir))
    model_version = f"{config.name}/{version}"
    retriever = Retriever(
        query_tower, search, catalogue.item_ids, catalogue.groups, config.k, model_version
    )
    signatures = retriever.make_signatures()
    tf.saved_model.save(retriever, str(folder), signatures=signatures)
    exchanges = _ask(signatures, warmup_features)
    _write_warmup(exchanges, config.name, folder / WARMUP_FILE)
    _write_json([_plain_exchange(*e) for e in exchanges], folder / EXPECTED_FILE)
    metadata = {
        "name": config.name,
        "version": version,
        "model_version": model_version,
        "policy": POLICY,
        "k": retriever.k,
        "groups": sorted(set(catalogue.groups)),
        "index": index,
        "requires_scann_ops": index["kind"] == "scann",
        "signatures": {name: _describe(f) for name, f in signatures.items()},
        "provenance": provenance,
    }
    _write_json(metadata, folder / METADATA_FILE)


_Exchange = tuple[str, dict[str, tf.Tensor], dict[str, tf.Tensor]]


def _ask(signatures: dict[str, Any], features: dict[str, np.ndarray]) -> list[_Exchange]:
    """Asks for all users and for one; excludes what would have come first."""
    specs = signatures["serving_default"].structured_input_signature[1]
    exchanges = []
    for size in (1, None):
        inputs = {n: tf.constant(features[n][:size], s.dtype) for n, s in specs.items()}
        lists = signatures["serving_default"](**inputs)
        excluding = {**inputs, EXCLUDE_IDS: lists["candidate_ids"][:, :2]}
        exchanges += [
            ("serving_default", inputs, lists),
            ("excluding", excluding, signatures["excluding"](**excluding)),
            ("query_embedding", inputs, signatures["query_embedding"](**inputs)),
        ]
    return exchanges


def _write_warmup(exchanges: list[_Exchange], name: str, path: pathlib.Path) -> None:
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for signature, inputs, _ in exchanges:
            request = predict_pb2.PredictRequest()
            request.model_spec.name = name
            request.model_spec.signature_name = signature
            for key, value in inputs.items():
                request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictLog(request=request)
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString())


def _plain_exchange(
    signature: str, inputs: dict[str, tf.Tensor], outputs: dict[str, tf.Tensor]
) -> dict[str, Any]:
    return {
        "signature": signature,
        "inputs": {name: _plain(t) for name, t in inputs.items()},
        "outputs": {name: _plain(t) for name, t in outputs.items()},
    }


def _plain(tensor: tf.Tensor) -> list[Any]:
    values = tensor.numpy()
    if tensor.dtype == tf.string:
        values = np.char.decode(values.astype(bytes), "utf-8")
    return values.tolist()


def _describe(function: Any) -> dict[str, Any]:
    """Types and shapes of a signature's inputs and outputs; -1 is a free dimension."""

    def describe(tensors: dict[str, Any]) -> dict[str, Any]:
        return {
            name: {
                "dtype": t.dtype.name,
                "shape": [-1 if n is None else n for n in t.shape.as_list()],
            }
            for name, t in sorted(tensors.items())
        }

    return {
        "inputs": describe(function.structured_input_signature[1]),
        "outputs": describe(function.structured_outputs),
    }


def _write_json(value: Any, path: pathlib.Path) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
