"""Tensors of requests and answers as arrays."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.server.errors import invalid


class _Kind(NamedTuple):
    field: str
    numpy: Any
    item_bytes: int


# Where a `TensorProto` keeps the values of a type, by its number. Types that are not listed are
# left to TensorFlow, which is slower.
_KINDS = {
    dtype.as_datatype_enum: _Kind(
        field, dtype.as_numpy_dtype, np.dtype(dtype.as_numpy_dtype).itemsize
    )
    for field, dtypes in {
        "float_val": [tf.float32],
        "double_val": [tf.float64],
        "int_val": [tf.int32, tf.int16, tf.int8, tf.uint8],
        "int64_val": [tf.int64],
        "uint32_val": [tf.uint32],
        "uint64_val": [tf.uint64],
        "bool_val": [tf.bool],
        "string_val": [tf.string],
    }.items()
    for dtype in dtypes
}
_NUMBERS = {np.dtype(kind.numpy): number for number, kind in _KINDS.items()}
_STRING = tf.string.as_datatype_enum
_LARGEST_ITEM_BYTES = 16


def from_proto(name: str, proto: Any, max_bytes: int) -> np.ndarray:
    """Reads a tensor of a request.

    As TensorFlow does, the last value is repeated where there are fewer than the shape asks for;
    so a few bytes may stand for any size.

    Args:
        name: Of the input, for the message.
        proto: `TensorProto`.
        max_bytes: Largest size as an array.

    Raises:
        StatusError: Shape and values do not belong together, or the tensor is too large.
    """
    shape = [d.size for d in proto.tensor_shape.dim]
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise invalid(f"tensor parsing error: {name}")
    kind = _KINDS.get(proto.dtype)
    size = math.prod(shape)
    if size * (kind.item_bytes if kind else _LARGEST_ITEM_BYTES) > max_bytes:
        raise invalid(
            f"tensor parsing error: {name}: the shape {shape} has more than the "
            f"{max_bytes} bytes that this server allows for an input"
        )
    if kind is None or (proto.dtype == _STRING and proto.tensor_content):
        return _with_tensorflow(name, proto)
    if proto.tensor_content:
        if len(proto.tensor_content) != size * kind.item_bytes:
            raise invalid(f"tensor parsing error: {name}")
        return np.frombuffer(proto.tensor_content, kind.numpy).reshape(shape)
    given = list(getattr(proto, kind.field)[:size])
    if len(given) < size:
        default = b"" if proto.dtype == _STRING else 0
        given += [given[-1] if given else default] * (size - len(given))
    try:
        return np.array(given, kind.numpy).reshape(shape)
    except OverflowError:
        raise invalid(f"tensor parsing error: {name}") from None


def to_proto(array: np.ndarray) -> Any:
    """Writes a tensor of an answer, values in the field of their type as TensorFlow Serving does.

    Args:
        array: Strings are bytes in an object array.
    """
    number = _NUMBERS.get(array.dtype)
    if number is None:
        return tf.make_tensor_proto(array)
    proto = tensor_pb2.TensorProto(dtype=number)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, _KINDS[number].field).extend(array.ravel().tolist())
    return proto


def _with_tensorflow(name: str, proto: Any) -> np.ndarray:
    try:
        return tf.io.parse_tensor(proto.SerializeToString(), tf.as_dtype(proto.dtype)).numpy()
    except (tf.errors.OpError, TypeError, ValueError):
        raise invalid(f"tensor parsing error: {name}") from None
