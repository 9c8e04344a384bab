"""Settings of the serving log."""

from __future__ import annotations

import pathlib

from pydantic import Field, model_validator

from fairness_losses.config import Settings


class LogConfig(Settings):
    """Where served lists are written to, how much may wait, and how user ids are hashed."""

    directory: str | None = None
    """Folder of the log; without one nothing is logged. Relative to where the server starts."""

    salts: str | None = None
    """Folder of the salts that user ids are hashed with; needed with `directory`, and outside of
    it. Who can read both can tell users apart by name: give it to the server and the audit alone.
    Servers that share a log share it, too."""

    salt_period: int = Field(default=86_400, ge=60)
    """Seconds for which a salt is used. Within them the lists of a user can be linked."""

    keep_salts: int = Field(default=7, ge=1)
    """Salts kept, that in use included; then a salt is deleted, and nobody can tell any more whose
    the lists of its period were, the audit included."""

    max_pending: int = Field(default=50_000, ge=1)
    """Lists that may wait to be written; more are dropped, and counted. A list of 100 takes some
    4 kB, and up to 12 kB in the first tenth of a second."""

    rotate_rows: int = Field(default=20_000, ge=1)
    """A file is written when so many lists wait for it."""

    rotate_seconds: float = Field(default=60.0, gt=0)
    """A list is in a file after so many seconds at the latest, if the disk allows it: what a
    process that is killed loses."""

    rotate_mb: float = Field(default=64.0, gt=0)
    """A file is written when the lists that wait for it are so large in memory, in MB."""

    @model_validator(mode="after")
    def _check_salts(self) -> LogConfig:
        if (self.directory is None) != (self.salts is None):
            raise ValueError("`directory` and `salts` belong together: give both or none.")
        if self.directory is not None and self.salts is not None:
            log, salts = (pathlib.Path(p).absolute() for p in (self.directory, self.salts))
            if salts == log or log in salts.parents:
                raise ValueError(
                    "`salts` should lie outside of `directory`: who may read the log should not "
                    f"be able to read them. Received: {self.salts!r} and {self.directory!r}."
                )
        if self.rotate_rows > self.max_pending:
            raise ValueError(
                "`rotate_rows` should be at most `max_pending`. Received: "
                f"{self.rotate_rows} and {self.max_pending}."
            )
        return self
