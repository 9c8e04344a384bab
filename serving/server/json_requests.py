"""The JSON of a REST request as arrays.

Well-formed requests are read column by column with NumPy. What that cannot read is walked once
more, value by value, by `json_errors`, which finds the words that TensorFlow Serving has for it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import tensorflow as tf

from serving.server import json_errors
from serving.server.errors import StatusError, invalid
from serving.server.signatures import Signature, Tensor


def parse_body(body: bytes) -> dict[str, Any]:
    """Reads the JSON object of a request; `NaN` and `Infinity` are numbers.

    Raises:
        StatusError: It is none.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        document = _parse_leniently(body)
    if not isinstance(document, dict):
        raise invalid(f"JSON Value: {json_errors.show(document)} Is not object")
    return document


def _parse_leniently(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise json_errors.of_syntax(error) from None
    except UnicodeDecodeError as error:
        raise invalid(
            f"JSON Parse error: Invalid encoding in string. at offset: {error.start}"
        ) from None
    except (RecursionError, ValueError):
        # Too many brackets, or too many digits.
        raise invalid(
            "JSON Parse error: Terminate parsing due to Handler error. at offset: 0"
        ) from None


def signature_name(document: Mapping[str, Any]) -> str:
    """Returns the name in `signature_name`, or "".

    Raises:
        StatusError: It is no string.
    """
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(
            f"JSON Value: {json_errors.show(document)} not formatted correctly. "
            "'signature_name' key must be a string value."
        )
    return name


def read_inputs(
    document: Mapping[str, Any], signature: Signature
) -> tuple[dict[str, np.ndarray], bool]:
    """Reads the inputs of a `:predict` request.

    Args:
        document: Has one of `instances` (rows) and `inputs` (columns).
        signature: What is asked.

    Returns:
        Arrays by name, and whether they were given as rows.

    Raises:
        StatusError: They cannot be read.
    """
    has_rows, has_columns = "instances" in document, "inputs" in document
    if has_rows and has_columns:
        raise invalid(
            f"JSON Value: {json_errors.show(document)} Not formatted correctly expecting only one "
            "of 'inputs' or 'instances' keys to exist "
        )
    if has_columns:
        return _read_columns(document["inputs"], signature.inputs), False
    if not has_rows:
        raise invalid("Missing 'inputs' or 'instances' key")
    instances = document["instances"]
    if not isinstance(instances, list):
        raise invalid(
            f"JSON Value: {json_errors.show(document)} Excepting 'instances' to be an list/array"
        )
    if not instances:
        raise invalid(f"JSON Value: {json_errors.show(document)} No values in 'instances' array")
    return _read_rows(instances, signature.inputs), True


def _read_rows(instances: list[Any], specs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    first = instances[0]
    try:
        if isinstance(first, dict) and not json_errors.is_base64(first):
            if set(map(len, instances)) != {len(specs)}:
                raise _UnusualError
            columns = {name: [row[name] for row in instances] for name in specs}
        else:
            (only,) = specs
            columns = {only: instances}
        return {name: _to_array(values, specs[name].dtype) for name, values in columns.items()}
    except _UNREADABLE:
        raise json_errors.of_rows(instances, specs) from None


def _read_columns(inputs: Any, specs: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    try:
        if isinstance(inputs, dict) and not json_errors.is_base64(inputs):
            columns = {name: inputs[name] for name in specs}
        else:
            (only,) = specs
            columns = {only: inputs}
        return {name: _to_array(values, specs[name].dtype) for name, values in columns.items()}
    except _UNREADABLE:
        raise json_errors.of_columns(inputs, specs) from None


class _UnusualError(Exception):
    """The values need a closer look."""


_UNREADABLE = (_UnusualError, StatusError, LookupError, TypeError, ValueError, OverflowError)


def _to_array(values: Any, dtype: tf.DType) -> np.ndarray:
    """Nested lists as an array, if they are even and every value is of the type."""
    array = np.array(values, dtype=object)
    flat = array.ravel().tolist()
    kinds = set(map(type, flat))
    if dtype == tf.string:
        if not kinds <= {str, dict}:
            raise _UnusualError
        decode = json_errors.decode_base64
        plain = [v.encode() if isinstance(v, str) else decode(v) for v in flat]
        answer = np.empty(len(plain), dtype=object)
        answer[:] = plain
        return answer.reshape(array.shape)
    if dtype == tf.bool:
        if not kinds <= {bool}:
            raise _UnusualError
        return array.astype(bool)
    if dtype.is_integer and kinds <= {int}:
        lowest, highest = min(flat, default=0), max(flat, default=0)
        if lowest < dtype.min or highest > dtype.max:
            raise _UnusualError
        return array.astype(dtype.as_numpy_dtype)
    if dtype in (tf.float32, tf.float64) and kinds <= {int, float}:
        return _to_floats(array, dtype, whole=int in kinds)
    raise _UnusualError


def _to_floats(array: np.ndarray, dtype: tf.DType, whole: bool) -> np.ndarray:
    doubles = array.astype(np.float64)
    if whole:
        largest = 2 ** (np.finfo(dtype.as_numpy_dtype).nmant + 1) - 1
        if any(type(v) is int and abs(v) > largest for v in array.flat):
            raise _UnusualError
    with np.errstate(over="ignore"):
        answer = doubles.astype(dtype.as_numpy_dtype)
    if (np.isfinite(doubles) & ~np.isfinite(answer)).any():
        raise _UnusualError
    return answer
