"""Answers that are errors, as the same canonical codes on gRPC and on HTTP."""

from __future__ import annotations

import enum
from typing import Any


class Code(enum.Enum):
    """Canonical codes with their number on gRPC and their status on HTTP.

    Source: `ToHTTPStatusCode` in TensorFlow Serving's `model_servers/http_server.cc`.
    """

    OK = (0, 200)
    CANCELLED = (1, 499)
    UNKNOWN = (2, 500)
    INVALID_ARGUMENT = (3, 400)
    DEADLINE_EXCEEDED = (4, 504)
    NOT_FOUND = (5, 404)
    ALREADY_EXISTS = (6, 409)
    PERMISSION_DENIED = (7, 403)
    RESOURCE_EXHAUSTED = (8, 429)
    FAILED_PRECONDITION = (9, 400)
    ABORTED = (10, 409)
    OUT_OF_RANGE = (11, 400)
    UNIMPLEMENTED = (12, 501)
    INTERNAL = (13, 500)
    UNAVAILABLE = (14, 503)
    DATA_LOSS = (15, 500)
    UNAUTHENTICATED = (16, 401)

    def __init__(self, number: int, http: int) -> None:
        self.number = number
        self.http = http


_BY_NUMBER = {code.number: code for code in Code}


class StatusError(Exception):
    """A request cannot be answered.

    Attributes:
        code: Canonical code.
        message: For the client; holds no traceback.
    """

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"


def invalid(message: str) -> StatusError:
    """Returns the error of a request that is wrong whatever the server's state."""
    return StatusError(Code.INVALID_ARGUMENT, message)


def from_exception(error: BaseException) -> StatusError:
    """Translates what TensorFlow raised.

    Args:
        error: An error of an op keeps its code; all else is `INTERNAL`.

    Returns:
        The error for the client, without the graph's stack traces.
    """
    if isinstance(error, StatusError):
        return error
    number: Any = getattr(error, "error_code", None)
    if number not in _BY_NUMBER:
        return StatusError(Code.INTERNAL, f"{type(error).__name__}: {error}")
    message = str(getattr(error, "message", error))
    for start_of_traces in ("\n\nOriginal stack trace", "\n\nDetected at node", "Detected at node"):
        message = message.split(start_of_traces)[0]
    return StatusError(_BY_NUMBER[number], message.strip())
