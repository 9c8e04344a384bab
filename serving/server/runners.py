"""Calls of the graph, which must not block the event loop."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from serving.server.errors import invalid
from serving.server.loader import LoadedVersion
from serving.server.signatures import Signature

Arrays = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Call:
    """What is asked of the graph.

    Attributes:
        servable: The version.
        signature: One of its signatures.
        outputs: Names of the outputs.
    """

    servable: LoadedVersion
    signature: Signature
    outputs: tuple[str, ...]

    def run(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Computes the outputs, on any thread."""
        return self.servable.run(self.signature, inputs, self.outputs)


class Runner(Protocol):
    """Computes requests without blocking the event loop."""

    async def run(self, call: Call, inputs: Arrays, rows: int) -> Arrays:
        """Computes the outputs of one request.

        Args:
            call: What is asked.
            inputs: Validated.
            rows: Their number.

        Raises:
            StatusError: The request is too large, there are too many, or the graph failed.
        """

    def close(self) -> None:
        """Waits for the threads."""


class DirectRunner:
    """Every request is a call of its own."""

    def __init__(self, threads: int, max_rows: int) -> None:
        """Initialises the runner.

        Args:
            threads: Calls at the same time.
            max_rows: Rows of a request.
        """
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix="run")
        self._max_rows = max_rows

    async def run(self, call: Call, inputs: Arrays, rows: int) -> Arrays:
        """See `Runner`."""
        check_size(rows, self._max_rows)
        return await asyncio.get_running_loop().run_in_executor(self._executor, call.run, inputs)

    def close(self) -> None:
        """See `Runner`."""
        self._executor.shutdown()


def check_size(rows: int, max_rows: int) -> None:
    """Checks the rows of a request.

    Raises:
        StatusError: There are more than `max_rows`.
    """
    if rows > max_rows:
        raise invalid(f"Task size {rows} is larger than maximum input batch size {max_rows}")
