"""Tensors of requests and answers as arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2

from serving.server.errors import invalid

# Where a `TensorProto` keeps the values of a type. Types that are not listed are left to
# TensorFlow, which is slower.
_VALUES = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int16: "int_val",
    tf.int8: "int_val",
    tf.uint8: "int_val",
    tf.int64: "int64_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
}


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
    try:
        dtype = tf.as_dtype(proto.dtype)
        item_bytes = max(dtype.size, 1)
    except TypeError:
        raise invalid(f"tensor parsing error: {name}") from None
    if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0:
        raise invalid(f"tensor parsing error: {name}")
    size = math.prod(shape)
    if size * item_bytes > max_bytes:
        raise invalid(
            f"tensor parsing error: {name}: the shape {shape} has more than the "
            f"{max_bytes} bytes that this server allows for an input"
        )
    if dtype not in _VALUES or (dtype == tf.string and proto.tensor_content):
        return _with_tensorflow(name, proto, dtype)
    if proto.tensor_content:
        if len(proto.tensor_content) != size * item_bytes:
            raise invalid(f"tensor parsing error: {name}")
        return np.frombuffer(proto.tensor_content, dtype.as_numpy_dtype).reshape(shape)
    given = list(getattr(proto, _VALUES[dtype])[:size])
    try:
        values = np.array(given, dtype.as_numpy_dtype)
    except OverflowError:
        raise invalid(f"tensor parsing error: {name}") from None
    if len(values) < size:
        default = b"" if dtype == tf.string else 0
        last = values[-1] if len(values) else default
        filled = np.full(size, last, dtype.as_numpy_dtype)
        filled[: len(values)] = values
        values = filled
    return values.reshape(shape)


def to_proto(array: np.ndarray) -> Any:
    """Writes a tensor of an answer, values in the field of their type as TensorFlow Serving does.

    Args:
        array: Strings are bytes in an object array.
    """
    dtype = tf.as_dtype(array.dtype)
    if dtype not in _VALUES:
        return tf.make_tensor_proto(array)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    getattr(proto, _VALUES[dtype]).extend(array.ravel().tolist())
    return proto


def _with_tensorflow(name: str, proto: Any, dtype: tf.DType) -> np.ndarray:
    try:
        return tf.io.parse_tensor(proto.SerializeToString(), dtype).numpy()
    except (tf.errors.OpError, TypeError, ValueError):
        raise invalid(f"tensor parsing error: {name}") from None
