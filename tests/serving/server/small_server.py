"""Small models of ours and of somebody else, and a server of them in this process."""

import asyncio
import contextlib
import pathlib
import threading
from collections.abc import Iterator

import grpc
import numpy as np
import requests
import tensorflow as tf
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from serving.server.app import ModelServer
from serving.server.config import ServerConfig
from serving.server.files import Files

K = 3


def spec(shape: list, dtype: tf.DType, name: str) -> tf.TensorSpec:
    return tf.TensorSpec(shape, dtype, name=name)


USER = spec([None], tf.string, "user_id")
OFFSET = spec([None, None], tf.float32, "offset")
EXCLUDE = spec([None, None], tf.string, "exclude_ids")
POLICY_KEY = spec([None], tf.string, "policy_key")
GROUPS = spec([None, None], tf.string, "control_groups")
WEIGHTS = spec([None, None], tf.float32, "control_weights")


class ListModel(tf.Module):
    """Signatures as an exported retriever has them; lists say what the request said."""

    def __init__(self, version: int) -> None:
        super().__init__()
        self.version = tf.Variable(f"lists/{version}", trainable=False)

    def lists(self, user_id: tf.Tensor, scores: tf.Tensor, policy: tf.Tensor) -> dict:
        ranks = tf.strings.as_string(tf.range(K))
        return {
            "candidate_ids": user_id[:, None] + ":" + ranks[None],
            "scores": scores,
            "groups": tf.fill([tf.shape(user_id)[0], K], "gruppe ä"),
            "policy": policy,
            "model_version": tf.fill(tf.shape(user_id), self.version),
        }

    @tf.function(input_signature=[USER, OFFSET])
    def serve(self, user_id: tf.Tensor, offset: tf.Tensor) -> dict:
        total = tf.reduce_sum(offset, axis=1, keepdims=True)
        scores = total / tf.range(1, K + 1, dtype=tf.float32)
        return self.lists(user_id, scores, tf.fill(tf.shape(user_id), "relevance"))

    @tf.function(input_signature=[USER, OFFSET, POLICY_KEY, EXCLUDE, GROUPS, WEIGHTS])
    def controlled(self, user_id, offset, policy_key, exclude_ids, control_groups, control_weights):
        joined = tf.strings.reduce_join(control_groups, axis=1, separator="+")
        weight = tf.reduce_max(control_weights, axis=1, keepdims=True)
        short = tf.fill([tf.shape(user_id)[0], 1], -float("inf"))
        scores = tf.concat([tf.repeat(weight, K - 1, axis=1), short], axis=1)
        excluded = tf.strings.reduce_join(exclude_ids, axis=1, separator="+")
        return self.lists(user_id, scores, policy_key + "|" + joined + "|" + excluded)

    @tf.function(input_signature=[USER, OFFSET])
    def embed(self, user_id: tf.Tensor, offset: tf.Tensor) -> dict:
        return {"embedding": tf.concat([offset[:, :1], tf.zeros_like(offset[:, :1])], axis=1)}


class PlainModel(tf.Module):
    """A SavedModel of anybody: one plain input, and types that lists do not have."""

    @tf.function(input_signature=[spec([None], tf.float32, "x")])
    def half_plus_two(self, x: tf.Tensor) -> dict:
        return {"y": x / 2 + 2}

    @tf.function(input_signature=[spec([None], tf.int64, "n"), spec([None], tf.bool, "is_odd")])
    def types(self, n: tf.Tensor, is_odd: tf.Tensor) -> dict:
        text = tf.strings.as_string(n)
        fraction = tf.cast(n, tf.float32) / tf.cast(n - 7, tf.float32)
        return {"n": n, "same": is_odd == (n % 2 == 1), "raw_bytes": text, "f": fraction}

    @tf.function(input_signature=[spec([None], tf.float32, "x")])
    def no_negative(self, x: tf.Tensor) -> dict:
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, "x is negative")]):
            return {"y": tf.sqrt(x)}

    @tf.function(input_signature=[spec([], tf.float32, "x")])
    def scalar(self, x: tf.Tensor) -> dict:
        return {"y": x * 2}


