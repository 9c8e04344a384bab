"""What a log of served lists is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Answer:
    """One request that was answered with lists.

    Attributes:
        model: Name of the model.
        version: Its version.
        signature: Of the model; its outputs hold `candidate_ids`.
        inputs: By name, as the request had them; strings are bytes in an object array.
        outputs: By name, with the same first dimension; strings as above.
        arm: Of an experiment, as the request named it in `x-experiment-arm`; "" for none.
        unix_seconds: When it was answered.
    """

    model: str
    version: int
    signature: str
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    arm: str
    unix_seconds: float


class AnswerLog(Protocol):
    """Takes answers, one after the other, on the thread that serves requests."""

    def append(self, answer: Answer) -> bool:
        """Takes an answer without ever waiting.

        Returns:
            Whether it was taken; False if it was dropped.
        """
