"""Asks a server over gRPC."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from serving.transports import ARM_HEADER, ServingError, SignatureInfo


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
        metadata = [(ARM_HEADER, arm)] if arm else None
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
