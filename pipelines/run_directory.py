"""The run directory: every stage's output appears whole or not at all, and is skipped if current.

A stage writes into a hidden folder beside its place, which takes that place by a rename when it is
complete. Its `stage.json` says what produced it; a stage whose settings and inputs have the same
fingerprint is up to date. A process killed at any moment leaves the previous output in place.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import pathlib
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

from fairness_losses.errors import InvalidInputError
from pipelines.config import fingerprint

RECORD = "stage.json"

_PACKAGES = [
    "fairtowers",
    "apache-beam",
    "numpy",
    "pyarrow",
    "scann",
    "tensorflow",
    "tensorflow-data-validation",
    "tensorflow-recommenders",
]


@dataclasses.dataclass(frozen=True)
class StageRecord:
    """What produced a stage's output.

    Attributes:
        stage: Its name, which is also its folder: `examples`, `exposure_parity/model`.
        fingerprint: Hash of its settings, its inputs and the versions of the packages.
        inputs: Fingerprints of the stages it read.
        result: What the stage says of itself: counts, measurements.
        seconds: Wall time.
        versions: Package versions.
    """

    stage: str
    fingerprint: str
    inputs: dict[str, str]
    result: dict[str, Any]
    seconds: float
    versions: dict[str, str]


class RunDirectory:
    """A folder of stages.

    Args:
        root: The folder; created if missing.
        force: Whether stages run although they are up to date.

    Raises:
        InvalidInputError: It cannot be a folder.
    """

    def __init__(self, root: pathlib.Path, force: bool = False) -> None:
        self.root = root
        self.force = force
        try:
            root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInputError(
                f"{root}: cannot be the run directory ({error.strerror}). Give another `--out`."
            ) from error

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out of the folder.

        Raises:
            InvalidInputError: Another process is at work in it.
        """
        with (self.root / ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InvalidInputError(
                    f"{self.root}: another fairtowers process is working in this folder. Wait for "
                    "it, or give another `--out`."
                ) from None
            # A process that was killed may have left it behind.
            self._write_manifest()
            yield

    def path(self, stage: str) -> pathlib.Path:
        """Returns the folder of a stage."""
        return self.root / stage

    def record(self, stage: str) -> StageRecord | None:
        """Returns what produced a stage, or nothing if it has not been completed."""
        self._recover(stage)
        path = self.path(stage) / RECORD
        return StageRecord(**json.loads(path.read_text())) if path.is_file() else None

    def required(self, stage: str, command: str) -> StageRecord:
        """Returns what produced a stage that another one needs.

        Raises:
            InvalidInputError: It has not been completed, or not since what it read was made anew.
        """
        record = self.record(stage)
        if record is None:
            raise InvalidInputError(
                f"{self.path(stage)} is not there. Run `fairtowers {command}` first."
            )
        for name, used in record.inputs.items():
            source = self.record(name)
            if source is not None and source.fingerprint != used:
                raise InvalidInputError(
                    f"{self.path(stage)} is older than `{name}`, which it was made from. Run "
                    f"`fairtowers {command}` first."
                )
        return record

    def is_fresh(self, stage: str) -> bool:
        """Whether a stage is complete, and nothing that it was made from has been made anew."""
        record = self.record(stage)
        if record is None:
            return False
        sources = [(self.record(name), used) for name, used in record.inputs.items()]
        return all(
            source is not None and source.fingerprint == used and self.is_fresh(source.stage)
            for source, used in sources
        )

    def is_current(self, stage: str, settings: object, inputs: dict[str, str]) -> bool:
        """Whether a stage's output is what these settings and inputs give."""
        record = self.record(stage)
        return record is not None and record.fingerprint == _wanted(settings, inputs)

    def build(
        self,
        stage: str,
        settings: object,
        inputs: dict[str, str],
        write: Callable[[pathlib.Path], dict[str, Any]],
        resumes: bool = False,
    ) -> StageRecord:
        """Makes a stage's output anew and puts it in the place of the previous one.

        Args:
            stage: Its name.
            settings: What its output depends on besides its inputs.
            inputs: Name to fingerprint of what it reads.
            write: Writes the output into the folder it is given and returns what it has to say.
            resumes: Whether `write` continues what a killed call of itself left.

        Returns:
            The stage's record.
        """
        wanted = _wanted(settings, inputs)
        partial = self._partial(stage, wanted, resumes)
        started = time.monotonic()
        result = write(partial)
        seconds = round(time.monotonic() - started, 2)
        record = StageRecord(stage, wanted, inputs, result, seconds, _versions())
        (partial / RECORD).write_text(json.dumps(dataclasses.asdict(record), indent=1))
        self._replace(stage, partial)
        self._write_manifest()
        return record

    def _partial(self, stage: str, wanted: str, resumes: bool) -> pathlib.Path:
        """Returns the folder to write into, emptied of what other settings left in it."""
        folder = _hidden(self.path(stage), f"partial-{wanted}")
        for left in folder.parent.glob(_hidden(self.path(stage), "partial-*").name):
            if left != folder or self.force or not resumes:
                shutil.rmtree(left)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _replace(self, stage: str, partial: pathlib.Path) -> None:
        final, old = self.path(stage), _hidden(self.path(stage), "old")
        if final.exists():
            final.rename(old)
        partial.rename(final)
        shutil.rmtree(old, ignore_errors=True)

    def _recover(self, stage: str) -> None:
        """Undoes a replacement that was killed between its two renames."""
        final, old = self.path(stage), _hidden(self.path(stage), "old")
        if old.exists() and not final.exists():
            old.rename(final)
        shutil.rmtree(old, ignore_errors=True)

    def _write_manifest(self) -> None:
        """Gathers the records of all stages, the newest last."""
        paths = sorted(self.root.rglob(RECORD), key=lambda p: p.stat().st_mtime)
        stages = [json.loads(path.read_text()) for path in paths if not self._is_hidden(path)]
        manifest = {"stages": stages}
        temporary = self.root / ".manifest.json"
        temporary.write_text(json.dumps(manifest, indent=1))
        temporary.replace(self.root / "manifest.json")

    def _is_hidden(self, path: pathlib.Path) -> bool:
        return any(part.startswith(".") for part in path.relative_to(self.root).parts)


def _wanted(settings: object, inputs: dict[str, str]) -> str:
    return fingerprint(settings, inputs, _versions())


def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def files_fingerprint(paths: list[pathlib.Path]) -> str:
    """Returns a hash of files' names, sizes and modification times.

    Raises:
        InvalidInputError: A file is missing.
    """
    for path in paths:
        if not path.exists():
            raise InvalidInputError(f"{path}: there is no such file.")
    return fingerprint([[str(p), p.stat().st_size, p.stat().st_mtime_ns] for p in sorted(paths)])


def _hidden(path: pathlib.Path, kind: str) -> pathlib.Path:
    return path.with_name(f".{path.name}.{kind}")
