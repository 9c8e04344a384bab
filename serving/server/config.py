"""Settings of the local server."""

from __future__ import annotations

from pydantic import Field

from fairness_losses.config import Settings


class ServerConfig(Settings):
    """Where the server listens and how much it takes on at once."""

    host: str = "127.0.0.1"
    """Address to listen on; `0.0.0.0` for all of the machine's."""

    grpc_port: int = Field(default=8500, ge=0, le=65535)
    """Port of the gRPC API; 0 takes a free one."""

    rest_port: int = Field(default=8501, ge=0, le=65535)
    """Port of the REST API; 0 takes a free one."""

    poll_seconds: float = Field(default=2.0, gt=0)
    """Time between two looks at `models.config` and at the folders of versions."""

    drain_seconds: float = Field(default=30.0, ge=0)
    """Time that requests have to finish once the server was told to stop."""

    max_request_bytes: int = Field(default=8 << 20, ge=1024)
    """Largest body of a request, and largest input once it is a tensor."""

    max_body_bytes_at_once: int = Field(default=256 << 20, ge=1024)
    """Bodies that the REST API holds at the same time."""

    max_requests_at_once: int = Field(default=1000, ge=1)
    """Requests under way, on either port; more are told to try again."""

    max_connections: int = Field(default=2000, ge=1)
    """Open connections of either port; more are closed."""

    max_rows: int = Field(default=1000, ge=1)
    """Rows of a request without batching; with it `max_batch_size` is the bound."""

    body_seconds: float = Field(default=10.0, gt=0)
    """Time in which the body of a REST request has to arrive."""

    idle_seconds: float = Field(default=60.0, gt=0)
    """Time in which the head of a REST request has to arrive; older connections are closed."""