def save_lists(base: pathlib.Path, version: int, warmup: bool = False) -> pathlib.Path:
    """Saves a `ListModel` as a version; returns its folder."""
    model, incomplete = ListModel(version), base / f".incomplete-{version}"
    signatures = {
        "serving_default": model.serve,
        "controlled": model.controlled,
        "query_embedding": model.embed,
    }
    tf.saved_model.save(model, str(incomplete), signatures=signatures)
    if warmup:
        (incomplete / "assets.extra").mkdir()
        path = incomplete / "assets.extra" / "tf_serving_warmup_requests"
        request = predict_request("lists", user_id=["u"], offset=np.zeros([1, 1], np.float32))
        log = prediction_log_pb2.PredictLog(request=request)
        with tf.io.TFRecordWriter(str(path)) as writer:
            record = prediction_log_pb2.PredictionLog(predict_log=log)
            writer.write(record.SerializeToString())
    folder = base / str(version)
    incomplete.rename(folder)
    return folder


def save_plain(base: pathlib.Path, version: int) -> pathlib.Path:
    model, folder = PlainModel(), base / str(version)
    signatures = {
        "serving_default": model.half_plus_two,
        "types": model.types,
        "no_negative": model.no_negative,
        "scalar": model.scalar,
    }
    tf.saved_model.save(model, str(folder), signatures=signatures)
    return folder


def predict_request(model: str, signature: str = "", **inputs) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def model_config(name: str, policy: str = "", labels: dict | None = None) -> str:
    """The text of one model in a `models.config`."""
    label_text = "".join(
        f'version_labels {{ key: "{k}" value: {v} }}\n' for k, v in (labels or {}).items()
    )
    return (
        f'config {{ name: "{name}" base_path: "/models/{name}" model_platform: "tensorflow"\n'
        f"{policy}\n{label_text} }}"
    )


def models_config(*models: str) -> str:
    return "model_config_list {\n" + "\n".join(models) + "\n}\n"


class Running:
    """A server on a thread, and ways to ask it."""

    def __init__(self, server: ModelServer, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self.loop = loop
        self.url = f"http://127.0.0.1:{server.rest_port}"
        self.address = f"127.0.0.1:{server.grpc_port}"
        self.channel = grpc.insecure_channel(self.address)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        self.session = requests.Session()

    def get(self, path: str) -> requests.Response:
        return self.session.get(self.url + path, timeout=20)

    def post(self, path: str, **options) -> requests.Response:
        return self.session.post(self.url + path, timeout=20, **options)

    def call(self, coroutine):
        """Runs a coroutine on the server's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def look_for_versions(self) -> None:
        """What the server does every `poll_seconds`, now."""

        async def look() -> None:
            self.server._read_again()
            await self.server._versions.apply()

        self.call(look())

    def wait_until_unloaded(self) -> None:
        """Returns when the versions that nobody wants have freed what they held."""

        async def wait() -> None:
            await asyncio.gather(*self.server._versions._unloading)

        self.call(wait())


@contextlib.contextmanager
def run_server(files: Files, log=None, **settings) -> Iterator[Running]:
    """Runs a server on free ports until the block is left; it polls when told to."""
    defaults = {"grpc_port": 0, "rest_port": 0, "poll_seconds": 1e6, "drain_seconds": 20}
    server = ModelServer(files, ServerConfig(**{**defaults, **settings}), log)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(server.start(), loop).result(60)
        running = Running(server, loop)
        yield running
        running.channel.close()
        if server.is_ready():
            running.call(server.stop())
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


BATCHING = """\
max_batch_size { value: 64 }
batch_timeout_micros { value: 2000 }
max_enqueued_batches { value: 100 }
num_batch_threads { value: 2 }
pad_variable_length_inputs: true
"""
MONITORING = 'prometheus_config { enable: true path: "/monitoring/prometheus/metrics" }'


def make_files(root: pathlib.Path, models: str, batching: bool = True) -> Files:
    """Writes the configuration files into `root`, which holds the models too."""
    (root / "models.config").write_text(models)
    (root / "batching.config").write_text(BATCHING)
    (root / "monitoring.config").write_text(MONITORING)
    batching_file = root / "batching.config" if batching else None
    return Files(root / "models.config", batching_file, root / "monitoring.config", root)
