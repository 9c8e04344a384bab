"""The two ways to a server that speaks the TensorFlow Serving API."""

from __future__ import annotations

import base64
import dataclasses
import random
import time
import urllib.parse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

_ARM_HEADER = "x-experiment-arm"
_T = TypeVar("_T")

_CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class ServingError(RuntimeError):
    """A server did not answer a request.

    Attributes:
        code: Name of the canonical code, such as `NOT_FOUND`; over REST it is told from the
            status, which some codes share.
        message: What the server said.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclasses.dataclass(frozen=True)
class SignatureInfo:
    """What a signature takes and returns.

    Attributes:
        dtypes: Types of inputs by name, such as `DT_STRING`.
        outputs: Names.
    """

    dtypes: Mapping[str, str]
    outputs: Sequence[str]


class Transport(Protocol):
    """Asks one model of one server."""

    def predict(
        self,
        choice: Mapping[str, Any],
        signature: str,
        inputs: Mapping[str, np.ndarray],
        arm: str,
        timeout: float,
    ) -> dict[str, np.ndarray]:
        """Asks for the outputs of a signature.

        Returns:
            By name; strings are str or bytes in object arrays. The name of an only output may be
            "".
        """

    def signatures(self, choice: Mapping[str, Any], timeout: float) -> dict[str, SignatureInfo]:
        """Returns the signatures of a version by name."""

    def status(self, choice: Mapping[str, Any], timeout: float) -> list[tuple[int, str, str]]:
        """Returns number, state and error of versions."""

    def close(self) -> None:
        """Closes connections."""


class GrpcTransport:
    """Over gRPC. The generated messages import the whole of TensorFlow, once."""

    def __init__(self, address: str, model: str) -> None:
        """Opens a channel to `address`, such as `localhost:8500`."""
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)
        self._model = model
        self._error = grpc.RpcError

    def predict(
        self,
        choice: Mapping[str, Any],
        signature: str,
        inputs: Mapping[str, np.ndarray],
        arm: str,
        timeout: float,
    ) -> dict[str, np.ndarray]:
        """See `Transport`."""
        import tensorflow as tf
        from tensorflow_serving.apis import predict_pb2

        request = predict_pb2.PredictRequest()
        self._choose(request, choice)
        request.model_spec.signature_name = signature
        for name, array in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(array))
        metadata = [(_ARM_HEADER, arm)] if arm else None
        response = self._call(self._prediction.Predict, request, timeout, metadata)
        return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}

    def signatures(self, choice: Mapping[str, Any], timeout: float) -> dict[str, SignatureInfo]:
        """See `Transport`."""
        from tensorflow.core.framework import types_pb2
        from tensorflow_serving.apis import get_model_metadata_pb2

        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._choose(request, choice)
        response = self._call(self._prediction.GetModelMetadata, request, timeout)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        return {
            name: SignatureInfo(
                {n: types_pb2.DataType.Name(i.dtype) for n, i in definition.inputs.items()},
                list(definition.outputs),
            )
            for name, definition in signatures.signature_def.items()
        }

    def status(self, choice: Mapping[str, Any], timeout: float) -> list[tuple[int, str, str]]:
        """See `Transport`."""
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        self._choose(request, choice)
        response = self._call(self._models.GetModelStatus, request, timeout)
        states = get_model_status_pb2.ModelVersionStatus.State
        return [
            (v.version, states.Name(v.state), v.status.error_message)
            for v in response.model_version_status
        ]

    def close(self) -> None:
        """See `Transport`."""
        self._channel.close()

    def _choose(self, request: Any, choice: Mapping[str, Any]) -> None:
        request.model_spec.name = self._model
        if choice.get("version") is not None:
            request.model_spec.version.value = choice["version"]
        if choice.get("label") is not None:
            request.model_spec.version_label = choice["label"]

    def _call(self, method: Callable, request: Any, timeout: float, metadata: Any = None) -> Any:
        try:
            return method(request, timeout=timeout, metadata=metadata)
        except self._error as error:
            raise ServingError(error.code().name, error.details()) from error


class RestTransport:
    """Over HTTP, without TensorFlow."""

    def __init__(self, url: str, model: str) -> None:
        """Opens connections to `url`, such as `http://localhost:8501`, when they are needed."""
        import requests

        self._requests = requests
        self._session = requests.Session()
        self._model_url = f"{url.rstrip('/')}/v1/models/{urllib.parse.quote(model, safe='')}"

    def predict(
        self,
        choice: Mapping[str, Any],
        signature: str,
        inputs: Mapping[str, np.ndarray],
        arm: str,
        timeout: float,
    ) -> dict[str, np.ndarray]:
        """See `Transport`."""
        columns = {name: _plain(array) for name, array in inputs.items()}
        body = {"signature_name": signature, "inputs": columns}
        headers = {_ARM_HEADER: arm} if arm else {}
        answer = self._call("POST", choice, ":predict", timeout, json=body, headers=headers)
        outputs = answer["outputs"]
        if not isinstance(outputs, dict):
            # A signature with one output answers without its name.
            outputs = {"": outputs}
        return {name: _array(values) for name, values in outputs.items()}

    def signatures(self, choice: Mapping[str, Any], timeout: float) -> dict[str, SignatureInfo]:
        """See `Transport`."""
        answer = self._call("GET", choice, "/metadata", timeout)
        signatures = answer["metadata"]["signature_def"]["signature_def"]
        return {
            name: SignatureInfo(
                {n: i["dtype"] for n, i in definition["inputs"].items()},
                list(definition["outputs"]),
            )
            for name, definition in signatures.items()
        }

    def status(self, choice: Mapping[str, Any], timeout: float) -> list[tuple[int, str, str]]:
        """See `Transport`."""
        answer = self._call("GET", choice, "", timeout)
        return [
            (int(v["version"]), v["state"], v["status"].get("error_message", ""))
            for v in answer["model_version_status"]
        ]

    def close(self) -> None:
        """See `Transport`."""
        self._session.close()

    def _call(
        self, method: str, choice: Mapping[str, Any], end: str, timeout: float, **options: Any
    ) -> Any:
        url = self._model_url
        if choice.get("version") is not None:
            url += f"/versions/{choice['version']}"
        elif choice.get("label") is not None:
            url += f"/labels/{urllib.parse.quote(choice['label'], safe='')}"
        try:
            response = self._session.request(method, url + end, timeout=timeout, **options)
        except self._requests.Timeout as error:
            raise ServingError("DEADLINE_EXCEEDED", str(error)) from error
        except self._requests.ConnectionError as error:
            raise ServingError("UNAVAILABLE", str(error)) from error
        try:
            answer = response.json()
        except ValueError:
            answer = {"error": response.text[:1000]}
        if response.status_code != 200:
            code = _CODES.get(response.status_code, "INTERNAL")
            raise ServingError(code, str(answer.get("error", "")))
        return answer


def with_retries(call: Callable[[float], _T], timeout: float, attempts: int) -> _T:
    """Calls until the server is available, with growing pauses.

    Args:
        call: Takes the seconds that are left.
        timeout: Seconds for everything.
        attempts: At most.

    Raises:
        ServingError: The last one; of another code than `UNAVAILABLE` the first one.
    """
    deadline = time.monotonic() + timeout
    for attempt in range(1, attempts + 1):
        try:
            return call(max(deadline - time.monotonic(), 0.001))
        except ServingError as error:
            pause = 0.05 * 2**attempt * random.uniform(0.5, 1.0)
            is_last = attempt == attempts or time.monotonic() + pause >= deadline
            if error.code != "UNAVAILABLE" or is_last:
                raise
        time.sleep(pause)
    raise AssertionError("`attempts` is at least 1")


def _plain(array: np.ndarray) -> Any:
    """Nested lists for JSON; bytes that are no text go as base64."""
    if array.dtype != object:
        return array.tolist()
    return np.frompyfunc(_plain_text, 1, 1)(array).tolist() if array.size else array.tolist()


def _plain_text(value: bytes) -> Any:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _array(values: Any) -> np.ndarray:
    array = np.asarray(values)
    return array.astype(object) if array.dtype.kind == "U" else array
