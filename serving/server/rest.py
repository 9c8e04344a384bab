"""The REST API: paths, shapes and errors of TensorFlow Serving's, and paths for health."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import urllib.parse
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import yaml
from aiohttp import web
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2

from serving.server import grpc_service
from serving.server.body import BodyReader
from serving.server.config import ServerConfig
from serving.server.errors import Code, StatusError, invalid
from serving.server.json_answers import write_outputs
from serving.server.json_requests import parse_body, read_inputs, signature_name
from serving.server.openapi import OPENAPI_FILE
from serving.server.predict import (
    ARM_HEADER,
    Predictor,
    classify_or_regress_error,
    rest_signature,
)
from serving.server.signatures import CLASSIFY, REGRESS

# Source: `model_servers/http_rest_api_util.cc` of TensorFlow Serving.
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)", re.IGNORECASE
)
_GET = re.compile(
    rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?P<metadata>/metadata)?", re.IGNORECASE
)
_MAX_INT64 = 2**63 - 1
_LARGE_BODY = 1 << 16
_T = TypeVar("_T")


class RestApi:
    """Answers HTTP requests."""

    def __init__(
        self,
        predictor: Predictor,
        config: ServerConfig,
        metrics_path: str | None,
        is_ready: Callable[[], bool],
    ) -> None:
        """Initialises the API.

        Args:
            predictor: Answers what is asked of models.
            config: Bounds of bodies.
            metrics_path: Where Prometheus' page is, or None for nowhere.
            is_ready: Whether requests should be sent here.
        """
        self._predictor = predictor
        self._bodies = BodyReader(config)
        self._is_ready = is_ready
        self.app = web.Application(middlewares=[_with_json_errors])
        self.app.router.add_get("/healthz", self._health)
        self.app.router.add_get("/readyz", self._readiness)
        self.app.router.add_get("/openapi.json", self._openapi)
        if metrics_path is not None:
            self.app.router.add_get(metrics_path, self._metrics)
        self.app.router.add_route("*", "/{path:.*}", self._models)

    async def _health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readiness(self, request: web.Request) -> web.Response:
        ready = self._is_ready()
        return web.Response(text="ok\n" if ready else "not ready\n", status=200 if ready else 503)

    async def _openapi(self, request: web.Request) -> web.Response:
        return web.json_response(yaml.safe_load(OPENAPI_FILE.read_text(encoding="utf-8")))

    async def _metrics(self, request: web.Request) -> web.Response:
        return web.Response(body=self._predictor.metrics.page(), content_type="text/plain")

    async def _models(self, request: web.Request) -> web.Response:
        path = request.rel_url.raw_path
        if not path.lower().startswith("/v1/"):
            raise StatusError(Code.NOT_FOUND, f"Not found: {path}")
        match = None
        if request.method == "POST":
            match = _POST.fullmatch(path)
        elif request.method in ("GET", "HEAD"):
            match = _GET.fullmatch(path)
        if match is None:
            raise invalid(f"Malformed request: {request.method} {path}")
        parts = match.groupdict()
        choice = _choice(parts)
        if request.method == "POST":
            return await self._ask(request, choice, parts["method"].lower())
        if not choice["name"]:
            raise invalid("Missing model name in request.")
        if parts["metadata"]:
            return _json(self._metadata(choice))
        status = grpc_service.status(self._predictor.versions, **choice)
        return _json(_to_json(status))

    async def _ask(self, request: web.Request, choice: dict[str, Any], method: str) -> web.Response:
        if method == "predict":
            with self._predictor.measured(choice["name"], "REST"):
                async with self._bodies.read(request) as body:
                    return _json(await self._predict(request, choice, body))
        async with self._bodies.read(request) as body:
            document = parse_body(body)
        with self._predictor.versions.borrow(**choice) as servable:
            kind = CLASSIFY if method == "classify" else REGRESS
            raise classify_or_regress_error(servable, signature_name(document), kind)

    async def _predict(self, request: web.Request, choice: dict[str, Any], body: bytes) -> bytes:
        document = await _apart(body, parse_body, body)
        with self._predictor.versions.borrow(**choice) as servable:
            signature = rest_signature(servable, signature_name(document))
            inputs, as_rows = await _apart(body, read_inputs, document, signature)
            arm = request.headers.get(ARM_HEADER, "")
            outputs = await self._predictor.predict(servable, signature, inputs, (), arm)
            return write_outputs(outputs, as_rows)

    def _metadata(self, choice: dict[str, Any]) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = choice["name"]
        if choice["version"] is not None:
            request.model_spec.version.value = choice["version"]
        if choice["label"] is not None:
            request.model_spec.version_label = choice["label"]
        response = grpc_service.metadata(self._predictor.versions, request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        spec, definitions = _to_json(response.model_spec), _to_json(signatures)
        return b'{"model_spec":%s,"metadata":{"signature_def":%s}}' % (spec, definitions)


async def _apart(body: bytes, function: Callable[..., _T], *arguments: Any) -> _T:
    """Calls a function that takes long for a large body, which then must not hold up others."""
    if len(body) <= _LARGE_BODY:
        return function(*arguments)
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


def _choice(parts: dict[str, str | None]) -> dict[str, Any]:
    version = int(parts["version"]) if parts["version"] else None
    if version is not None and version > _MAX_INT64:
        raise invalid(f"Failed to convert version: {parts['version']} to numeric.")
    return {
        "name": urllib.parse.unquote(parts["name"] or ""),
        "version": version,
        "label": urllib.parse.unquote(parts["label"]) if parts["label"] else None,
    }


def _to_json(message: Any) -> bytes:
    text = json_format.MessageToJson(
        message, including_default_value_fields=True, preserving_proto_field_name=True
    )
    return text.encode()


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def error_body(message: str) -> bytes:
    """Returns the body of an error."""
    return json.dumps({"error": message}, indent=4, ensure_ascii=False).encode("utf-8", "replace")


@web.middleware
async def _with_json_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except StatusError as error:
        response = _json(error_body(error.message), error.code.http)
    except web.HTTPException as error:
        response = _json(error_body(error.text or error.reason), error.status)
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception:
        logging.getLogger(__name__).exception("A request failed.")
        response = _json(error_body("The server failed; see its log"), Code.INTERNAL.http)
    if not request.content.is_eof():
        # What is left of the body is not worth reading.
        response.force_close()
    return response
