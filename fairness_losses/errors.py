"""The one exception for input that a person can put right."""

from __future__ import annotations

from typing import ClassVar


class InvalidInputError(ValueError):
    """A value, file or setting that somebody gave is wrong, and the message says what to do.

    Every room raises it; the command line prints its message alone, without a traceback, and ends
    with `exit_code`.
    """

    exit_code: ClassVar[int] = 2


class DivergedError(InvalidInputError):
    """The loss of a training is no finite number any more."""
