"""One type for a column whose parts have several."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class TypesDifferError(ValueError):
    """The parts of a column have types that nothing can stand for."""


def common_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """Returns the schema that tables can be brought to.

    Whole numbers become floating-point ones where others are, and truth values 0 and 1 beside
    numbers; beside strings all of them become strings; beside lists a scalar is a list of one
    value.

    Args:
        schemas: At least one, with the same columns.

    Raises:
        TypesDifferError: A column has other types than these.
    """
    names = schemas[0].names
    return pa.schema([(n, common_type([s.field(n).type for s in schemas], n)) for n in names])


def convert(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Brings a table to a schema that `common_schema` found for it and others.

    Raises:
        TypesDifferError: A whole number is none of the floating-point ones.
    """
    columns = {}
    for name, kind in zip(schema.names, schema.types, strict=True):
        try:
            converted = [_converted(part, kind) for part in _chunks(table[name])]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            # Arrow's own words hold the value.
            raise TypesDifferError(f"`{name}` holds values that {kind} does not") from None
        columns[name] = pa.chunked_array(converted, kind)
    return pa.table(columns)


def is_number(kind: pa.DataType) -> bool:
    """Whether values are numbers, or truth values, which count as such."""
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    return any(test(kind) for test in tests)


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists, however they are stored."""
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in tests)


def common_type(kinds: Sequence[pa.DataType], name: str) -> pa.DataType:
    """Returns the type that can stand for all.

    Args:
        kinds: At least one.
        name: Of the column, for messages.

    Raises:
        TypesDifferError: There is none.
    """
    kinds = _distinct(kind for kind in kinds if not pa.types.is_null(kind))
    if len(kinds) > 1:
        kinds = _distinct(_plain(kind) for kind in kinds)
    if len(kinds) < 2:
        return kinds[0] if kinds else pa.null()
    if any(pa.types.is_list(kind) for kind in kinds):
        values = [kind.value_type if pa.types.is_list(kind) else kind for kind in kinds]
        return pa.list_(common_type(values, name))
    if all(pa.types.is_integer(kind) or pa.types.is_boolean(kind) for kind in kinds):
        return pa.string() if pa.uint64() in kinds else pa.int64()
    if all(_converts(kind) for kind in kinds):
        return pa.float64()
    if all(_converts(kind) or pa.types.is_string(kind) for kind in kinds) and not any(
        pa.types.is_decimal(kind) for kind in kinds
    ):
        return pa.string()
    raise TypesDifferError(f"`{name}` holds {' and '.join(map(str, kinds))}")


def as_array(values: list[Any]) -> pa.Array:
    """Returns JSON values as an array of one type, by the rules of `common_schema`."""
    if {type(value) for value in values} <= {bool, int, float, type(None)} and any(
        isinstance(value, int) and not isinstance(value, bool) for value in values
    ):
        values = [int(value) if isinstance(value, bool) else value for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        pass
    if any(isinstance(value, list) for value in values):
        lists = [v if v is None or isinstance(v, list) else [v] for v in values]
        return pa.array([v and [_text(each) for each in v] for v in lists], pa.list_(pa.string()))
    return pa.array([_text(value) for value in values], pa.string())


def _text(value: Any) -> str | None:
    """As Arrow writes it: 7.0 is 7, so that an id has one spelling."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2.0**53:
        value = int(value)
    return json.dumps(value, ensure_ascii=False)


def _distinct(kinds: Iterable[pa.DataType]) -> list[pa.DataType]:
    return list(dict.fromkeys(kinds))


def _chunks(column: pa.ChunkedArray) -> list[pa.Array]:
    return column.chunks or [pa.array([], column.type)]


def _converts(kind: pa.DataType) -> bool:
    """Whether Arrow makes other numbers of these: of 16 bits it does not."""
    return is_number(kind) and kind != pa.float16()


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without the ways to store it."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    if is_list(kind):
        return pa.list_(_plain(kind.value_type))
    return pa.string() if pa.types.is_large_string(kind) else kind


def _converted(part: pa.Array, kind: pa.DataType) -> pa.Array:
    if part.type == kind:
        return part
    if pa.types.is_dictionary(part.type):
        part = part.dictionary_decode()
    if pa.types.is_boolean(part.type) and not pa.types.is_string(kind):
        part = part.cast(pa.int8())
    if not pa.types.is_list(kind) or pa.types.is_null(part.type):
        return part.cast(kind)
    if is_list(part.type):
        lengths, values = pc.fill_null(pc.list_value_length(part), 0), pc.list_flatten(part)
    else:
        lengths, values = pc.is_valid(part), part.filter(pc.is_valid(part))
    ends = np.cumsum(lengths.to_numpy(zero_copy_only=False))
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    return pa.ListArray.from_arrays(offsets, _converted(values, kind.value_type))
