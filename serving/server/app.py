"""The server as a whole: starts, looks for new versions, and stops without losing a request."""

from __future__ import annotations

import asyncio
import logging
import os
import pathlib
import signal
from collections.abc import Callable
from typing import Any

from grpc_health.v1 import health_pb2

from fairness_losses.errors import InvalidInputError
from serving.log.answer import AnswerLog
from serving.server.batching import BatchingRunner
from serving.server.config import ServerConfig
from serving.server.errors import StatusError
from serving.server.files import Files
from serving.server.grpc_service import make_grpc_server
from serving.server.listen import listen
from serving.server.metrics import Metrics
from serving.server.predict import Predictor
from serving.server.rest import RestApi
from serving.server.runners import DirectRunner, Runner
from serving.server.text_protos import (
    Batching,
    read_batching,
    read_metrics_path,
    read_models_config,
)
from serving.server.versions import VersionManager

_LOG = logging.getLogger(__name__)

_LAST_ANSWERS_SECONDS = 0.5


class ModelServer:
    """One server; all methods belong to one event loop.

    Attributes:
        grpc_port: Set by `start`.
        rest_port: Set by `start`.
    """

    def __init__(self, files: Files, config: ServerConfig, log: AnswerLog | None = None) -> None:
        """Reads the configuration files.

        Args:
            files: What to serve.
            config: Where to listen, and bounds.
            log: Is told every list.

        Raises:
            InvalidInputError: A file cannot be read or served.
        """
        self._files = files
        self._config = config
        self._log = log
        self._models_text = _read(files.models)
        self._models_config = read_models_config(files.models)
        self._batching = read_batching(files.batching) if files.batching else None
        self._metrics_path = read_metrics_path(files.monitoring) if files.monitoring else None
        self._stopping = False

    async def start(self) -> None:
        """Loads every model and then listens.

        Raises:
            InvalidInputError: A model has no version that can be loaded, or a port is taken.
        """
        config = self._config
        try:
            self._versions = VersionManager(self._models_config, self._files.mount)
        except StatusError as error:
            raise InvalidInputError(f"{self._files.models}: {error.message}") from error
        await self._versions.apply()
        self._check_all_there()
        metrics = Metrics(self._connections)
        self._computer = _make_runner(self._batching, config, metrics)
        self._predictor = Predictor(
            self._versions, self._computer, metrics, config.max_requests_at_once, self._log
        )
        self._rest = RestApi(self._predictor, config, self._metrics_path, self.is_ready)
        try:
            self._grpc, self._health, self.grpc_port = make_grpc_server(self._predictor, config)
            self._runner, self._listener = await listen(self._rest.app, config)
        except (OSError, RuntimeError) as error:
            raise InvalidInputError(
                f"The ports {config.grpc_port} and {config.rest_port} of {config.host} cannot be "
                f"listened on ({error}). Give others, or 0 for free ones."
            ) from error
        self.rest_port = self._listener.sockets[0].getsockname()[1]
        await self._grpc.start()
        await self._health.set("", health_pb2.HealthCheckResponse.SERVING)
        self._polling = asyncio.get_running_loop().create_task(self._poll())

    def _connections(self) -> int:
        server = self._runner.server
        return len(server.connections) if server is not None else 0

    def _check_all_there(self) -> None:
        missing = self._versions.missing()
        for name, error in missing.items():
            reason = f": {error.message}" if error is not None else ""
            raise InvalidInputError(
                f"{self._files.models}: no version of `{name}` could be loaded{reason}. Its "
                f"`base_path` should hold a folder per version; a path `/models/...` is looked "
                f"for in {self._files.mount}."
            )

    def is_ready(self) -> bool:
        """Whether every model can be asked, and the server is not about to stop."""
        return not self._stopping and not self._versions.missing()

    async def _poll(self) -> None:
        """Takes over a changed `models.config`, and loads new versions."""
        while True:
            await asyncio.sleep(self._config.poll_seconds)
            try:
                self._read_again()
                await self._versions.apply()
            except (InvalidInputError, StatusError) as error:
                _LOG.error("The configuration in use stays: %s", error)
            except Exception:
                _LOG.exception("Looking for new versions failed.")

    def _read_again(self) -> None:
        text = _read(self._files.models)
        if text != self._models_text:
            self._models_text = text
            self._versions.take_over(read_models_config(self._files.models))
            _LOG.info("%s has changed and is taken over.", self._files.models)

    async def stop(self) -> bool:
        """Takes no more requests, finishes those under way and frees everything.

        Returns:
            Whether all requests were finished in time.
        """
        self._stopping = True
        await self._health.enter_graceful_shutdown()
        self._polling.cancel()
        self._listener.close()
        # From here on gRPC takes no new calls.
        stopping = asyncio.ensure_future(self._grpc.stop(self._config.drain_seconds))
        is_done = await self._predictor.wait_until_idle(self._config.drain_seconds)
        # Streams of the health service never end by themselves; the last answers leave meanwhile.
        await self._grpc.stop(_LAST_ANSWERS_SECONDS)
        await stopping
        await self._runner.cleanup()
        if is_done:
            await self._versions.close()
            self._computer.close()
        return is_done


def serve(
    files: Files,
    config: ServerConfig,
    announce: Callable[[ModelServer], None],
    log: AnswerLog | None = None,
) -> None:
    """Serves until SIGTERM or SIGINT.

    Args:
        files: What to serve.
        config: Where to listen, and bounds.
        announce: Called when the server listens.
        log: Is told every list.

    Raises:
        InvalidInputError: The configuration cannot be served.
    """
    is_done = asyncio.run(_serve(ModelServer(files, config, log), announce))
    if log is not None:
        log.close()
    if not is_done:
        _LOG.error("Requests were still under way after %g seconds.", config.drain_seconds)
        # Threads that compute would keep the process alive.
        os._exit(1)


async def _serve(server: ModelServer, announce: Callable[[ModelServer], None]) -> bool:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    announce(server)
    await stop.wait()
    return await server.stop()


def _make_runner(batching: Batching | None, config: ServerConfig, metrics: Metrics) -> Runner:
    if batching is not None:
        return BatchingRunner(batching, metrics)
    return DirectRunner(os.cpu_count() or 1, config.max_rows)


def _read(path: pathlib.Path) -> Any:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{path}: cannot be read ({error}).") from error
