"""Numbers that know where in `report.json` they stand.

Whoever doubts a number on the page finds it: the attribute `data-path` of its element is the JSON
Pointer (RFC 6901) of the number, or of the figure whose value and interval are shown.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from markupsafe import Markup, escape


class Object(dict[str, Any]):
    """A JSON object, and its pointer."""

    pointer: str


class Array(list[Any]):
    """A JSON array, and its pointer."""

    pointer: str


class Float(float):
    """A JSON number, and its pointer; what is computed from it has none."""

    pointer: str


class Int(int):
    """As `Float`."""

    pointer: str


def traced(value: Any, pointer: str = "") -> Any:
    """Returns a copy of a JSON value whose objects, arrays and numbers have a `pointer`.

    Args:
        value: The value.
        pointer: Where it stands; at the root by default.
    """
    copy: Object | Array | Float | Int
    if isinstance(value, Mapping):
        copy = Object({key: traced(each, _join(pointer, key)) for key, each in value.items()})
    elif isinstance(value, list | tuple):
        copy = Array(traced(each, _join(pointer, i)) for i, each in enumerate(value))
    elif isinstance(value, float):
        copy = Float(value)
    elif isinstance(value, int) and not isinstance(value, bool):
        copy = Int(value)
    else:
        return value
    copy.pointer = pointer
    return copy


def shown(value: Any, form: Callable[[Any], str]) -> Markup:
    """Returns what is written of a value, in an element that says where the value stands.

    Args:
        value: A number, a figure or a list. What was not `traced` is written as plain text.
        form: Writes it.
    """
    pointer = getattr(value, "pointer", None)
    if pointer is None:
        return escape(form(value))
    return Markup('<span data-path="{}">{}</span>').format(pointer, form(value))


def _join(pointer: str, key: object) -> str:
    return f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}"
