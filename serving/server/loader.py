"""Loads one version of a model into a session of its own, as TensorFlow Serving does."""

from __future__ import annotations

import gc
import json
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from serving.search import require_scann
from serving.server.errors import Code, StatusError, from_exception
from serving.server.signatures import Signature, read_signatures
from serving.server.tensors import from_proto

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"

_MAX_WARMUP_RECORDS = 1000
_MAX_WARMUP_BYTES = 1 << 30


class LoadedVersion:
    """A version that can be asked, on any thread.

    A session, not a function of `tf.saved_model.load`: it answers a small request in half the
    time, and it takes SavedModels of any age.

    Attributes:
        name: Of the model.
        version: Its number.
        signature_defs: As the SavedModel has them, `SignatureDef` by name.
        signatures: What a request needs of them, by name.
    """

    def __init__(
        self, name: str, version: int, session: Any, signature_defs: Mapping[str, Any]
    ) -> None:
        self.name = name
        self.version = version
        self.signature_defs = signature_defs
        self.signatures = read_signatures(signature_defs)
        self._session = session

    def run(
        self, signature: Signature, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]
    ) -> dict[str, np.ndarray]:
        """Computes outputs.

        Args:
            signature: One of this version's.
            inputs: By name; validated.
            outputs: Names.

        Returns:
            Arrays by name.

        Raises:
            StatusError: The graph raised an error.
        """
        feeds = {signature.inputs[n].graph_name: array for n, array in inputs.items()}
        fetches = {n: signature.outputs[n].graph_name for n in outputs}
        try:
            answer = self._session.run(fetches, feeds)
        except Exception as error:
            raise from_exception(error) from error
        # A scalar string is fetched as bytes.
        return {n: v if isinstance(v, np.ndarray) else np.array(v) for n, v in answer.items()}

    def close(self) -> None:
        """Frees the session and its graph; nothing may be asked after it."""
        self._session.close()
        del self._session
        # Python's graph refers to itself, and holds the names of all items until that is noticed.
        gc.collect()


def load_version(name: str, version: int, folder: pathlib.Path) -> LoadedVersion:
    """Loads a SavedModel and replays its warm-up requests.

    Args:
        name: Of the model.
        version: Its number.
        folder: The SavedModel. Without `metadata.json` it may be anybody's.

    Raises:
        StatusError: It cannot be loaded, or fails on a warm-up request.
    """
    session = None
    try:
        if _requires_scann(folder):
            require_scann()
        if not any((folder / f"saved_model.{kind}").is_file() for kind in ("pb", "pbtxt")):
            raise StatusError(
                Code.NOT_FOUND,
                "Could not find SavedModel .pb or .pbtxt at supplied export directory path: "
                f"{folder}. Check that the directory exists and that you have the right "
                "permissions for accessing it.",
            )
        session = tf.compat.v1.Session(graph=tf.Graph())
        with session.graph.as_default():
            meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(folder))
        loaded = LoadedVersion(name, version, session, dict(meta_graph.signature_def))
        _warm_up(loaded, folder / WARMUP_FILE)
    except Exception as error:
        if session is not None:
            session.close()
        raise from_exception(error) from error
    return loaded


def _requires_scann(folder: pathlib.Path) -> bool:
    try:
        metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(metadata, dict) and bool(metadata.get("requires_scann_ops"))


def _warm_up(loaded: LoadedVersion, path: pathlib.Path) -> None:
    """Replays requests, so that the first of a client is not the first of the graph."""
    from tensorflow_serving.apis import prediction_log_pb2

    if not path.is_file():
        return
    count = 0
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.WhichOneof("log_type") != "predict_log":
            raise StatusError(Code.UNIMPLEMENTED, f"{path}: only Predict requests are supported")
        count += 1
        if count > _MAX_WARMUP_RECORDS:
            raise StatusError(
                Code.INVALID_ARGUMENT,
                f"Number of warmup records exceeds the maximum ({_MAX_WARMUP_RECORDS}) at {path}",
            )
        _replay(loaded, log.predict_log.request)
    logging.getLogger(__name__).info("Replayed %d warm-up requests of %s.", count, path)


def _replay(loaded: LoadedVersion, request: Any) -> None:
    name = request.model_spec.signature_name or "serving_default"
    signature = loaded.signatures.get(name)
    if signature is None:
        raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    signature.check_names(request.inputs)
    inputs = {n: from_proto(n, proto, _MAX_WARMUP_BYTES) for n, proto in request.inputs.items()}
    signature.validate(inputs)
    loaded.run(signature, inputs, list(signature.outputs))
