"""Requests that warm a server up, and what they were answered at the export."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from serving.retriever import (
    ALL_OTHERS,
    CONTROL_GROUPS,
    CONTROL_WEIGHTS,
    EXCLUDE_IDS,
    POLICY_KEY,
    PRICES,
)

_LISTS = ("serving_default", "relevance")


class Exchange(NamedTuple):
    """A request and its answer, tensors by name."""

    signature: str
    inputs: dict[str, tf.Tensor]
    outputs: dict[str, tf.Tensor]

    def plain(self) -> dict[str, Any]:
        """Returns JSON values."""
        return {
            "signature": self.signature,
            "inputs": {name: _plain(t) for name, t in self.inputs.items()},
            "outputs": {name: _plain(t) for name, t in self.outputs.items()},
        }


def ask_all(
    signatures: Mapping[str, Any],
    users: Mapping[str, np.ndarray],
    items: Mapping[str, np.ndarray],
) -> list[Exchange]:
    """Asks every signature, for one user or item and for all that are given.

    Controlled requests exclude what would have come first, and ask for more of its group and less
    of the others.

    Args:
        signatures: Concrete functions by name.
        users: Query features by name, each with the same first dimension.
        items: Item features by name; not looked at where no signature takes them.
    """
    exchanges: list[Exchange] = []

    def ask(signature: str, inputs: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        exchanges.append(Exchange(signature, inputs, signatures[signature](**inputs)))
        return exchanges[-1].outputs

    is_steered = "steering_prices" in signatures
    if is_steered:
        default = {POLICY_KEY: tf.constant([""])}
        start = ask("steering_prices", default)[PRICES]
    for size in (1, None):
        inputs = _inputs(signatures["query_embedding"], users, size)
        for name in _LISTS:
            lists = ask(name, inputs)
        ask("controlled", {**inputs, **_controls(lists)})
        ask("query_embedding", inputs)
        if "candidate_embedding" in signatures:
            of_items = _inputs(signatures["candidate_embedding"], items, size)
            ask("candidate_embedding", of_items)
    if is_steered:
        # Nobody has seen these lists: prices are to be as if they had not been.
        ask("set_steering_prices", {**default, PRICES: start})
    return exchanges


def write_warmup(exchanges: list[Exchange], name: str, path: pathlib.Path) -> None:
    """Writes the requests as a TensorFlow Serving binary replays them.

    Args:
        exchanges: At most 1000.
        name: Of the model.
        path: The file; its folder is made.
    """
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


def _inputs(
    signature: Any, values: Mapping[str, np.ndarray], size: int | None
) -> dict[str, tf.Tensor]:
    specs = signature.structured_input_signature[1]
    return {name: tf.constant(values[name][:size], spec.dtype) for name, spec in specs.items()}


def _controls(lists: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    first = lists["groups"][:, :1]
    return {
        POLICY_KEY: tf.fill(tf.shape(first)[:1], ""),
        EXCLUDE_IDS: lists["candidate_ids"][:, :2],
        CONTROL_GROUPS: tf.concat([first, tf.fill(tf.shape(first), ALL_OTHERS)], axis=1),
        CONTROL_WEIGHTS: tf.tile([[2.0, 0.5]], [tf.shape(first)[0], 1]),
    }


def _plain(tensor: tf.Tensor) -> list[Any]:
    values = tensor.numpy()
    if tensor.dtype == tf.string:
        values = np.char.decode(values.astype(bytes), "utf-8")
    return values.tolist()
