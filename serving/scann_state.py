"""A ScaNN index as arrays: rows can be taken from it without building anything anew.

The tree and the codebook are those of the whole catalogue; what belongs to an item (its leaf, its
code, its vector) is a row of an array.
"""

from __future__ import annotations

import pathlib
import uuid
from typing import Any

import numpy as np
import tensorflow as tf

from fairness_losses.errors import InvalidInputError

State = dict[str, np.ndarray]
"""By name of the tensor, see `scann_ops.ScannState`."""

_TENSORS = (
    "scann_config",
    "serialized_partitioner",
    "datapoint_to_token",
    "ah_codebook",
    "hashed_dataset",
    "int8_dataset",
    "int8_multipliers",
    "dp_norms",
    "dataset",
)
_ORDER_OF_OP = ("dataset", *_TENSORS[:-1])
_PER_ITEM = ("datapoint_to_token", "hashed_dataset", "dataset")


def load_state(folder: pathlib.Path) -> State:
    """Reads what `serving.scann_index.build_scann` wrote.

    Raises:
        InvalidInputError: ScaNN cannot be imported here.
    """
    require_scann()
    module = tf.saved_model.load(str(folder))
    return {name: getattr(module, name).numpy() for name in _TENSORS}


def save_state(state: State, folder: pathlib.Path) -> None:
    """Writes what `load_state` and `serving.search.load_scann_search` read."""
    tf.saved_model.save(as_module(state), str(folder))


def as_module(state: State) -> tf.Module:
    """Returns a module that a graph can search, as `searcher.serialize_to_module()` would.

    Of several of those in one SavedModel, one would answer for all after it is loaded: their
    indexes have no names. These have.
    """
    ops = require_scann()
    name_of_index = f"scann-{uuid.uuid4()}"

    class NamedState(ops.ScannState):  # type: ignore[name-defined]
        @tf.function(input_signature=[])
        def recreate_handle(self) -> tf.Tensor:
            tensors = [getattr(self, name) for name in _ORDER_OF_OP]
            return ops.tensors_to_scann(*tensors, shared_name=name_of_index)

    return NamedState([state[name] for name in _TENSORS])


def take_rows(state: State, rows: np.ndarray | slice) -> State:
    """Returns the index of some items: those rows, numbered from 0, and no others."""
    return {**state, **{name: state[name][rows] for name in _PER_ITEM}}


def without_vectors(state: State) -> State:
    """Returns the index whose scores are those of the codes, and which holds no vectors."""
    from scann.proto import scann_pb2

    config = scann_pb2.ScannConfig.FromString(state["scann_config"].item())
    config.ClearField("exact_reordering")
    text = np.array([config.SerializeToString()], dtype=object)
    return {**state, "scann_config": text, "dataset": np.zeros([], np.float32)}


def require_scann() -> Any:
    """Returns ScaNN's TensorFlow ops, registered by the import.

    Raises:
        InvalidInputError: ScaNN cannot be imported here.
    """
    try:
        from scann.scann_ops.py import scann_ops
    except (ImportError, OSError, tf.errors.OpError) as error:
        raise InvalidInputError(
            f"ScaNN cannot be imported on this platform ({error}). It is published for Linux "
            "only. Set `serving.index: exact`, which needs TensorFlow alone."
        ) from error
    return scann_ops
