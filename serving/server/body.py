"""Reads bodies of HTTP requests within bounds of size, time and memory."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from serving.server.config import ServerConfig
from serving.server.errors import Code, StatusError


class BodyReader:
    """Hands out bodies, and knows how many bytes of them are held."""

    def __init__(self, config: ServerConfig) -> None:
        """Initialises the reader with the bounds of the configuration."""
        self._max_bytes = config.max_request_bytes
        self._max_at_once = config.max_body_bytes_at_once
        self._seconds = config.body_seconds
        self._held = 0

    @contextlib.asynccontextmanager
    async def read(self, request: web.Request) -> AsyncIterator[bytes]:
        """Reads a body, which counts as held until the block is left.

        Raises:
            web.HTTPRequestEntityTooLarge: It is too large.
            web.HTTPRequestTimeout: It does not arrive in time.
            StatusError: Too many bytes are held already.
        """
        body = bytearray()
        try:
            await asyncio.wait_for(self._fill(request, body), self._seconds)
            yield bytes(body)
        except asyncio.TimeoutError:
            raise web.HTTPRequestTimeout(
                text=f"The body of the request did not arrive within {self._seconds:g} seconds."
            ) from None
        finally:
            self._held -= len(body)

    async def _fill(self, request: web.Request, body: bytearray) -> None:
        if (request.content_length or 0) > self._max_bytes:
            raise self._too_large(request.content_length or 0)
        try:
            async for chunk in request.content.iter_any():
                body += chunk
                self._held += len(chunk)
                if len(body) > self._max_bytes:
                    raise self._too_large(len(body))
                if self._held > self._max_at_once:
                    raise StatusError(
                        Code.UNAVAILABLE,
                        f"The server holds {self._max_at_once} bytes of requests; try again later",
                    )
        except web.RequestPayloadError as error:
            raise web.HTTPBadRequest(text=f"The body cannot be read: {error}") from None

    def _too_large(self, size: int) -> web.HTTPException:
        return web.HTTPRequestEntityTooLarge(
            max_size=self._max_bytes,
            actual_size=size,
            text=f"The body of the request has more than {self._max_bytes} bytes.",
        )
