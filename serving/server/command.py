"""Finds the files that `fairtowers serve` was pointed at, and serves them."""

from __future__ import annotations

import logging
import os
import pathlib
from collections.abc import Callable
from typing import Any

from fairness_losses.errors import InvalidInputError
from serving.server.answer_log import AnswerLog
from serving.server.app import Files, ModelServer, serve
from serving.server.config import ServerConfig
from serving.server_configs import BATCHING_FILE, MODELS_FILE, MONITORING_FILE


def find_files(
    models: pathlib.Path,
    batching: pathlib.Path | None = None,
    monitoring: pathlib.Path | None = None,
    mount: pathlib.Path | None = None,
    with_batching: bool = True,
) -> Files:
    """Finds the configuration files.

    Args:
        models: The `models.config`, or a folder that holds it.
        batching: The `batching.config`; by default that of the folder, if there is one.
        monitoring: The `monitoring.config`; by default that of the folder, if there is one.
        mount: What containers see as `/models`; by default the folder above.
        with_batching: Whether requests are merged.

    Raises:
        InvalidInputError: There is no `models.config`.
    """
    folder = models if models.is_dir() else models.parent
    file = models / MODELS_FILE if models.is_dir() else models
    if not file.is_file():
        raise InvalidInputError(
            f"{models}: should be a `{MODELS_FILE}` or a folder that holds one, such as the "
            "`serving/<name>` of a run."
        )
    if models.is_dir():
        batching = batching or _if_there(folder / BATCHING_FILE)
        monitoring = monitoring or _if_there(folder / MONITORING_FILE)
    mount = mount or folder.resolve().parent
    return Files(file, batching if with_batching else None, monitoring, mount)


def run_server(
    models: pathlib.Path,
    batching: pathlib.Path | None,
    monitoring: pathlib.Path | None,
    mount: pathlib.Path | None,
    with_batching: bool,
    announce: Callable[[str], None],
    log: AnswerLog | None = None,
    **settings: Any,
) -> None:
    """Serves until it is told to stop.

    Args:
        models: See `find_files`, also for the next four.
        batching: See there.
        monitoring: See there.
        mount: See there.
        with_batching: See there.
        announce: Is told where the server listens, once it does.
        log: Is told every list.
        **settings: Of `ServerConfig`.

    Raises:
        InvalidInputError: The configuration cannot be served.
    """
    # Loading a graph into a session warns that this is the old way, once per process.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("serving").setLevel(logging.INFO)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    files = find_files(models, batching, monitoring, mount, with_batching)
    config = ServerConfig(**settings)

    def tell(server: ModelServer) -> None:
        announce(
            f"Serving {files.models}: gRPC on {config.host}:{server.grpc_port}, REST on "
            f"http://{config.host}:{server.rest_port}/v1/models"
        )

    serve(files, config, tell, log)


def _if_there(path: pathlib.Path) -> pathlib.Path | None:
    return path if path.is_file() else None
