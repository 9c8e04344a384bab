"""What a serving log says of itself."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class LogCounts:
    """What became of the lists that a log was given.

    Attributes:
        accepted: For which `append` returned True.
        written: In files.
        failed: Accepted but not writable: malformed, or left when the log was closed while the disk
            was full.
        dropped: For which `append` returned False.
        pending: Accepted, and neither written nor failed yet.
    """

    accepted: int
    written: int
    failed: int
    dropped: int

    @property
    def pending(self) -> int:
        """See the class."""
        return self.accepted - self.written - self.failed
