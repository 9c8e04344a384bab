"""Examples that are built in a folder of another file system and fetched into the run directory.

Workers on other machines cannot write into the run directory. They write into a folder of a bucket,
say, from which the finished examples are fetched at once, or later and by somebody else.
"""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from apache_beam.io.filesystems import FileSystems

from fairness_losses.errors import InvalidInputError
from pipelines.beam_runner import run
from pipelines.config import RunConfig
from pipelines.examples.pipeline import examples_pipeline, read_counts
from pipelines.file_systems import is_remote, join, use_options, write_json
from pipelines.readers.chunks import open_file

_BUILT_FROM = "built_from.json"
_BLOCK_BYTES = 8 << 20
_FILES_AT_ONCE = 8


def build_elsewhere(
    config: RunConfig,
    source_dir: pathlib.Path | None,
    folder: str,
    built_from: str,
    out_dir: pathlib.Path,
    pipeline_args: Sequence[str] = (),
) -> dict[str, Any]:
    """Builds examples in a folder, unless they are there already, and fetches them.

    Args:
        config: The run.
        source_dir: As in `pipeline.build_examples`.
        folder: Where the workers write, such as `gs://bucket/examples/monday`.
        built_from: Fingerprint of all that the examples depend on.
        out_dir: An empty local folder.
        pipeline_args: Beam's own options.

    Returns:
        The content of `counts.json`.

    Raises:
        InvalidInputError: The input cannot be used, or the folder holds something else.
    """
    use_options(pipeline_args)
    if not is_remote(folder):
        folder = str(pathlib.Path(folder).absolute())  # Workers run in other folders.
    if not is_complete(folder, built_from):
        pipeline = examples_pipeline(config, source_dir, folder, pipeline_args)
        claim(folder, built_from)
        run(pipeline)
    counts = read_counts(config, folder)
    fetch(folder, out_dir)
    return counts


def is_complete(folder: str, built_from: str) -> bool:
    """Whether a folder holds finished examples; if not, it is empty.

    Args:
        folder: The folder.
        built_from: Fingerprint of all that the examples depend on.

    Raises:
        InvalidInputError: It holds other or unfinished examples, or other files.
    """
    if not _files(folder):
        return False
    if not FileSystems.exists(join(folder, _BUILT_FROM)):
        raise InvalidInputError(
            f"{folder}: should be an empty folder, or one of examples. Received a folder of other "
            "files. Give another one."
        )
    if json.loads(_read(join(folder, _BUILT_FROM)))["fingerprint"] != built_from:
        raise InvalidInputError(
            f"{folder}: these examples were built from other data or settings. Give another folder."
        )
    if not FileSystems.exists(join(folder, "counts.json")):
        raise InvalidInputError(
            f"{folder}: the examples are not complete. If the job that builds them is still "
            "running, wait for it; if it failed, remove the folder, or give another one."
        )
    return True


def claim(folder: str, built_from: str) -> None:
    """Says in an empty folder what is going to be built in it."""
    write_json(join(folder, _BUILT_FROM), {"fingerprint": built_from})


def fetch(folder: str, out_dir: pathlib.Path) -> None:
    """Copies finished examples and compares the shards with their checksums.

    Args:
        folder: The folder.
        out_dir: An empty local folder.

    Raises:
        InvalidInputError: A shard is missing, or is not what was written.
    """
    names = [path.removeprefix(join(folder, "")) for path in _files(folder)]

    def copy(name: str) -> str:
        return _copy(join(folder, name), out_dir / name)

    with ThreadPoolExecutor(_FILES_AT_ONCE) as threads:
        found = dict(zip(names, threads.map(copy, names), strict=True))
    for name, shard in json.loads((out_dir / "shards.json").read_text(encoding="utf-8")).items():
        if found.get(name) != shard["sha256"]:
            raise InvalidInputError(
                f"{join(folder, name)}: the file is {'damaged' if name in found else 'missing'}. "
                "Remove the folder and build the examples again."
            )


def _files(folder: str) -> list[str]:
    """All files at any depth, but for what a worker that was killed may have left half-written."""
    matched = FileSystems.match([join(folder, "**")])[0].metadata_list
    return sorted(m.path for m in matched if not m.path.rpartition("/")[2].startswith("."))


def _copy(source: str, target: pathlib.Path) -> str:
    """Copies a file and returns its SHA-256, hexadecimal."""
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    with open_file(source) as stream, target.open("wb") as out:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
            out.write(block)
    return digest.hexdigest()


def _read(path: str) -> bytes:
    with open_file(path) as stream:
        return stream.read()
