"""The text formats of TensorFlow Serving's configuration files."""

from __future__ import annotations

import dataclasses
import functools
import os
import pathlib
from typing import Any

from google.protobuf import descriptor_pb2, message_factory, text_format, wrappers_pb2

from fairness_losses.errors import InvalidInputError

_Field = descriptor_pb2.FieldDescriptorProto
_PACKAGE = "fairtowers.tensorflow_serving"


@dataclasses.dataclass(frozen=True)
class Batching:
    """How requests are merged; the defaults are those of TensorFlow Serving.

    Attributes:
        max_batch_size: Rows of a batch, and of a request.
        batch_timeout_micros: How long a batch waits for more requests.
        max_enqueued_batches: Batches of one model and signature that wait for a thread.
        num_batch_threads: Batches that are computed at the same time.
        pad_variable_length_inputs: Whether requests whose inputs differ in length share a batch.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = os.cpu_count() or 1
    pad_variable_length_inputs: bool = False


def read_models_config(path: pathlib.Path) -> Any:
    """Reads a `models.config`.

    Returns:
        A `ModelServerConfig`, not validated any further.

    Raises:
        InvalidInputError: The file cannot be read, or is none.
    """
    from tensorflow_serving.config import model_server_config_pb2

    return _parse(path, model_server_config_pb2.ModelServerConfig())


def read_batching(path: pathlib.Path) -> Batching:
    """Reads a file such as `batching.config`.

    Raises:
        InvalidInputError: The file cannot be read, or has a key or value that is not known here.
    """
    parsed = _parse(path, _messages()[f"{_PACKAGE}.BatchingParameters"]())
    given = {
        field.name: getattr(value, "value", value)
        for field, value in parsed.ListFields()
        if field.name != "thread_pool_name"
    }
    for name, value in given.items():
        lowest = 0 if name == "batch_timeout_micros" else 1
        if not isinstance(value, bool) and value < lowest:
            raise InvalidInputError(
                f"{path}: `{name}` should be at least {lowest}. Received: {value}."
            )
    return Batching(**given)


def read_metrics_path(path: pathlib.Path) -> str | None:
    """Reads a file such as `monitoring.config`.

    Returns:
        Path under which metrics are published, or None if they are not.

    Raises:
        InvalidInputError: The file cannot be read, or is none.
    """
    prometheus = _parse(path, _messages()[f"{_PACKAGE}.MonitoringConfig"]()).prometheus_config
    return (prometheus.path or "/monitoring/prometheus/metrics") if prometheus.enable else None


def _parse(path: pathlib.Path, message: Any) -> Any:
    try:
        return text_format.Parse(path.read_text(encoding="utf-8"), message)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: cannot be read ({error}).") from error
    except text_format.ParseError as error:
        known = ", ".join(field.name for field in message.DESCRIPTOR.fields)
        raise InvalidInputError(
            f"{path}: is no {message.DESCRIPTOR.name} in text format: {error}. Its keys are "
            f"{known}."
        ) from error


@functools.cache
def _messages() -> dict[str, Any]:
    """Message classes for the two formats that no wheel carries.

    Sources: `session_bundle_config.proto` and `monitoring_config.proto` of TensorFlow Serving;
    the keys left out have no meaning for this server, and a file that sets them is refused.
    """
    int64, text, flag = ".google.protobuf.Int64Value", ".google.protobuf.StringValue", None
    file = descriptor_pb2.FileDescriptorProto(
        name="fairtowers/serving_configs.proto",
        package=_PACKAGE,
        syntax="proto3",
        dependency=[wrappers_pb2.DESCRIPTOR.name],
        message_type=[
            _message(
                "BatchingParameters",
                max_batch_size=int64,
                batch_timeout_micros=int64,
                max_enqueued_batches=int64,
                num_batch_threads=int64,
                thread_pool_name=text,
                pad_variable_length_inputs=flag,
            ),
            _message("PrometheusConfig", enable=flag, path="string"),
            _message("MonitoringConfig", prometheus_config=f".{_PACKAGE}.PrometheusConfig"),
        ],
    )
    wrappers = descriptor_pb2.FileDescriptorProto()
    wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
    return message_factory.GetMessages([wrappers, file])


def _message(name: str, **fields: str | None) -> Any:
    """A message with optional fields: a message type, "string", or None for a bool."""
    message = descriptor_pb2.DescriptorProto(name=name)
    for number, (field_name, kind) in enumerate(fields.items(), start=1):
        field = message.field.add(name=field_name, number=number, label=_Field.LABEL_OPTIONAL)
        if kind is None:
            field.type = _Field.TYPE_BOOL
        elif kind == "string":
            field.type = _Field.TYPE_STRING
        else:
            field.type, field.type_name = _Field.TYPE_MESSAGE, kind
    return message
