"""Files with a JSON object per line, plain or gzipped."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from pipelines.readers.chunks import (
    Block,
    Chunk,
    is_gzipped,
    open_file,
    unzipped,
    whole_file,
    with_origin,
)
from pipelines.readers.types import as_array

_BLOCK_BYTES = 8 << 20
_LINES_FOR_NAMES = 1_000
_NO_OBJECT = "the line is not a JSON object"
_BLANK = bytes(range(33))
"""Space and all control characters."""


class JsonLines:
    """Columns are the keys of the objects; a key that an object does not have is null there.

    Numbers, strings and lists have the types of Arrow. Strings stay strings, even if they look like
    times. A row is a line; blank lines are no rows, but are counted.
    """

    endings = r"\.jsonl(\.gz)?"
    has_schema = False

    def column_names(self, path: str) -> list[str]:
        """Returns the keys of the first thousand lines, in order of appearance."""
        names: dict[str, None] = {}
        with open_file(path) as stream:
            for line in itertools.islice(unzipped(path, stream), _LINES_FOR_NAMES):
                line.decode("utf-8")
                names |= dict.fromkeys(_object(line) or {})
        return list(names)

    def chunks(self, path: str, file: int) -> list[Chunk]:
        """See `chunks.Format`."""
        return whole_file(path, file, bytes_per_row=16 if is_gzipped(path) else 64)

    def read(self, chunk: Chunk, columns: list[str]) -> Iterator[Block]:
        """See `chunks.Format`."""
        first_row = 1
        with open_file(chunk.path) as stream:
            for text in _blocks(unzipped(chunk.path, stream)):
                text.decode("utf-8")  # Arrow would take any bytes.
                first, last = _ends_of_lines(text)
                filled = first > 0
                rows = first_row + np.flatnonzero(filled)
                first_row += len(filled)
                # Arrow would take several objects in a line, or one over several lines.
                plain = (first[filled] == ord("{")).all() and (last[filled] == ord("}")).all()
                parsed = _parse(text, columns) if plain else None
                if parsed is not None and len(parsed) == len(rows):
                    names = frozenset(parsed.column_names)
                    wanted = with_origin(_selected(parsed, columns), chunk.file, rows)
                    yield Block(wanted, names=names)
                else:
                    yield _line_by_line(text, rows, columns, chunk.file)


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Whole lines, each ended, about as many bytes at a time as memory should hold."""
    rest = b""
    while data := stream.read(_BLOCK_BYTES):
        end = data.rfind(b"\n") + 1
        if end:
            yield rest + data[:end]
            rest = data[end:]
        else:
            rest += data
    if rest:
        yield rest + b"\n"


def _ends_of_lines(text: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The first and last character of every line that is not blank, uint8 `[num_lines]`, else 0."""
    characters = np.frombuffer(text, np.uint8)
    line_ends = np.flatnonzero(characters == ord("\n"))
    visible = np.flatnonzero(characters > max(_BLANK))
    # Of each line: the visible characters up to its end, less those up to its beginning.
    until = np.searchsorted(visible, line_ends)
    since = np.concatenate([[0], until[:-1]])
    first, last = np.zeros((2, len(line_ends)), np.uint8)
    filled = until > since
    first[filled] = characters[visible[since[filled]]]
    last[filled] = characters[visible[until[filled] - 1]]
    return first, last


def _parse(text: bytes, columns: Sequence[str]) -> pa.Table | None:
    """A block of lines; None if Arrow finds anything wrong with one of the columns."""
    try:
        table = _read_json(text, None)
        looks_like_time = [f for f in table.schema if f.name in columns and _has_time(f.type)]
        if looks_like_time:
            strings = pa.schema([pa.field(f.name, _without_time(f.type)) for f in looks_like_time])
            table = _read_json(text, strings)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    # Of a key that is there twice Arrow does not say which value counts.
    if len(set(table.column_names)) < len(table.column_names):
        return None
    if any(_is_rounded(table[c]) for c in columns if c in table.column_names):
        return None
    return table


def _selected(table: pa.Table, columns: Sequence[str]) -> pa.Table:
    nulls = pa.nulls(len(table))
    return pa.table({c: table[c] if c in table.column_names else nulls for c in columns})


def _read_json(text: bytes, strings: pa.Schema | None) -> pa.Table:
    return pa.json.read_json(
        pa.BufferReader(text),
        # One block, so that all lines together say what the types are.
        read_options=pa.json.ReadOptions(use_threads=False, block_size=len(text) + 1),
        parse_options=pa.json.ParseOptions(explicit_schema=strings),
    )


def _is_rounded(column: pa.ChunkedArray) -> bool:
    """Whether there are numbers that may have been whole, and too large for a float."""
    values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
    if not pa.types.is_floating(values.type):
        return False
    largest = pc.max(pc.abs(values)).as_py()
    return largest is not None and largest >= 2.0**53


def _has_time(kind: pa.DataType) -> bool:
    return pa.types.is_timestamp(kind.value_type if pa.types.is_list(kind) else kind)


def _without_time(kind: pa.DataType) -> pa.DataType:
    return pa.list_(pa.string()) if pa.types.is_list(kind) else pa.string()


def _line_by_line(text: bytes, rows: np.ndarray, columns: Sequence[str], file: int) -> Block:
    """Slower than Arrow, but knows which line is wrong, and takes columns of several types."""
    lines = [line for line in text.split(b"\n") if line.strip(_BLANK)]
    objects = [_object(line) for line in lines]
    good = np.array([o is not None for o in objects], bool)
    found = [o for o in objects if o is not None]
    table = pa.table({c: as_array([o.get(c) for o in found]) for c in columns})
    names = frozenset(itertools.chain.from_iterable(found))
    return Block(with_origin(table, file, rows[good]), rows[~good], _NO_OBJECT, names)


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(line)
        if b"\\u" in line:
            json.dumps(value, ensure_ascii=False).encode()  # Half of a character is none.
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
