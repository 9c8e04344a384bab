"""What TensorFlow Serving says of a REST request that it cannot read.

Source: `util/json_tensor.cc` of TensorFlow Serving, in the order of its checks.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from serving.server.errors import StatusError, invalid
from serving.server.signatures import Tensor

_MAX_SHOWN = 1000
"""Characters of a value that a message quotes."""

# What Python's parser says, and rapidjson's words for it.
_SYNTAX = {
    "Expecting value": "Invalid value.",
    "Expecting property name enclosed in double quotes": "Missing a name for object member.",
    "Expecting ':' delimiter": "Missing a colon after a name of object member.",
    "Expecting ',' delimiter": "Missing a comma or ] after an array element.",
    "Illegal trailing comma before end of object": "Missing a name for object member.",
    "Illegal trailing comma before end of array": "Invalid value.",
    "Unterminated string starting at": "Missing a closing quotation mark in string.",
    "Invalid control character at": "Invalid encoding in string.",
    "Invalid \\escape": "Invalid escape character in string.",
    "Invalid \\uXXXX escape": "Incorrect hex digit after \\u escape in string.",
    "Extra data": "The document root must not be followed by other values.",
}


def show(value: Any) -> str:
    """Writes a value as the messages quote it, shortened."""
    try:
        text = json.dumps(value, indent=4, ensure_ascii=False)
    except RecursionError:
        return "(nested too deeply)"
    return text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "..."


def is_base64(value: Any) -> bool:
    """Whether a value is `{"b64": "..."}`."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: Any) -> bytes:
    """Decodes `{"b64": "..."}`; as in TensorFlow Serving the padding may be left out.

    Raises:
        StatusError: It is none.
    """
    if not is_base64(value):
        raise invalid(f"JSON Value: {show(value)} not formatted correctly for base64 data")
    text = value["b64"].rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        raise invalid("Unable to base64 decode") from None


def of_syntax(error: json.JSONDecodeError) -> StatusError:
    """Returns the error of a text that is no JSON."""
    words = _SYNTAX.get(error.msg, "Unspecific syntax error.")
    return invalid(f"JSON Parse error: {words} at offset: {error.pos}")


def of_rows(instances: list[Any], specs: Mapping[str, Tensor]) -> StatusError:
    """Returns the error of `instances` that could not be read."""
    if not isinstance(instances[0], dict) and len(specs) > 1:
        return invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    as_objects = _is_object(instances[0])
    seen: dict[str, tuple[int, ...]] = {}
    for number, row in enumerate(instances):
        if _is_object(row) != as_objects:
            wanted = "object but got list" if as_objects else "value/list but got object"
            return invalid(f"Expecting {wanted} at item {number} of input list")
        members = row if as_objects else {next(iter(specs)): row}
        for name, value in members.items():
            try:
                _check_instance(name, value, specs, seen)
            except StatusError as error:
                key = f" key: {name}" if as_objects else ""
                return invalid(
                    f"Failed to process element: {number}{key} of 'instances' list. Error: {error}"
                )
        if as_objects and set(row) != set(specs):
            return invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{show(row)} must only have keys: {','.join(sorted(specs))}"
            )
    return invalid("JSON Value: 'instances' cannot be converted to tensors")


def of_columns(inputs: Any, specs: Mapping[str, Tensor]) -> StatusError:
    """Returns the error of `inputs` that could not be read."""
    if not _is_object(inputs):
        if len(specs) > 1:
            return invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        inputs = {next(iter(specs)): inputs}
    for name, spec in specs.items():
        if name not in inputs:
            return invalid(f"Missing named input: {name} in 'inputs' object.")
        try:
            _check_values(inputs[name], 0, _shape(inputs[name]), spec.dtype)
        except StatusError as error:
            return error
    return invalid("JSON Value: 'inputs' cannot be converted to tensors")


def _check_instance(
    name: str, value: Any, specs: Mapping[str, Tensor], seen: dict[str, tuple[int, ...]]
) -> None:
    """Checks one input of one row, and that its shape is that of the rows before."""
    if name not in specs:
        raise invalid(f"JSON object: does not have named input: {name}")
    shape = _shape(value)
    _check_values(value, 0, shape, specs[name].dtype)
    before = seen.setdefault(name, shape)
    if np.prod(before) != np.prod(shape):
        raise invalid(f"Expecting tensor size: {np.prod(before):.0f} but got: {np.prod(shape):.0f}")
    if before != shape:
        raise invalid(f"Expecting shape {_show_shape(before)} but got: {_show_shape(shape)}")


def _check_values(value: Any, level: int, shape: tuple[int, ...], dtype: tf.DType) -> None:
    if not isinstance(value, list):
        if level != len(shape):
            raise invalid(
                f"JSON Value: {show(value)} found at incorrect level: {level + 1} in the JSON DOM. "
                f"Expected at level: {len(shape)}"
            )
        _check_value(value, dtype)
        return
    if level >= len(shape):
        raise invalid(f"Encountered list at unexpected level: {level} expected < {len(shape)}")
    if len(value) != shape[level]:
        raise invalid(
            f"Encountered list at unexpected size: {len(value)} at level: {level} expected size: "
            f"{shape[level]}"
        )
    for element in value:
        _check_values(element, level + 1, shape, dtype)


def _check_value(value: Any, dtype: tf.DType) -> None:
    kind = type(value)
    if dtype == tf.string:
        if kind is dict:
            decode_base64(value)
        elif kind is not str:
            raise _type_error(value, dtype)
    elif dtype == tf.bool:
        if kind is not bool:
            raise _type_error(value, dtype)
    elif dtype.is_integer:
        if kind is not int or not dtype.min <= value <= dtype.max:
            raise _type_error(value, dtype)
    elif dtype in (tf.float32, tf.float64):
        if kind not in (int, float):
            raise _type_error(value, dtype)
        _check_lossless(value, dtype)
    else:
        raise invalid(f"Conversion of JSON Value: {show(value)} to type: {dtype.name}")


def _check_lossless(value: float, dtype: tf.DType) -> None:
    limits = np.finfo(dtype.as_numpy_dtype)
    largest = 2 ** (limits.nmant + 1) - 1 if isinstance(value, int) else float(limits.max)
    if abs(value) > largest and value not in (float("inf"), float("-inf")):
        target = "float" if dtype == tf.float32 else "double"
        raise invalid(
            f"Cannot convert JSON value: {show(value)} to {target} without loss of precision."
        )


def _type_error(value: Any, dtype: tf.DType) -> StatusError:
    kinds = {dict: "Object", list: "Array", str: "String", type(None): "Null"}
    kind = str(value) if isinstance(value, bool) else kinds.get(type(value), "Number")
    # C++ names the type of 32 bits after the language's.
    name = {"float32": "float", "float64": "double"}.get(dtype.name, dtype.name)
    return invalid(f"JSON Value: {show(value)} Type: {kind} is not of expected type: {name}")


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and not is_base64(value)


def _shape(value: Any) -> tuple[int, ...]:
    """Shape by the first element at every level."""
    shape = []
    while isinstance(value, list):
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return tuple(shape)


def _show_shape(shape: tuple[int, ...]) -> str:
    return "[" + ",".join(map(str, shape)) + "]"
