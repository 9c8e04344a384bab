"""A version of a model and where it is in its life."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import pathlib

from serving.server.errors import StatusError
from serving.server.loader import LoadedVersion


class State(enum.IntEnum):
    """State of a version, with the numbers of `ModelVersionStatus.State`."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass
class Version:
    """A version and what became of it.

    Attributes:
        state: Where it is in its life.
        error: Why it could not be loaded.
        loaded: Set while it is available or being unloaded.
        requests: Requests that use it now.
        content: What its folder held when loading it failed; it is tried again when that changes.
    """

    state: State = State.START
    error: StatusError | None = None
    loaded: LoadedVersion | None = None
    requests: int = 0
    content: tuple = ()
    _unused: asyncio.Event | None = None

    async def wait_until_unused(self) -> None:
        """Returns when no request uses it any more."""
        if self.requests:
            self._unused = asyncio.Event()
            await self._unused.wait()

    def release(self) -> None:
        """Says that a request is done with it."""
        self.requests -= 1
        if not self.requests and self._unused is not None:
            self._unused.set()


def folder_content(folder: pathlib.Path) -> tuple:
    """Returns names, sizes and times of the files that make a SavedModel."""
    files = [folder / "saved_model.pb", folder / "saved_model.pbtxt", folder / "metadata.json"]
    with contextlib.suppress(OSError):
        files += sorted((folder / "variables").iterdir())
    stats: list[tuple[str, int, int]] = []
    for file in files:
        with contextlib.suppress(OSError):
            stat = file.stat()
            stats.append((file.name, stat.st_size, stat.st_mtime_ns))
    return tuple(stats)
