"""One request to `Predict`, whichever way it came."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from serving.log.answer import Answer, AnswerLog
from serving.server.errors import Code, StatusError
from serving.server.loader import LoadedVersion
from serving.server.metrics import Metrics
from serving.server.runners import Call, Runner
from serving.server.signatures import CLASSIFY, PREDICT, REGRESS, Signature
from serving.server.versions import VersionManager

DEFAULT_SIGNATURE = "serving_default"
LIST_OUTPUT = "candidate_ids"
"""A signature with this output returns lists, and its answers are logged."""

ARM_HEADER = "x-experiment-arm"


class Predictor:
    """Answers requests with the loaded versions.

    Attributes:
        versions: The loaded versions.
        metrics: Counts every request.
    """

    def __init__(
        self,
        versions: VersionManager,
        runner: Runner,
        metrics: Metrics,
        max_requests: int,
        log: AnswerLog | None,
    ) -> None:
        """Initialises the predictor.

        Args:
            versions: The loaded versions.
            runner: Computes.
            metrics: Counts every request.
            max_requests: Requests at the same time.
            log: Is told every list.
        """
        self.versions = versions
        self.metrics = metrics
        self._runner = runner
        self._max_requests = max_requests
        self._log = log
        self._under_way = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @contextlib.contextmanager
    def measured(self, model: str, entrypoint: str) -> Iterator[None]:
        """Counts a request, in the metrics and among those under way.

        Raises:
            StatusError: There are too many at once, or what the body raised.
        """
        start, status = time.perf_counter(), Code.OK.name
        self._under_way += 1
        self._idle.clear()
        try:
            if self._under_way > self._max_requests:
                raise StatusError(
                    Code.UNAVAILABLE,
                    f"The server has {self._max_requests} requests under way; try again later",
                )
            yield
        except StatusError as error:
            status = error.code.name
            raise
        except asyncio.CancelledError:
            status = Code.CANCELLED.name
            raise
        except Exception:
            status = Code.INTERNAL.name
            raise
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._idle.set()
            known = model if model in self.versions.names else ""
            self.metrics.record(known, entrypoint, status, time.perf_counter() - start)

    async def wait_until_idle(self, timeout: float) -> bool:
        """Waits for the requests under way.

        Args:
            timeout: In seconds.

        Returns:
            Whether all are done.
        """
        try:
            await asyncio.wait_for(self._idle.wait(), timeout)
        except asyncio.TimeoutError:
            return False
        return True

    async def predict(
        self,
        servable: LoadedVersion,
        signature: Signature,
        inputs: dict[str, np.ndarray],
        output_filter: Iterable[str],
        arm: str,
    ) -> dict[str, np.ndarray]:
        """Computes the outputs of one request.

        Args:
            servable: Borrowed until the answer is there.
            signature: One of its signatures.
            inputs: By name.
            output_filter: Names of outputs; empty for all.
            arm: Of an experiment, "" for none.

        Raises:
            StatusError: The request does not fit the signature, or cannot be computed.
        """
        if signature.method not in (PREDICT, CLASSIFY, REGRESS):
            raise StatusError(
                Code.INTERNAL,
                f"Expected prediction signature method_name to be one of {{{PREDICT}, {CLASSIFY}, "
                f"{REGRESS}}}. Was: {signature.method}",
            )
        signature.check_names(inputs)
        rows = signature.validate(inputs)
        call = Call(servable, signature, tuple(signature.choose_outputs(output_filter)))
        outputs = await self._runner.run(call, inputs, rows)
        if self._log is not None and LIST_OUTPUT in outputs:
            self._tell_log(call, inputs, outputs, arm)
        return outputs

    def _tell_log(
        self,
        call: Call,
        inputs: Mapping[str, np.ndarray],
        outputs: Mapping[str, np.ndarray],
        arm: str,
    ) -> None:
        assert self._log is not None
        name, version = call.servable.name, call.servable.version
        answer = Answer(name, version, call.signature.name, inputs, outputs, arm, time.time())
        try:
            taken = self._log.append(answer)
        except Exception:
            # The list is computed and correct: its reader gets it, whatever the log does.
            logging.getLogger(__name__).exception("The log of served lists failed.")
            taken = False
        if not taken:
            self.metrics.dropped_answers.inc()


def rest_signature(servable: LoadedVersion, name: str) -> Signature:
    """Finds a signature; the error is that of TensorFlow Serving's REST API.

    Raises:
        StatusError: There is none of this name.
    """
    name = name or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        raise StatusError(
            Code.INVALID_ARGUMENT, f'Serving signature name: "{name}" not found in signature def'
        )
    return servable.signatures[name]


def grpc_signature(servable: LoadedVersion, name: str) -> Signature:
    """Finds a signature; the error is that of TensorFlow Serving's gRPC API.

    Raises:
        StatusError: There is none of this name.
    """
    name = name or DEFAULT_SIGNATURE
    if name not in servable.signatures:
        raise StatusError(Code.FAILED_PRECONDITION, f'Serving signature key "{name}" not found.')
    return servable.signatures[name]


def classify_or_regress_error(servable: LoadedVersion, name: str, method: str) -> StatusError:
    """Says why `Classify` or `Regress` cannot be answered.

    Args:
        servable: The version that was asked.
        name: Of the signature; "" for the default.
        method: `CLASSIFY` or `REGRESS`.

    Returns:
        The error of TensorFlow Serving where the signature has another method. One that has this
        method is not implemented here: retrieval has none.
    """
    name, kind = name or DEFAULT_SIGNATURE, {CLASSIFY: "classification", REGRESS: "regression"}
    signature = servable.signatures.get(name)
    if signature is None:
        return StatusError(Code.INVALID_ARGUMENT, f"No signature was found with the name: {name}")
    if signature.method != method:
        return StatusError(
            Code.INVALID_ARGUMENT,
            f"Expected {kind[method]} signature method_name to be {method}. "
            f"Was: {signature.method}",
        )
    return StatusError(
        Code.UNIMPLEMENTED,
        f"This server answers Predict only; ask {name} with Predict, or serve the model with "
        "TensorFlow Serving",
    )
