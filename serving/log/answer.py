"""What a server hands to a log."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Answer:
    """An answer to a request of one or several queries.

    A log keeps the arrays as they are until it writes them: do not change them afterwards.

    Attributes:
        model: Name of the model.
        version: Number of the version that answered.
        signature: Name of the signature that was asked.
        inputs: What was sent by name, each `[num_queries]` or `[num_queries, n]`.
        outputs: What was answered by name, of the same first dimension.
        arm: Arm of an experiment; empty if there is none.
        unix_seconds: When it was answered, in seconds since 1970.
    """

    model: str
    version: int
    signature: str
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    arm: str
    unix_seconds: float


class AnswerLog(Protocol):
    """Keeps answers."""

    def append(self, answer: Answer) -> bool:
        """Takes an answer without waiting.

        Args:
            answer: What was answered.

        Returns:
            Whether the log has accepted it. One that has not is counted as dropped.
        """

    def close(self) -> object:
        """Writes what it has accepted, and ends."""
