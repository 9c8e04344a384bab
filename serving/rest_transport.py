"""Asks a server over REST."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Mapping
from typing import Any

import numpy as np

from serving.transports import ARM_HEADER, ServingError, SignatureInfo

_CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class RestTransport:
    """Over HTTP, without TensorFlow."""

    def __init__(self, url: str, model: str) -> None:
        """Opens connections to `url`, such as `http://localhost:8501`, when they are needed."""
        import requests

        self._requests = requests
        self._session = requests.Session()
        self._model_url = f"{url.rstrip('/')}/v1/models/{urllib.parse.quote(model, safe='')}"

    def predict(
        self,
        choice: Mapping[str, Any],
        signature: str,
        inputs: Mapping[str, np.ndarray],
        arm: str,
        timeout: float,
    ) -> dict[str, np.ndarray]:
        """See `Transport`."""
        columns = {name: _plain(array) for name, array in inputs.items()}
        body = {"signature_name": signature, "inputs": columns}
        headers = {ARM_HEADER: arm} if arm else {}
        answer = self._call("POST", choice, ":predict", timeout, json=body, headers=headers)
        outputs = answer["outputs"]
        if not isinstance(outputs, dict):
            # A signature with one output answers without its name.
            outputs = {"": outputs}
        return {name: _array(values) for name, values in outputs.items()}

    def signatures(self, choice: Mapping[str, Any], timeout: float) -> dict[str, SignatureInfo]:
        """See `Transport`."""
        answer = self._call("GET", choice, "/metadata", timeout)
        signatures = answer["metadata"]["signature_def"]["signature_def"]
        return {
            name: SignatureInfo(
                {n: i["dtype"] for n, i in definition["inputs"].items()},
                list(definition["outputs"]),
            )
            for name, definition in signatures.items()
        }

    def status(self, choice: Mapping[str, Any], timeout: float) -> list[tuple[int, str, str]]:
        """See `Transport`."""
        answer = self._call("GET", choice, "", timeout)
        return [
            (int(v["version"]), v["state"], v["status"].get("error_message", ""))
            for v in answer["model_version_status"]
        ]

    def close(self) -> None:
        """See `Transport`."""
        self._session.close()

    def _call(
        self, method: str, choice: Mapping[str, Any], end: str, timeout: float, **options: Any
    ) -> Any:
        url = self._model_url
        if choice.get("version") is not None:
            url += f"/versions/{choice['version']}"
        elif choice.get("label") is not None:
            url += f"/labels/{urllib.parse.quote(choice['label'], safe='')}"
        try:
            response = self._session.request(method, url + end, timeout=timeout, **options)
        except self._requests.Timeout as error:
            raise ServingError("DEADLINE_EXCEEDED", str(error)) from error
        except self._requests.ConnectionError as error:
            raise ServingError("UNAVAILABLE", str(error)) from error
        try:
            answer = response.json()
        except ValueError:
            answer = {"error": response.text[:1000]}
        if response.status_code != 200:
            code = _CODES.get(response.status_code, "INTERNAL")
            raise ServingError(code, str(answer.get("error", "")))
        return answer


def _plain(array: np.ndarray) -> Any:
    """Nested lists for JSON; bytes that are no text go as base64."""
    if array.dtype != object:
        return array.tolist()
    return np.frompyfunc(_plain_text, 1, 1)(array).tolist() if array.size else array.tolist()


def _plain_text(value: bytes) -> Any:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def _array(values: Any) -> np.ndarray:
    array = np.asarray(values)
    return array.astype(object) if array.dtype.kind == "U" else array
