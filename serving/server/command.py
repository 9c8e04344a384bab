"""`fairtowers serve`."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from serving.log.config import LogConfig
from serving.server.config import ServerConfig
from serving.server.files import Files

if TYPE_CHECKING:
    from serving.server.app import ModelServer


def run_server(
    files: Files, announce: Callable[[str], None], log_config: LogConfig, **settings: Any
) -> None:
    """Serves until it is told to stop.

    Args:
        files: What to serve.
        announce: Is told where the server listens, once it does.
        log_config: Where lists are logged.
        **settings: Of `ServerConfig`.

    Raises:
        InvalidInputError: The configuration cannot be served.
    """
    # Loading a graph into a session warns that this is the old way, once per process.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("serving").setLevel(logging.INFO)
    # Random bytes on the port are no news.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from serving.log.writer import ListLog
    from serving.server.app import serve

    config = ServerConfig(**settings)
    log = ListLog(log_config) if log_config.directory else None

    def tell(server: ModelServer) -> None:
        announce(
            f"Serving {files.models}: gRPC on {config.host}:{server.grpc_port}, REST on "
            f"http://{config.host}:{server.rest_port}/v1/models"
        )

    serve(files, config, tell, log)
