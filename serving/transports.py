"""What the ways to a server that speaks the TensorFlow Serving API have in common."""

from __future__ import annotations

import dataclasses
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

ARM_HEADER = "x-experiment-arm"
_T = TypeVar("_T")


class ServingError(RuntimeError):
    """A server did not answer a request.

    Attributes:
        code: Name of the canonical code, such as `NOT_FOUND`; over REST it is told from the
            status, which some codes share.
        message: What the server said.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


@dataclasses.dataclass(frozen=True)
class SignatureInfo:
    """What a signature takes and returns.

    Attributes:
        dtypes: Types of inputs by name, such as `DT_STRING`.
        outputs: Names.
    """

    dtypes: Mapping[str, str]
    outputs: Sequence[str]


class Transport(Protocol):
    """Asks one model of one server."""

    def predict(
        self,
        choice: Mapping[str, Any],
        signature: str,
        inputs: Mapping[str, np.ndarray],
        arm: str,
        timeout: float,
    ) -> dict[str, np.ndarray]:
        """Asks for the outputs of a signature.

        Returns:
            By name; strings are str or bytes in object arrays. The name of an only output may be
            "".
        """

    def signatures(self, choice: Mapping[str, Any], timeout: float) -> dict[str, SignatureInfo]:
        """Returns the signatures of a version by name."""

    def status(self, choice: Mapping[str, Any], timeout: float) -> list[tuple[int, str, str]]:
        """Returns number, state and error of versions."""

    def close(self) -> None:
        """Closes connections."""


def with_retries(call: Callable[[float], _T], timeout: float, attempts: int) -> _T:
    """Calls until the server is available, with growing pauses.

    Args:
        call: Takes the seconds that are left.
        timeout: Seconds for everything.
        attempts: At most.

    Raises:
        ServingError: The last one; of another code than `UNAVAILABLE` the first one.
    """
    deadline = time.monotonic() + timeout
    for attempt in range(1, attempts + 1):
        try:
            return call(max(deadline - time.monotonic(), 0.001))
        except ServingError as error:
            pause = 0.05 * 2**attempt * random.uniform(0.5, 1.0)
            is_last = attempt == attempts or time.monotonic() + pause >= deadline
            if error.code != "UNAVAILABLE" or is_last:
                raise
        time.sleep(pause)
    raise AssertionError("`attempts` is at least 1")
