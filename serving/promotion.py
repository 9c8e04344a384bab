"""Moves the labels of a model between versions, without a moment in which one leads nowhere."""

from __future__ import annotations

import contextlib
import pathlib
import time
from collections.abc import Iterator, Sequence

from fairness_losses.errors import InvalidInputError
from serving.check import check_in_fresh_process
from serving.model_server import ModelServer
from serving.versions import CANARY, STABLE, Versions, locked

POLL_SECONDS = 30.0
"""How often servers of `serving/deploy` look at `models.config`."""


def promote(
    folder: pathlib.Path,
    version: int | None = None,
    label: str = STABLE,
    servers: Sequence[ModelServer] = (),
    poll_seconds: float = POLL_SECONDS,
) -> Versions:
    """Points a label to a version that answers as it did at its export.

    With servers, it makes them load the version, waits until all have, moves the label and lets
    them unload what nobody needs. Without, it writes `models.config` for servers that poll it, and
    moves a label in use only to a version that has been in the file for long enough; one that is
    not in it yet is put there, and has to be promoted again.

    Args:
        folder: Of the model.
        version: What to promote; by default the canary if it is newer than `stable`, or else the
            newest.
        label: `stable` or `canary`.
        servers: All running servers of this folder, or none.
        poll_seconds: How often servers that poll look at the file.

    Returns:
        The versions as they are then.

    Raises:
        InvalidInputError: There is no such version, it fails its check, the server cannot load it,
            or one that polls may not have loaded it yet. Labels are as they were.
    """
    with locked(folder):
        versions = Versions.load(folder)
        labels = versions.served.labels
        if version is None:
            version = _next(versions, label)
        if version not in versions.on_disk:
            raise InvalidInputError(
                f"{folder}: there is no version {version}. Those there are: "
                f"{', '.join(map(str, versions.on_disk)) or 'none'}."
            )
        if labels.get(label) == version:
            return versions
        waits = not servers and label in labels
        if waits and version in versions.served.versions:
            _check_loaded(versions, version, poll_seconds)
        _check(folder / str(version))
        if waits and version not in versions.served.versions:
            versions.listing((version, *labels.values())).save()
            raise InvalidInputError(
                f"version {version} was not in `models.config`. It is now, and the label can move "
                f"when the servers have loaded it: run the command again in {2 * poll_seconds:g} "
                "seconds, or give `--server`."
            )
        stable = (*versions.stable, version) if label == STABLE else versions.stable
        moved = versions.with_labels({**labels, label: version}, stable)
        return _move(versions, moved, version, servers)


def rollback(folder: pathlib.Path, servers: Sequence[ModelServer] = ()) -> Versions:
    """Points `stable` to what it pointed to before, and `canary`, too, if it is the same version.

    What was stable before is always loaded, so this is one step, and it takes as long as a server
    takes to look at `models.config`, or no time if it is given.

    Args:
        folder: Of the model.
        servers: All running servers of this folder, or none.

    Raises:
        InvalidInputError: There is nothing to return to.
    """
    with locked(folder):
        versions = Versions.load(folder)
        labels, before = versions.served.labels, versions.before
        if before is None:
            raise InvalidInputError(
                f"{folder}: `stable` has pointed to no other version that is still there."
            )
        now = labels[STABLE]
        moved = versions.with_labels(
            {name: before if v == now else v for name, v in labels.items()}, versions.stable[:-1]
        )
        return _move(versions, moved, before, servers)


def _next(versions: Versions, label: str) -> int:
    labels = versions.served.labels
    canary = labels.get(CANARY)
    if label == STABLE and canary is not None and canary > labels.get(STABLE, 0):
        return canary
    if not versions.on_disk:
        raise InvalidInputError(f"{versions.folder}: there is no version. Export one first.")
    return versions.on_disk[-1]


def _check(version_dir: pathlib.Path) -> None:
    try:
        check_in_fresh_process(version_dir)
    except RuntimeError as error:
        last = str(error).strip().splitlines()[-1]
        raise InvalidInputError(
            f"{version_dir}: does not answer as at its export: {last} Labels are as they were; "
            f"`python -m serving.check {version_dir}` says more."
        ) from error


def _check_loaded(versions: Versions, version: int, poll_seconds: float) -> None:
    """A server that polls has looked at the file once, and had as long again to load."""
    age = time.time() - versions.listed_at[version]
    left = 2 * poll_seconds - age
    if left > 0:
        raise InvalidInputError(
            f"version {version} was listed {age:.0f} seconds ago. A server that polls "
            f"`models.config` every {poll_seconds:g} seconds may not have loaded it, and would "
            f"refuse the label. Run the command again in {left:.0f} seconds, or give `--server`."
        )


def _move(old: Versions, new: Versions, version: int, servers: Sequence[ModelServer]) -> Versions:
    """Moves labels to a version; with servers, once all have loaded it."""
    if not servers:
        new.save()
        return new
    with _undone(old, servers):
        _tell(old.listing((*old.served.versions, version)), servers)
        for server in servers:
            server.wait_until_available(version)
    _tell(new, servers)
    least = new.listing(())
    _tell(least, servers)
    return least


def _tell(versions: Versions, servers: Sequence[ModelServer]) -> None:
    versions.save()
    for server in servers:
        server.reload(versions.served)


@contextlib.contextmanager
def _undone(old: Versions, servers: Sequence[ModelServer]) -> Iterator[None]:
    """Goes back to what was served when what is tried fails."""
    try:
        yield
    except InvalidInputError:
        old.save()
        for server in servers:
            with contextlib.suppress(InvalidInputError):
                server.reload(old.served)
        raise
