"""What is read: a part of a file, and the rows that it holds."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO, Protocol

import numpy as np
import pyarrow as pa
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from fairness_losses.errors import InvalidInputError

FILE = "__file"
"""Column with the number of the row's file among the sorted files of its input, int32."""

ROW = "__row"
"""Column with the row's number in its file, int64, from 1; a header is not a row."""


@dataclasses.dataclass(frozen=True)
class Chunk:
    """A part of an input that one worker reads: some row groups, or a whole file.

    Attributes:
        path: The file.
        file: Its number among the sorted files of the input.
        row_groups: Numbers of Parquet row groups; none for a file of another format.
        first_row: Rows of the file before this chunk.
        rows: Number of rows; but for Parquet an estimate from the size of the file.
    """

    path: str
    file: int
    row_groups: tuple[int, ...]
    first_row: int
    rows: int


@dataclasses.dataclass(frozen=True)
class Block:
    """Rows of a chunk.

    Attributes:
        table: The wanted columns, `FILE` and `ROW`.
        unreadable: Numbers of the rows that cannot be taken apart, int64.
        reason: Why they cannot.
        names: All columns that some of the rows have, wanted or not; only of formats whose files do
            not say what their columns are.
    """

    table: pa.Table
    unreadable: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, np.int64))
    reason: str = ""
    names: frozenset[str] = frozenset()


class Format(Protocol):
    """A format of files.

    Attributes:
        endings: How the names of its files end, a regular expression.
        has_schema: Whether a file says what its columns are; else a column is there if any row of
            any file has it, and is null elsewhere.
    """

    endings: str
    has_schema: bool

    def column_names(self, path: str) -> list[str]:
        """Returns the names of a file's columns; none of an empty file."""

    def chunks(self, path: str, file: int) -> list[Chunk]:
        """Divides a file; `file` is its number."""

    def read(self, chunk: Chunk, columns: list[str]) -> Iterator[Block]:
        """Yields the rows of a chunk."""


def whole_file(path: str, file: int, bytes_per_row: int) -> list[Chunk]:
    """Returns the one chunk of a file that cannot be divided.

    Args:
        path: The file.
        file: Its number.
        bytes_per_row: About so many, to estimate the rows.
    """
    size = FileSystems.match([path])[0].metadata_list[0].size_in_bytes
    return [Chunk(path, file, (), 0, size // bytes_per_row)]


def with_origin(table: pa.Table, file: int, rows: np.ndarray) -> pa.Table:
    """Returns a table with `FILE` and `ROW`."""
    origin = pa.array(np.full(len(table), file, np.int32))
    return table.append_column(FILE, origin).append_column(ROW, pa.array(rows, pa.int64()))


def empty_table(columns: Sequence[str], file: int) -> pa.Table:
    """Returns a table without rows."""
    table = pa.schema([(c, pa.string()) for c in columns]).empty_table()
    return with_origin(table, file, np.zeros(0, np.int64))


def open_file(path: str) -> BinaryIO:
    """Opens a file of any file system that Beam knows, as its bytes are."""
    return FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED)


def is_gzipped(path: str) -> bool:
    """Whether a file is compressed, as its name says."""
    return path.lower().endswith(".gz")


def unzipped(path: str, stream: BinaryIO) -> BinaryIO:
    """Returns what an open file holds, decompressed if its name says that it is compressed."""
    return gzip.GzipFile(fileobj=stream) if is_gzipped(path) else stream  # type: ignore[return-value]


@contextlib.contextmanager
def readable(path: str, part: str = "") -> Iterator[None]:
    """Says in words what a damaged file makes the libraries raise.

    Args:
        path: The file.
        part: What of it is read, for the message.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise InvalidInputError(
            f"{path}: the file was there when the run began and is gone. Bring it back, and let "
            "nothing move or replace files while they are read."
        ) from error
    except (UnicodeDecodeError, pa.ArrowInvalid, OSError, EOFError, zlib.error) as error:
        if isinstance(error, UnicodeDecodeError) or "UTF8" in str(error):
            problem = "the text is not UTF-8; convert it"
        else:
            problem = f"the file is damaged or cut short; fetch or write it again ({error})"
        raise InvalidInputError(f"{path}{part}: {problem}.") from error
