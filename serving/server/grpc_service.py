"""The gRPC API: `PredictionService` and `ModelService` of TensorFlow Serving, and health."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1._async import HealthServicer
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.server.config import ServerConfig
from serving.server.errors import Code, StatusError, invalid
from serving.server.predict import (
    ARM_HEADER,
    Predictor,
    classify_or_regress_error,
    grpc_signature,
)
from serving.server.signatures import CLASSIFY, REGRESS
from serving.server.tensors import from_proto, to_proto
from serving.server.versions import VersionManager

_CODES = {code.value[0]: code for code in grpc.StatusCode}


def make_grpc_server(predictor: Predictor, config: ServerConfig) -> tuple[Any, HealthServicer, int]:
    """Makes a server that listens but was not started.

    Returns:
        The server, its health service, and its port.

    Raises:
        RuntimeError: The port cannot be listened on.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.max_receive_message_length", config.max_request_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.max_allowed_incoming_connections", config.max_connections),
            # A peer that says nothing of HTTP/2 is closed after this time.
            ("grpc.server_handshake_timeout_ms", int(config.idle_seconds * 1000)),
            # Otherwise a second server on the same port would take half of its requests.
            ("grpc.so_reuseport", 0),
        ],
        maximum_concurrent_rpcs=config.max_requests_at_once,
    )
    health = HealthServicer()
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
        PredictionService(predictor, config.max_request_bytes), server
    )
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(
        ModelService(predictor.versions), server
    )
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    return server, health, server.add_insecure_port(f"{config.host}:{config.grpc_port}")


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """`Predict` and `GetModelMetadata`; the rest answers why not."""

    def __init__(self, predictor: Predictor, max_bytes: int) -> None:
        """Initialises the service; `max_bytes` bounds an input."""
        self._predictor = predictor
        self._max_bytes = max_bytes

    async def Predict(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answers a `PredictRequest`."""
        spec = request.model_spec
        async with _answering(context):
            with self._predictor.measured(spec.name, "GRPC"):
                if not request.HasField("model_spec"):
                    raise invalid("Missing ModelSpec")
                return await self._predict(request, spec, context)

    async def _predict(self, request: Any, spec: Any, context: Any) -> Any:
        arm = next((v for k, v in context.invocation_metadata() if k == ARM_HEADER), "")
        with self._predictor.versions.borrow(**_choice(spec)) as servable:
            signature = grpc_signature(servable, spec.signature_name)
            signature.check_names(request.inputs)
            inputs = {n: from_proto(n, p, self._max_bytes) for n, p in request.inputs.items()}
            outputs = await self._predictor.predict(
                servable, signature, inputs, request.output_filter, arm
            )
            response = predict_pb2.PredictResponse()
            response.model_spec.name = servable.name
            response.model_spec.version.value = servable.version
            response.model_spec.signature_name = signature.name
            for name, array in outputs.items():
                response.outputs[name].CopyFrom(to_proto(array))
            return response

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answers with the signatures of a version."""
        async with _answering(context):
            if not request.HasField("model_spec"):
                raise invalid("Missing ModelSpec")
            return metadata(self._predictor.versions, request)

    async def Classify(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answers with an error."""
        async with _answering(context):
            self._refuse(request.model_spec, CLASSIFY)

    async def Regress(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answers with an error."""
        async with _answering(context):
            self._refuse(request.model_spec, REGRESS)

    async def MultiInference(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answers with an error."""
        async with _answering(context):
            if not request.tasks:
                raise invalid("Inference request must have at least one task")
            for task in request.tasks:
                if task.method_name not in (CLASSIFY, REGRESS):
                    raise StatusError(
                        Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
                    )
                self._refuse(task.model_spec, task.method_name)

    def _refuse(self, spec: Any, method: str) -> None:
        with self._predictor.versions.borrow(**_choice(spec)) as servable:
            raise classify_or_regress_error(servable, spec.signature_name, method)


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """Status of models, and new configurations."""

    def __init__(self, versions: VersionManager) -> None:
        """Initialises the service."""
        self._versions = versions

    async def GetModelStatus(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answers with the state of versions."""
        async with _answering(context):
            if not request.HasField("model_spec"):
                raise invalid("Missing ModelSpec")
            return status(self._versions, **_choice(request.model_spec))

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Takes over a configuration, and answers when its models are available."""
        async with _answering(context):
            await self._versions.reload(request.config)
            return model_management_pb2.ReloadConfigResponse()


def status(
    versions: VersionManager, name: str, version: int | None = None, label: str | None = None
) -> Any:
    """Returns a `GetModelStatusResponse`.

    Raises:
        StatusError: There is no such model or version.
    """
    response = get_model_status_pb2.GetModelStatusResponse()
    for number, entry in versions.statuses(name, version, label).items():
        item = response.model_version_status.add(version=number, state=int(entry.state))
        item.status.SetInParent()
        if entry.error is not None:
            item.status.error_code = entry.error.code.number
            item.status.error_message = entry.error.message
    return response


def metadata(versions: VersionManager, request: Any) -> Any:
    """Returns a `GetModelMetadataResponse` for a request of this kind.

    Raises:
        StatusError: There is no such version, or something else than signatures is asked for.
    """
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    for field in request.metadata_field:
        if field != "signature_def":
            raise invalid(f"Metadata field {field} is not supported")
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    with versions.borrow(**_choice(request.model_spec)) as servable:
        response.model_spec.name = servable.name
        response.model_spec.version.value = servable.version
        signatures = get_model_metadata_pb2.SignatureDefMap()
        for name, definition in servable.signature_defs.items():
            signatures.signature_def[name].CopyFrom(definition)
        response.metadata["signature_def"].Pack(signatures)
    return response


def _choice(spec: Any) -> dict[str, Any]:
    """Arguments of `VersionManager.borrow` for a `ModelSpec`."""
    kind = spec.WhichOneof("version_choice")
    return {
        "name": spec.name,
        "version": spec.version.value if kind == "version" else None,
        "label": spec.version_label if kind == "version_label" else None,
    }


@contextlib.asynccontextmanager
async def _answering(context: Any) -> AsyncIterator[None]:
    """Sends errors with their code; a fault of the server's own is logged, not shown."""
    try:
        yield
    except StatusError as error:
        await context.abort(_CODES[error.code.number], error.message)
    except grpc.aio.AbortError:
        raise
    except Exception:
        logging.getLogger(__name__).exception("A request failed.")
        await context.abort(grpc.StatusCode.INTERNAL, "The server failed; see its log")
