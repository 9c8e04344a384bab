"""A running server's `ModelService`: tells it what to serve, and waits until it does."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from fairness_losses.errors import InvalidInputError
from serving.models_config import Served, as_proto

_POLL = 0.1
_CALL = 10.0
"""Seconds for one call that does not wait for a model to load."""


class ModelServer:
    """Any server that speaks TensorFlow Serving's gRPC API.

    Args:
        address: `host:port`, for messages.
        channel: gRPC channel to it.
        model: Name of the model.
        timeout: Seconds in which a version should be loaded.
    """

    def __init__(self, address: str, channel: Any, model: str, timeout: float) -> None:
        from tensorflow_serving.apis import model_service_pb2_grpc

        self._address = address
        self._stub = model_service_pb2_grpc.ModelServiceStub(channel)
        self._model, self._timeout = model, timeout

    def reload(self, served: Served) -> None:
        """Tells the server what to serve; it may return before a version is loaded.

        Raises:
            InvalidInputError: The server refuses, or cannot be reached.
        """
        from tensorflow_serving.apis import model_management_pb2

        request = model_management_pb2.ReloadConfigRequest(config=as_proto(self._model, served))
        with self._in_words():
            status = self._stub.HandleReloadConfigRequest(request, timeout=self._timeout).status
        if status.error_code:
            raise InvalidInputError(
                f"{self._address}: the server refused the configuration: {status.error_message}"
            )

    def wait_until_available(self, version: int) -> None:
        """Waits until a version answers requests.

        Raises:
            InvalidInputError: It cannot be loaded, or not in time.
        """
        from tensorflow_serving.apis import get_model_status_pb2

        states = get_model_status_pb2.ModelVersionStatus
        end = time.monotonic() + self._timeout
        while True:
            state, problem = self._state(version)
            if state == states.AVAILABLE:
                return
            if state == states.END and problem:
                raise InvalidInputError(
                    f"{self._address}: the server cannot load version {version}: {problem}"
                )
            if time.monotonic() > end:
                raise InvalidInputError(
                    f"{self._address}: the server has not loaded version {version} within "
                    f"{self._timeout:g} seconds. "
                    f"{problem or 'Look at its log, or give it more --timeout.'}"
                )
            time.sleep(_POLL)

    def _state(self, version: int) -> tuple[int, str]:
        """State of a version, 0 if the server has not heard of it yet; and its error, or ""."""
        import grpc
        from tensorflow_serving.apis import get_model_status_pb2

        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = self._model
        with self._in_words():
            try:
                answer = self._stub.GetModelStatus(request, timeout=_CALL)
            except grpc.RpcError as error:
                if error.code() == grpc.StatusCode.NOT_FOUND:
                    return 0, ""
                raise
        for status in answer.model_version_status:
            if status.version == version:
                return status.state, status.status.error_message
        return 0, ""

    @contextlib.contextmanager
    def _in_words(self) -> Iterator[None]:
        import grpc

        try:
            yield
        except grpc.RpcError as error:
            raise InvalidInputError(
                f"{self._address}: the server refused: {error.code().name}, {error.details()}. Is "
                "this its gRPC port (8500, as a rule)?"
            ) from error


@contextlib.contextmanager
def connected(addresses: Sequence[str], model: str, timeout: float) -> Iterator[list[ModelServer]]:
    """Connects to the gRPC API of servers, without encryption.

    Args:
        addresses: `host:port` of each.
        model: Name of the model.
        timeout: Seconds in which a version should be loaded.
    """
    import grpc

    with contextlib.ExitStack() as stack:
        channels = [stack.enter_context(grpc.insecure_channel(a)) for a in addresses]
        both = zip(addresses, channels, strict=True)
        yield [ModelServer(address, channel, model, timeout) for address, channel in both]
