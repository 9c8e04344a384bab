"""Files of an input: found, divided into chunks, checked and read, whatever their format."""

from __future__ import annotations

import difflib
import pathlib
import re
from collections.abc import Iterator, Sequence

from apache_beam.io.filesystems import FileSystems

from fairness_losses.errors import InvalidInputError
from pipelines.file_systems import is_remote
from pipelines.readers.bigquery import BigQuery, check_table, is_table, table_size, table_state
from pipelines.readers.chunks import Block, Chunk, Format, readable
from pipelines.readers.delimited import Csv
from pipelines.readers.json_lines import JsonLines
from pipelines.readers.parquet import Parquet
from pipelines.readers.tfrecord import TFRecord

FORMATS: tuple[Format, ...] = (Csv(), JsonLines(), Parquet(), TFRecord())
"""All formats of files."""

_BIGQUERY = BigQuery()

_ENDINGS = "`.csv`, `.jsonl` or `.tfrecord`, each also with `.gz`, or `.parquet`"


def find_files(pattern: str, setting: str) -> list[str]:
    """Returns the files that a path or glob names, sorted; local ones with their whole path.

    Of a BigQuery table it returns the path.

    Args:
        pattern: Path or glob, of any file system that Beam knows, or path of a BigQuery table.
        setting: What the path is the value of, for messages.

    Raises:
        InvalidInputError: No file matches, or one is of no known format.
    """
    if is_table(pattern):
        check_table(pattern, setting)
        return [pattern]
    if not is_remote(pattern):
        pattern = str(pathlib.Path(pattern).absolute())  # Workers may run in another folder.
    try:
        matched = FileSystems.match([pattern])[0].metadata_list
    except Exception as error:  # Beam wraps whatever the file system of the path raises.
        raise InvalidInputError(f"`{setting}`: {pattern} cannot be looked up: {error}") from error
    files = sorted(m.path for m in matched)
    if not files:
        raise InvalidInputError(f"`{setting}`: there is no file {pattern}.")
    for path in files:
        if not _formats(path):
            raise InvalidInputError(
                f"`{setting}`: {path} is of no known format; its name should end in {_ENDINGS}. "
                "Of a folder of such files give the glob `folder/*`."
            )
        if FileSystems.exists(path.rstrip("/") + "/"):
            raise InvalidInputError(f"`{setting}`: {path} is a folder; give the glob `{path}/*`.")
    return files


def file_state(path: str) -> list[object]:
    """Returns what is another when a file is: its path, size in bytes and time of change."""
    if is_table(path):
        return table_state(path)
    if is_remote(path):
        metadata = FileSystems.get_filesystem(path).metadata(path)
        return [path, metadata.size_in_bytes, metadata.last_updated_in_seconds]
    local = pathlib.Path(path).stat()
    return [path, local.st_size, local.st_mtime_ns]


def plan_chunks(files: Sequence[str]) -> list[Chunk]:
    """Divides files into chunks.

    Raises:
        InvalidInputError: A Parquet file is damaged.
    """
    chunks = []
    for file, path in enumerate(files):
        with readable(path):
            chunks += _format_of(path).chunks(path, file)
    return chunks


def size_in_bytes(path: str) -> int:
    """Returns how large a file or table is, as it is stored."""
    if is_table(path):
        return table_size(path)
    return FileSystems.get_filesystem(path).metadata(path).size_in_bytes


def has_schema(path: str) -> bool:
    """Whether a file says what its columns are; else its rows do, see `chunks.Block.names`."""
    return _format_of(path).has_schema


def column_names(path: str) -> list[str]:
    """Returns the names of a file's columns, or those of its first rows if it does not say them.

    Raises:
        InvalidInputError: The file is empty or damaged.
    """
    names = _column_names(path)
    if not names:
        wanted = "begin with a header row" if has_schema(path) else "hold a row"
        raise InvalidInputError(f"{path}: the file is empty; it should {wanted}.")
    return names


def _column_names(path: str) -> list[str]:
    with readable(path):
        return _format_of(path).column_names(path)


def check_columns(files: Sequence[str], needed: dict[str, str]) -> None:
    """Checks that the files of an input have the columns they should have.

    Files that do not say what their columns are, such as JSON lines, may be empty, and a column has
    to be in the first rows of one of them.

    Args:
        files: At least one.
        needed: Column to the setting that names it, for messages.

    Raises:
        InvalidInputError: A column is missing (the message names the nearest ones) or is there
            twice.
    """
    without_schema = []
    for path in files:
        if has_schema(path):
            _check_names(path, column_names(path), needed)
        else:
            without_schema.append(path)
    if without_schema:
        together = dict.fromkeys(name for path in without_schema for name in _column_names(path))
        first = without_schema[0]
        _check_names(first, list(together) or column_names(first), needed)


def _check_names(path: str, names: Sequence[str], needed: dict[str, str]) -> None:
    for column, setting in needed.items():
        if names.count(column) == 1:
            continue
        if column in names:
            raise InvalidInputError(f"{path}: the column `{column}` is there twice; rename one.")
        close = difflib.get_close_matches(column, names, n=3, cutoff=0.5) or names
        raise InvalidInputError(
            f"{path}: there is no column `{column}`, which `{setting}` names. "
            f"{'The nearest are' if close is not names else 'It has'} "
            f"{', '.join(f'`{c}`' for c in close[:20])}."
        )


def read_chunk(chunk: Chunk, columns: Sequence[str]) -> Iterator[Block]:
    """Yields the rows of a chunk.

    Args:
        chunk: Where to read.
        columns: Columns to read.

    Raises:
        InvalidInputError: The file is damaged, or is not UTF-8.
    """
    groups = chunk.row_groups
    part = f", row groups {groups[0]} to {groups[-1]} (the first is 0)" if groups else ""
    with readable(chunk.path, part):
        yield from _format_of(chunk.path).read(chunk, list(dict.fromkeys(columns)))


def _format_of(path: str) -> Format:
    """The format of a file that `find_files` has found."""
    (found,) = _formats(path)
    return found


def _formats(path: str) -> list[Format]:
    """The format that a name stands for; none for the name of another file."""
    if is_table(path):
        return [_BIGQUERY]
    return [f for f in FORMATS if re.search(f.endings + "$", path.lower())]
