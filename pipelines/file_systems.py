"""Files of any file system that Beam knows, written so that they appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pathlib
import re
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

from apache_beam.io.filesystem import BeamIOError, CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.options.pipeline_options import PipelineOptions

StrPath = str | os.PathLike[str]
"""A local path, or the address of a file or folder in another file system: `gs://bucket/folder`."""


_options = PipelineOptions([])  # Without a list, they would be those of this process.


def use_options(beam_args: Sequence[str]) -> None:
    """Makes look-ups heed Beam's options, such as `--s3_endpoint_url`, before a job starts."""
    global _options
    _options = PipelineOptions(list(beam_args))
    FileSystems.set_options(_options)


def look_up_options() -> PipelineOptions:
    """Returns the options that look-ups should heed."""
    return _options


def join(folder: StrPath, *names: str) -> str:
    """Returns the path of something in a folder."""
    return "/".join([os.fspath(folder).rstrip("/"), *names])


def is_remote(path: StrPath) -> bool:
    """Whether a path has a scheme, such as `gs://`."""
    return FileSystems.get_scheme(os.fspath(path)) is not None


@contextlib.contextmanager
def whole_file(path: StrPath) -> Iterator[BinaryIO]:
    """Opens a file that takes its place, and that of an earlier one, when it is complete.

    It is written under a temporary name and then renamed, which is one step on a local disk. Object
    stores copy the object on their side and delete the other one: the copy appears whole. Closing
    an object would be enough if nothing could go wrong before, but that keeps what was written so
    far.

    Args:
        path: The file. Folders that it needs are made.
    """
    target = os.fspath(path)
    folder, slash, name = target.rpartition("/")
    temporary = f"{folder}{slash}.{name}.{uuid.uuid4().hex}"
    try:
        with FileSystems.create(
            temporary, compression_type=CompressionTypes.UNCOMPRESSED
        ) as stream:
            yield stream
        _rename(temporary, target)
    except BaseException:
        with contextlib.suppress(Exception):  # What went wrong first is what matters.
            FileSystems.delete([temporary])
        raise


def remove_unfinished(folder: pathlib.Path) -> None:
    """Removes what workers that were killed left half-written; for when no worker writes any more.

    Args:
        folder: A local folder of files that `whole_file` opened.
    """
    for path in folder.rglob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{32}", path.name):
            path.unlink()


def write_json(path: StrPath, content: Any) -> None:
    """Writes a JSON file that people can read, too."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    with whole_file(path) as file:
        file.write(f"{text}\n".encode())


def is_disk_full(error: BaseException) -> bool:
    """Whether something could not be written for want of space.

    Every library has a type of its own for this, but all quote the system.
    """
    return os.strerror(errno.ENOSPC) in str(error)


def _rename(temporary: str, target: str) -> None:
    try:
        FileSystems.rename([temporary], [target])
    except BeamIOError:
        # HDFS renames over no file, such as that of an earlier attempt.
        if not is_remote(target) or not FileSystems.exists(target):
            raise
        FileSystems.delete([target])
        FileSystems.rename([temporary], [target])
