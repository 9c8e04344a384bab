"""What a signature of a SavedModel takes and returns, and whether a request fits it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from serving.server.errors import Code, StatusError, invalid

PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output.

    Attributes:
        graph_name: Its name in the graph.
        dtype: Its type.
        shape: Sizes, None for a free one; None if even their number is free.
    """

    graph_name: str
    dtype: tf.DType
    shape: tuple[int | None, ...] | None

    @functools.cached_property
    def _numpy_dtype(self) -> Any:
        return np.dtype(self.dtype.as_numpy_dtype)

    def accepts(self, array: np.ndarray) -> bool:
        """Whether an array has this type, and a shape that is compatible."""
        if array.dtype != self._numpy_dtype:
            return False
        if self.shape is None:
            return True
        return len(self.shape) == array.ndim and all(
            size is None or size == given
            for size, given in zip(self.shape, array.shape, strict=True)
        )

    @property
    def has_rows(self) -> bool:
        """Whether the first dimension is free."""
        return bool(self.shape) and self.shape is not None and self.shape[0] is None

    def __str__(self) -> str:
        return f"{self.dtype.name} {_shape(self.shape)}"


@dataclasses.dataclass(frozen=True)
class Signature:
    """One signature.

    Attributes:
        name: Its key in the SavedModel.
        method: Its method name, such as `PREDICT`.
        inputs: By name.
        outputs: By name.
        has_rows: Whether the first dimension of every input and output is that of the request's
            rows, so that requests can be merged and counted.
    """

    name: str
    method: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]
    has_rows: bool

    def validate(self, inputs: Mapping[str, np.ndarray]) -> int:
        """Checks types and shapes.

        Args:
            inputs: As `check_names` accepted them.

        Returns:
            Number of rows; 1 if the signature has none.

        Raises:
            StatusError: An array does not fit its input.
        """
        for name, array in inputs.items():
            if not self.inputs[name].accepts(array):
                kind = "string" if array.dtype == object else array.dtype.name
                raise invalid(
                    f"input tensor `{name}` of signature `{self.name}` is expected to be "
                    f"{self.inputs[name]} but {kind} {_shape(array.shape)} is provided"
                )
        if not self.has_rows:
            return 1
        sizes = {len(array) for array in inputs.values()}
        if len(sizes) > 1:
            raise invalid("Batching session Run() input tensors must have equal 0th-dimension size")
        return sizes.pop()

    def check_names(self, given: Iterable[str]) -> None:
        """Checks that exactly the inputs are given, as TensorFlow Serving's `predict_util.cc`.

        Raises:
            StatusError: One is missing or unknown.
        """
        sent, known = set(given), set(self.inputs)
        if len(sent) != len(known):
            raise invalid(
                f"input size does not match signature: {len(sent)}!={len(known)} "
                f"len({_names(sent)}) != len({_names(known)}). "
                f"Sent extra: {_names(sent - known)}. "
                f"Missing but required: {_names(known - sent)}."
            )
        for name in sorted(sent - known):
            raise invalid(
                f"input tensor alias not found in signature: {name}. "
                f"Inputs expected to be in the set {_names(known)}."
            )

    def choose_outputs(self, wanted: Iterable[str]) -> list[str]:
        """Returns the names of the outputs that are wanted; all if none is named.

        Raises:
            StatusError: One is unknown or named twice.
        """
        chosen: list[str] = []
        for name in wanted:
            if name not in self.outputs:
                raise invalid(
                    f"output tensor alias not found in signature: {name} "
                    f"Outputs expected to be in the set {_names(self.outputs)}."
                )
            if name in chosen:
                raise invalid(f"duplicate output tensor alias: {name}")
            chosen.append(name)
        return chosen or list(self.outputs)


def read_signatures(signature_defs: Mapping[str, Any]) -> dict[str, Signature]:
    """Reads the signatures of a meta graph; those of initialisation are left out.

    Args:
        signature_defs: `SignatureDef` by name.
    """
    return {
        name: _read_signature(name, definition)
        for name, definition in signature_defs.items()
        if definition.inputs and definition.outputs
    }


def _read_signature(name: str, definition: Any) -> Signature:
    inputs = {n: _read_tensor(i) for n, i in sorted(definition.inputs.items())}
    outputs = {n: _read_tensor(i) for n, i in sorted(definition.outputs.items())}
    has_rows = all(t.has_rows for t in (*inputs.values(), *outputs.values()))
    return Signature(name, definition.method_name, inputs, outputs, has_rows)


def _read_tensor(info: Any) -> Tensor:
    if info.WhichOneof("encoding") != "name":
        raise StatusError(
            Code.UNIMPLEMENTED, "A signature has a sparse or composite tensor, which no request has"
        )
    rank_is_free = info.tensor_shape.unknown_rank
    sizes = tuple(None if d.size < 0 else d.size for d in info.tensor_shape.dim)
    return Tensor(info.name, tf.as_dtype(info.dtype), None if rank_is_free else sizes)


def _names(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _shape(sizes: Iterable[int | None] | None) -> str:
    if sizes is None:
        return "[?]"
    return "[" + ",".join("-1" if size is None else str(size) for size in sizes) + "]"
