"""Files that appear whole, and stay when the machine fails."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

_UNFINISHED = ".unfinished"
_ABANDONED = 3600.0
"""Seconds after which an unfinished file is taken for that of a process that was killed."""


def write_table(table: pa.Table, path: pathlib.Path) -> None:
    """Writes a Parquet file; when this returns, it is on the disk.

    Raises:
        OSError: It could not be written; nothing is left of it.
    """
    with _whole(path) as file:
        pq.write_table(table, file, compression="zstd")


def write_json(content: Any, path: pathlib.Path, mode: int = 0o666) -> None:
    """Writes a JSON file, see `write_text`."""
    write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", path, mode)


def write_text(text: str, path: pathlib.Path, mode: int = 0o666) -> None:
    """Writes a file in place of an earlier one; when this returns, it is on the disk.

    Args:
        text: Its content.
        path: Where to.
        mode: Who may read and write it, from the beginning; the process's umask is taken off.

    Raises:
        OSError: It could not be written; the earlier one is as it was.
    """
    with _whole(path, mode) as file:
        file.write(text.encode())


def remove_leftovers(folder: pathlib.Path) -> None:
    """Removes what processes that were killed had begun to write an hour ago or earlier."""
    for path in folder.glob(f".*{_UNFINISHED}"):
        if path.stat().st_mtime < time.time() - _ABANDONED:
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def _whole(path: pathlib.Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    unfinished = path.with_name(f".{path.name}{_UNFINISHED}")
    try:
        unfinished.unlink(missing_ok=True)  # Or it would keep the mode of its making.
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT, mode), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
