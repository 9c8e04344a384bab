"""Asks a server for lists: `fairtowers serve` or TensorFlow Serving, over gRPC or REST.

    from serving.client import Client

    with Client("localhost:8500", "retriever") as client:
        lists = client.retrieve({"user_id": ["u1", "u2"]}, exclude=[["i7"], []])
        lists.candidate_ids[0]

An address with `http://` is asked over REST, which needs no TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from serving.grpc_transport import GrpcTransport
from serving.rest_transport import RestTransport
from serving.transports import ServingError, SignatureInfo, Transport, with_retries

__all__ = ["Client", "Lists", "ServingError", "VersionStatus"]

_NUMPY_TYPES: dict[str, Any] = {
    "DT_FLOAT": np.float32,
    "DT_DOUBLE": np.float64,
    "DT_INT32": np.int32,
    "DT_INT64": np.int64,
    "DT_BOOL": np.bool_,
    "DT_STRING": object,
}


@dataclasses.dataclass(frozen=True)
class Lists:
    """One list of candidates per query, best first. Short ones end with `""` and -inf.

    Attributes:
        candidate_ids: str `[num_queries, k]`.
        scores: float32 `[num_queries, k]`.
        groups: str `[num_queries, k]`.
        policy: How the list was made, str `[num_queries]`.
        model_version: str `[num_queries]`.
    """

    candidate_ids: np.ndarray
    scores: np.ndarray
    groups: np.ndarray
    policy: np.ndarray
    model_version: np.ndarray


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """State of a version of the model.

    Attributes:
        version: Its number.
        state: `START`, `LOADING`, `AVAILABLE`, `UNLOADING` or `END`.
        error: Why it could not be loaded, or "".
    """

    version: int
    state: str
    error: str


class Client:
    """A client of one model. Over gRPC it may be shared by threads, over REST not."""

    def __init__(
        self,
        address: str,
        model: str = "retriever",
        timeout: float = 5.0,
        attempts: int = 3,
        version: int | None = None,
        label: str | None = None,
    ) -> None:
        """Opens a connection when it is first needed.

        Args:
            address: `localhost:8500` for gRPC, `http://localhost:8501` for REST.
            model: Its name.
            timeout: Seconds for a request with all its attempts.
            attempts: How often a request is sent while the server is not available.
            version: Asks this version; by default the latest.
            label: Asks the version with this label, such as `stable`.

        Raises:
            ValueError: An argument cannot be used.
        """
        if version is not None and label is not None:
            raise ValueError("Give a `version` or a `label`, not both.")
        if attempts < 1 or timeout <= 0:
            raise ValueError(
                f"`attempts` should be at least 1 and `timeout` positive. Received: {attempts}, "
                f"{timeout}."
            )
        is_rest = address.startswith(("http://", "https://"))
        kind = RestTransport if is_rest else GrpcTransport
        self._transport: Transport = kind(address, model)
        self._choice = {"version": version, "label": label}
        self._timeout = timeout
        self._attempts = attempts
        self._signatures: dict[str, SignatureInfo] = {}

    def retrieve(
        self,
        features: Mapping[str, Any],
        policy_key: str | Sequence[str] | None = None,
        exclude: Sequence[Sequence[str]] | None = None,
        control: Mapping[str, float] | Sequence[Mapping[str, float]] | None = None,
        signature: str | None = None,
        arm: str = "",
    ) -> Lists:
        """Asks for lists.

        Args:
            features: Query features by name, each `[num_queries]` or `[num_queries, n]`.
            policy_key: Opaque key of a policy, for all queries or for each.
            exclude: Ids that must not be in the list, for each query.
            control: Weights by group, for all queries or for each: 0 leaves a group out, other
                weights multiply an item's odds; `*` stands for all groups that are not named.
            signature: By default `controlled` where one of the above is given, else
                `serving_default`.
            arm: Of an experiment, for the server's log.

        Raises:
            ServingError: The server did not answer, or says what is wrong.
        """
        num_queries = len(next(iter(features.values())))
        inputs = dict(features)
        if not (policy_key is None and exclude is None and control is None):
            inputs.update(_controls(num_queries, policy_key, exclude, control))
            signature = signature or "controlled"
        outputs = self.predict(inputs, signature or "serving_default", arm)
        return Lists(
            candidate_ids=_text(outputs["candidate_ids"]),
            scores=outputs["scores"].astype(np.float32),
            groups=_text(outputs["groups"]),
            policy=_text(outputs["policy"]),
            model_version=_text(outputs["model_version"]),
        )

    def embed(self, features: Mapping[str, Any], signature: str = "query_embedding") -> np.ndarray:
        """Asks for embeddings.

        Args:
            features: Of queries; of items with the signature `candidate_embedding`.
            signature: Whose embeddings.

        Returns:
            float32 `[num_rows, dim]`.

        Raises:
            ServingError: The server did not answer, or says what is wrong.
        """
        (embedding,) = self.predict(features, signature).values()
        return embedding.astype(np.float32)

    def predict(
        self, inputs: Mapping[str, Any], signature: str = "serving_default", arm: str = ""
    ) -> dict[str, np.ndarray]:
        """Asks any signature.

        Args:
            inputs: By name; converted to the types that the signature has.
            signature: Its name.
            arm: Of an experiment, for the server's log.

        Returns:
            Outputs by name.

        Raises:
            ServingError: The server did not answer, or says what is wrong.
        """
        if signature not in self._signatures:
            # Also asked again for a signature that a version loaded later may have.
            self._signatures = self._ask(
                lambda left: self._transport.signatures(self._choice, left)
            )
        known = self._signatures.get(signature, SignatureInfo({}, []))
        arrays = {n: _to_array(value, known.dtypes.get(n)) for n, value in inputs.items()}
        outputs = self._ask(
            lambda left: self._transport.predict(self._choice, signature, arrays, arm, left)
        )
        return dict(zip(known.outputs, outputs.values(), strict=True)) if "" in outputs else outputs

    def status(self) -> list[VersionStatus]:
        """Asks for the state of the model's versions.

        Raises:
            ServingError: There is no such model or version, or the server did not answer.
        """
        found = self._ask(lambda left: self._transport.status(self._choice, left))
        return [VersionStatus(*one) for one in found]

    def close(self) -> None:
        """Closes connections."""
        self._transport.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, call: Any) -> Any:
        return with_retries(call, self._timeout, self._attempts)


def _controls(
    num_queries: int,
    policy_key: str | Sequence[str] | None,
    exclude: Sequence[Sequence[str]] | None,
    control: Mapping[str, float] | Sequence[Mapping[str, float]] | None,
) -> dict[str, Any]:
    """The inputs that `controlled` has besides features, with what is neutral where not given."""
    keys = [policy_key or ""] * num_queries if isinstance(policy_key, str | None) else policy_key
    excluded = [[]] * num_queries if exclude is None else exclude
    weights = [control or {}] * num_queries if isinstance(control, Mapping | None) else control
    for name, given in (("policy_key", keys), ("exclude", excluded), ("control", weights)):
        if len(given) != num_queries:
            raise ValueError(
                f"`{name}` should have an element for each of the {num_queries} queries. "
                f"Received: {len(given)}."
            )
    return {
        "policy_key": list(keys),
        "exclude_ids": _padded(excluded, ""),
        "control_groups": _padded([list(w) for w in weights], ""),
        "control_weights": _padded([list(w.values()) for w in weights], 1.0),
    }


def _padded(rows: Sequence[Sequence[Any]], padding: Any) -> list[list[Any]]:
    """Rows of one length that begin with padding.

    A server that merges requests repeats the first value of one to make them equally long.
    """
    longest = max(map(len, rows), default=0)
    return [[padding, *row, *[padding] * (longest - len(row))] for row in rows]


def _to_array(value: Any, dtype: str | None) -> np.ndarray:
    array = np.asarray(value)
    if dtype in _NUMPY_TYPES and dtype != "DT_STRING" and array.dtype.kind in "biuf":
        return array.astype(_NUMPY_TYPES[dtype])
    if array.dtype.kind in "USO":
        flat = [v.encode() if isinstance(v, str) else v for v in array.ravel().tolist()]
        encoded = np.empty(len(flat), dtype=object)
        encoded[:] = flat
        return encoded.reshape(array.shape)
    return array


def _text(array: np.ndarray) -> np.ndarray:
    """Strings as str, whichever way they came."""
    flat = [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in array.ravel()]
    return np.array(flat, dtype=str).reshape(array.shape)
