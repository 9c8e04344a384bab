"""Arrays as the JSON of a REST answer."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from serving.server.errors import StatusError, invalid

_BYTES_SUFFIX = "_bytes"


def write_outputs(outputs: Mapping[str, np.ndarray], as_rows: bool) -> bytes:
    """Writes the answer to a `:predict` request.

    Numbers have the fewest digits that give them back. What is not finite is written as
    TensorFlow Serving does: `NaN`, `Infinity`, `-Infinity`, which most parsers take although
    JSON has no such numbers.

    Args:
        outputs: By name. A name that ends with `_bytes` is written in base64.
        as_rows: `{"predictions": [...]}`, an element per row, or `{"outputs": ...}`.

    Raises:
        StatusError: They have no rows in common.
    """
    if as_rows:
        _check_rows(outputs)
    # orjson writes what is not finite as null.
    plain = [a for a in outputs.values() if a.dtype.kind == "f" and not np.isfinite(a).all()]
    columns = {n: _to_plain(n, a, bool(plain)) for n, a in outputs.items()}
    if as_rows:
        names, parts = list(columns), list(columns.values())
        rows = (
            parts[0]
            if len(names) == 1
            else [dict(zip(names, row, strict=True)) for row in zip(*parts, strict=True)]
        )
        answer: dict[str, Any] = {"predictions": rows}
    else:
        answer = {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}
    if plain:
        return json.dumps(answer, ensure_ascii=False).encode()
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)


def _check_rows(outputs: Mapping[str, np.ndarray]) -> None:
    sizes = []
    for name, array in outputs.items():
        if not array.ndim:
            raise invalid(f"Tensor name: {name} has no shape information ")
        sizes.append(len(array))
        if len(array) < 1:
            raise invalid(f"Tensor name: {name} has invalid batch size: {len(array)}")
        if sizes[0] != len(array):
            raise invalid(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: "
                f"{sizes[0]}"
            )


def _to_plain(name: str, array: np.ndarray, as_lists: bool) -> Any:
    """What the writer takes: nested lists, or for orjson arrays of numbers."""
    if array.dtype == object:
        flat = array.ravel().tolist()
        if name.endswith(_BYTES_SUFFIX):
            texts: list[Any] = [{"b64": base64.b64encode(v).decode()} for v in flat]
        else:
            texts = [v.decode("utf-8", "replace") for v in flat]
        decoded = np.empty(len(texts), dtype=object)
        decoded[:] = texts
        return decoded.reshape(array.shape).tolist()
    if array.dtype.kind not in "fiub":
        raise _unwritable(array)
    if array.dtype.kind == "f" and as_lists:
        # By way of text: float32 has fewer digits than Python's floats would show.
        return array.astype("U32").astype(np.float64).tolist()
    return array.tolist() if as_lists or not array.ndim else np.ascontiguousarray(array)


def _unwritable(array: np.ndarray) -> StatusError:
    return invalid(f"Failed to write JSON value for tensor type: {array.dtype.name}")
