"""One type for a column whose parts have several."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    """Puts tables one below the other, their columns brought to one type each.

    Whole numbers become floating-point ones where either is; other scalars of several types become
    strings; beside lists a scalar is a list of one value.

    Args:
        tables: At least one, with the same columns.

    Raises:
        pa.ArrowInvalid: A column has types that nothing can stand for, such as a structure and a
            number.
    """
    columns = {}
    for name in tables[0].column_names:
        parts = [chunk for table in tables for chunk in _chunks(table[name])]
        kind = common_type([part.type for part in parts], name)
        columns[name] = pa.chunked_array([_converted(part, kind) for part in parts], kind)
    return pa.table(columns).combine_chunks()


def common_type(kinds: Sequence[pa.DataType], name: str) -> pa.DataType:
    """Returns the type that can stand for all.

    Args:
        kinds: At least one.
        name: Of the column, for messages.

    Raises:
        pa.ArrowInvalid: There is none.
    """
    kinds = _distinct(kind for kind in kinds if not pa.types.is_null(kind))
    if len(kinds) > 1:
        kinds = _distinct(_plain(kind) for kind in kinds)
    if len(kinds) < 2:
        return kinds[0] if kinds else pa.null()
    if any(pa.types.is_list(kind) for kind in kinds):
        values = [kind.value_type if pa.types.is_list(kind) else kind for kind in kinds]
        return pa.list_(common_type(values, name))
    if any(pa.types.is_nested(kind) for kind in kinds):
        raise pa.ArrowInvalid(f"`{name}` holds {' and '.join(map(str, kinds))}")
    if all(pa.types.is_integer(kind) for kind in kinds):
        return pa.int64() if pa.uint64() not in kinds else pa.string()
    if all(pa.types.is_integer(kind) or pa.types.is_floating(kind) for kind in kinds):
        return pa.float64()
    if all(pa.types.is_temporal(kind) for kind in kinds):
        raise pa.ArrowInvalid(f"`{name}` holds {' and '.join(map(str, kinds))}")
    return pa.string()


def as_array(values: list[Any]) -> pa.Array:
    """Returns JSON values as an array of one type, by the rules of `concatenate`."""
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    if any(isinstance(value, list) for value in values):
        lists = [v if v is None or isinstance(v, list) else [v] for v in values]
        return pa.array([v and [_text(each) for each in v] for v in lists], pa.list_(pa.string()))
    return pa.array([_text(value) for value in values], pa.string())


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def _distinct(kinds: Iterable[pa.DataType]) -> list[pa.DataType]:
    return list(dict.fromkeys(kinds))


def _chunks(column: pa.ChunkedArray) -> list[pa.Array]:
    return column.chunks or [pa.array([], column.type)]


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without the ways to store it."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind):
        return pa.list_(_plain(kind.value_type))
    return pa.string() if pa.types.is_large_string(kind) else kind


def _converted(part: pa.Array, kind: pa.DataType) -> pa.Array:
    if part.type == kind:
        return part
    if pa.types.is_dictionary(part.type):
        part = part.dictionary_decode()
    if not pa.types.is_list(kind) or pa.types.is_null(part.type):
        return part.cast(kind)
    if pa.types.is_nested(part.type):
        lengths, values = pc.fill_null(pc.list_value_length(part), 0), pc.list_flatten(part)
    else:
        lengths, values = pc.is_valid(part), part.filter(pc.is_valid(part))
    ends = np.cumsum(lengths.to_numpy(zero_copy_only=False))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    return pa.ListArray.from_arrays(offsets, _converted(values, kind.value_type))
