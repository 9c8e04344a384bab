"""Salts that user ids are hashed with: a new one every period, and old ones are deleted.

A user's hash is the same for a period and for all processes that share the folder of the salts.
Across periods, hashes can be linked only by who has both salts and knows the user's id.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import secrets
import tempfile
from collections.abc import Iterable

from fairness_losses.errors import InvalidInputError

_BYTES = 32
_DIGEST = 16
"""Bytes of a hash. Among a billion users, two share one with a chance of 1e-21."""


class Salts:
    """The salts of a folder, made when they are needed.

    Args:
        folder: One file per salt, `<first second of its period>.salt`, which only its owner may
            read; created if missing.
        period: Seconds for which a salt is used.
        keep: Salts kept.

    Raises:
        InvalidInputError: The folder cannot be made, or others may look into it.
    """

    def __init__(self, folder: pathlib.Path, period: int, keep: int) -> None:
        self._folder, self._period, self._keep = folder, period, keep
        self._known: dict[int, bytes] = {}
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = folder.stat().st_mode & 0o777
        except OSError as error:
            raise InvalidInputError(
                f"{folder}: cannot hold the salts of user ids ({error.strerror}). Give another "
                "`serving.log.salts`."
            ) from error
        if mode & 0o077:
            raise InvalidInputError(
                f"{folder}: others may look into the folder of the salts (mode {mode:o}). Run "
                f"`chmod 700 {folder}`."
            )

    def start_of(self, unix_seconds: float) -> int:
        """Returns the first second of the period that a time lies in."""
        return int(unix_seconds // self._period) * self._period

    def salt(self, start: int) -> bytes:
        """Returns the salt of a period, and deletes those that are too old beside it.

        Args:
            start: First second of the period.

        Raises:
            OSError: It cannot be written.
        """
        known = self._known.get(start)
        if known is None:
            known = self._known[start] = read_salt(self._folder, start) or self._make(start)
            self._delete_before(max(self._known) - (self._keep - 1) * self._period)
        return known

    def _make(self, start: int) -> bytes:
        """Writes a new salt; of several processes that try, one does and the others read it."""
        handle, name = tempfile.mkstemp(dir=self._folder)  # Of mode 600.
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(_BYTES))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):
                os.link(name, _path(self._folder, start))
        finally:
            pathlib.Path(name).unlink()
        return _path(self._folder, start).read_bytes()

    def _delete_before(self, oldest: int) -> None:
        for start in kept_salts(self._folder):
            if start < oldest:
                _path(self._folder, start).unlink(missing_ok=True)
        # A list that comes with a time so far back has its salt made, used once and deleted.
        self._known = {s: salt for s, salt in self._known.items() if s >= oldest}


def read_salt(folder: pathlib.Path, start: int) -> bytes | None:
    """Returns the salt of the period that begins with a second; None if it is not kept.

    Raises:
        OSError: It is there but may not be read.
    """
    try:
        return _path(folder, start).read_bytes()
    except FileNotFoundError:
        return None


def kept_salts(folder: pathlib.Path) -> list[int]:
    """Returns the first seconds of the periods whose salts a folder holds, ascending."""
    return sorted(int(p.stem) for p in folder.glob("*.salt") if p.stem.isdecimal())


def hash_ids(user_ids: Iterable[str], salt: bytes) -> list[str]:
    """Hashes user ids with BLAKE2b, keyed with the salt: 32 hexadecimal digits each.

    Source: RFC 7693.
    """
    blake2b = hashlib.blake2b
    return [blake2b(u.encode(), digest_size=_DIGEST, key=salt).hexdigest() for u in user_ids]


def _path(folder: pathlib.Path, start: int) -> pathlib.Path:
    return folder / f"{start}.salt"
