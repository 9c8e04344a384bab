"""The versions of a model: what is served of them, and what was.

TensorFlow Serving reads `models.config` in one piece: it assigns the labels first, refuses the
whole file if one in use would move to a version that is not loaded, and only then loads and
unloads. So

- a label in use moves only to a version that was listed, and loaded, before;
- what had a label until now, and what a rollback would return to, stays listed: a rollback is one
  replacement of the file, whatever happened in between;
- a new label may point to a version that is not loaded yet, given the server's flag
  `--allow_version_labels_for_unavailable_models`, which it needs to start with labels at all.

Source: `ServerCore::ReloadConfig` and `UpdateModelVersionLabelMap` of TensorFlow Serving.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping

from fairness_losses.errors import InvalidInputError
from serving.models_config import Served, read_models_config, write_models_config
from serving.whole_files import write_json

STABLE, CANARY = "stable", "canary"
HISTORY_FILE = "versions.json"


@dataclasses.dataclass(frozen=True)
class Versions:
    """The versions of a model.

    Attributes:
        folder: Of the model.
        served: What a server is told.
        newest: The newest that was ever listed; 0 if none was.
        stable: What `stable` has pointed to, oldest first; the last is what it points to. A
            rollback takes the last away.
        listed_at: When each of the served versions was listed, in seconds since 1970.
    """

    folder: pathlib.Path
    served: Served
    newest: int
    stable: tuple[int, ...]
    listed_at: Mapping[int, float]

    @classmethod
    def load(cls, folder: pathlib.Path) -> Versions:
        """Reads `models.config`, and what `versions.json` remembers.

        Raises:
            InvalidInputError: The folder is not there, or `models.config` is not of this model.
        """
        if not folder.is_dir():
            raise InvalidInputError(f"{folder}: there is no such folder of a model's versions.")
        served, path = _on_disk(read_models_config(folder), folder), folder / HISTORY_FILE
        known = json.loads(path.read_text()) if path.is_file() else {}
        history = [v for v in known.get("stable", []) if (folder / str(v)).is_dir()]
        current = served.labels.get(STABLE)
        # `models.config` is what counts: a process may have been killed between the two files.
        if current in history:
            while history[-1] != current:
                history.pop()
        elif current is not None:
            history.append(current)
        times = {int(version): at for version, at in known.get("listed_at", {}).items()}
        return cls(
            folder=folder,
            served=served,
            newest=max([known.get("newest", 0), *served.versions]),
            stable=tuple(history),
            listed_at={version: times.get(version, 0.0) for version in served.versions},
        )

    @property
    def before(self) -> int | None:
        """What a rollback returns to."""
        return self.stable[-2] if len(self.stable) > 1 else None

    @property
    def on_disk(self) -> list[int]:
        """The versions whose folders are there, ascending."""
        names = (path.name for path in self.folder.iterdir() if path.is_dir())
        return sorted(int(name) for name in names if name.isdecimal())

    def with_labels(self, labels: Mapping[str, int], stable: tuple[int, ...]) -> Versions:
        """Returns the versions with labels moved; those that labels pointed to stay listed.

        Args:
            labels: All labels.
            stable: The history that goes with them.
        """
        return dataclasses.replace(self, stable=stable).listing(
            self.served.labels.values(), labels=labels
        )

    def listing(self, more: Iterable[int], labels: Mapping[str, int] | None = None) -> Versions:
        """Returns the versions with the least that has to be listed, and more.

        Args:
            more: Versions that are listed although no label needs them.
            labels: All labels; as they are, if not given.
        """
        labels = self.served.labels if labels is None else labels
        wanted = {*labels.values(), *more, *([self.before] if self.before else [])}
        listed = tuple(sorted(wanted))
        return dataclasses.replace(
            self,
            served=Served(listed, dict(labels)),
            newest=max([self.newest, *listed]),
            listed_at={version: self.listed_at.get(version, time.time()) for version in listed},
        )

    def save(self) -> None:
        """Replaces `models.config`, then `versions.json`, each in one step."""
        write_models_config(self.folder, self.served)
        content = {
            "newest": self.newest,
            "stable": list(self.stable),
            "listed_at": {str(version): at for version, at in self.listed_at.items()},
        }
        write_json(content, self.folder / HISTORY_FILE)


def _on_disk(served: Served, folder: pathlib.Path) -> Served:
    """What is told of versions whose folders are still there."""
    there = tuple(v for v in served.versions if (folder / str(v)).is_dir())
    return Served(there, {name: v for name, v in served.labels.items() if v in there})


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Lets one process at a time change what is served of a model.

    Raises:
        InvalidInputError: Another one is at it, or the folder is not there.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise InvalidInputError(
            f"{folder}: there is no such folder of a model's versions."
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise InvalidInputError(
            f"{folder}: another process is changing what is served. Wait for it."
        ) from None
    finally:
        os.close(handle)


def add_version(folder: pathlib.Path, version: int) -> list[str]:
    """Tells servers of a new version: as `stable` if there is none, else as `canary`.

    If `canary` points to another version, the new one is loaded without a label: a server would
    refuse to move the label before, see `serving.promotion.promote`. A version that was there
    before stays what it was, so that one that was rolled back does not return.

    Args:
        folder: Of the model.
        version: Its folder is complete.

    Returns:
        The labels that point to it then.
    """
    with locked(folder):
        versions = Versions.load(folder)
        labels, stable = dict(versions.served.labels), versions.stable
        if version > versions.newest or not labels:
            if STABLE not in labels:
                labels, stable = {**labels, STABLE: version}, (*stable, version)
            else:
                labels.setdefault(CANARY, version)
            others = (version, *versions.served.labels.values())
            dataclasses.replace(versions, stable=stable).listing(others, labels).save()
        return [name for name, labelled in labels.items() if labelled == version]


def delete_old(folder: pathlib.Path, keep: int) -> list[int]:
    """Deletes all but the newest versions, and those that are served or were before `stable`.

    Args:
        folder: Of the model.
        keep: Versions to keep.

    Returns:
        What was deleted.
    """
    with locked(folder):
        versions = Versions.load(folder)
        kept = {*versions.on_disk[-keep:], *versions.served.versions, versions.before}
        old = [version for version in versions.on_disk if version not in kept]
        for version in old:
            # Renamed, so that nobody finds half of it.
            hidden = folder / f".deleted-{version}"
            (folder / str(version)).rename(hidden)
            shutil.rmtree(hidden)
        return old
