"""Listens for HTTP connections, of which only so many may be open."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from typing import Any

from aiohttp import web

from serving.server.config import ServerConfig

_FILES_KEPT = 256
"""File descriptors for all but connections."""

_LINGERING_SECONDS = 1.0
"""How long the rest of a refused body is read, so that its sender gets to read why."""


async def listen(app: web.Application, config: ServerConfig) -> tuple[web.AppRunner, Any]:
    """Listens for HTTP requests.

    Returns:
        The runner to clean up at the end, and the `asyncio.Server`.

    Raises:
        OSError: The port cannot be listened on.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=config.idle_seconds,
        lingering_time=_LINGERING_SECONDS,
        shutdown_timeout=0.1,
    )
    await runner.setup()
    server = runner.server
    assert server is not None
    limit = min(config.max_connections, allow_files(2 * config.max_connections) // 2)

    def connect() -> asyncio.Protocol:
        is_full = len(server.connections) >= limit
        return _Refusal() if is_full else server()

    loop = asyncio.get_running_loop()
    listener = await loop.create_server(connect, config.host, config.rest_port, backlog=1024)
    for listening in listener.sockets:
        _give_up_on_silent_readers(listening, config.idle_seconds)
    return runner, listener


def allow_files(wanted: int) -> int:
    """Raises the limit of open files as far as is wanted and allowed.

    Args:
        wanted: Connections on all ports.

    Returns:
        Connections that the limit has room for.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted + _FILES_KEPT
    if hard != resource.RLIM_INFINITY:
        target = min(target, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
            soft = target
    return wanted if soft == resource.RLIM_INFINITY else max(soft - _FILES_KEPT, 2)


class _Refusal(asyncio.Protocol):
    """Tells a client that there is no room, and hangs up."""

    _ANSWER = (
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n\r\n%s"
    )
    _BODY = b'{"error": "The server has as many connections as it takes; try again later"}'

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(self._ANSWER % (len(self._BODY), self._BODY))
        transport.close()


def _give_up_on_silent_readers(listening: socket.socket, seconds: float) -> None:
    """A peer that does not take its answer is cut off; Linux only, accepted sockets inherit it."""
    option: int | None = getattr(socket, "TCP_USER_TIMEOUT", None)
    if option is not None:
        listening.setsockopt(socket.IPPROTO_TCP, option, int(seconds * 1000))
