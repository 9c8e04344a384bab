"""Asks a retriever for the lists of many users at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from fairness_losses.errors import InvalidInputError
from serving.retriever import (
    CONTROL_GROUPS,
    CONTROL_WEIGHTS,
    CONTROLS,
    EXCLUDE_IDS,
    POLICY_KEY,
)


def retrieve_lists(
    retriever: Any,
    features: dict[str, np.ndarray],
    user_ids: Sequence[str] | pa.Array | pa.ChunkedArray,
    exclude: Sequence[Sequence[str]] | pa.Array | pa.ChunkedArray,
    batch_size: int = 256,
    policy_keys: Sequence[str] | pa.Array | pa.ChunkedArray | None = None,
) -> pa.Table:
    """Retrieves a list for every user.

    Users with about equally long exclusion lists are asked together, so that little is padded.

    Args:
        retriever: What `serving.retriever.load_retriever` returned.
        features: Raw query features by name, each `[num_users]` or `[num_users, n]`; others than
            the retriever's are ignored.
        user_ids: string `[num_users]`.
        exclude: Item ids that a user is not to get, a list of string per user; ids that are not
            in the catalogue are ignored.
        batch_size: Users per call.
        policy_keys: Of users whose lists are made under a policy of their slice, string
            `[num_users]`; "" for the default policy, which is everybody's if this is None.

    Returns:
        A row per user, in the order given: `user_id` string, `candidate_ids` list of string,
        `scores` list of float, `groups` list of string, `policy` and `model_version` string.
        Lists are shorter than k where the catalogue, less what is excluded, is.

    Raises:
        InvalidInputError: A feature is missing, or something is not given once per user.
    """
    signature = retriever.signatures["controlled"]
    inputs_of_all = signature.structured_input_signature[1]
    specs = {name: spec for name, spec in inputs_of_all.items() if name not in CONTROLS}
    excluded = _as_array(exclude, pa.list_(pa.string()))
    keys = _as_array([""] * len(user_ids) if policy_keys is None else policy_keys, pa.string())
    _check(specs, features, {"exclude": excluded, "policy_keys": keys}, len(user_ids))
    lengths = np.diff(excluded.offsets.to_numpy())
    order = np.argsort(lengths, kind="stable")
    tables = []
    for start in range(0, max(len(order), 1), batch_size):
        users = order[start : start + batch_size]
        inputs = {name: tf.constant(features[name][users], s.dtype) for name, s in specs.items()}
        inputs[EXCLUDE_IDS] = _pad(excluded.take(pa.array(users)), lengths[users])
        inputs[POLICY_KEY] = tf.constant(keys.take(pa.array(users)).to_pylist(), tf.string)
        inputs[CONTROL_GROUPS] = tf.fill([len(users), 0], "")
        inputs[CONTROL_WEIGHTS] = tf.zeros([len(users), 0])
        tables.append(_as_table(signature(**inputs)))
    given_order = pa.array(np.argsort(order))
    lists = pa.concat_tables(tables).take(given_order)
    return lists.add_column(0, "user_id", [_as_array(user_ids, pa.string())])


def _as_array(values: Sequence[Any] | pa.Array | pa.ChunkedArray, kind: pa.DataType) -> pa.Array:
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    return values.cast(kind) if isinstance(values, pa.Array) else pa.array(values, kind)


def _check(
    specs: dict[str, Any],
    features: dict[str, np.ndarray],
    others: dict[str, pa.Array],
    num_users: int,
) -> None:
    for name in specs:
        if name not in features:
            raise InvalidInputError(f"The retriever needs the query feature `{name}`. Give it.")
    lengths = {name: len(features[name]) for name in specs}
    lengths |= {name: len(values) for name, values in others.items()}
    for name, length in lengths.items():
        if length != num_users:
            raise InvalidInputError(
                f"`{name}` should have a value for each of the {num_users} users. Received: "
                f"{length}."
            )


def _pad(lists: pa.ListArray, lengths: np.ndarray) -> tf.Tensor:
    """Lists as a string tensor `[num_users, longest]`, padded with the empty string."""
    padded = np.full((len(lists), lengths.max(initial=0)), "", dtype=object)
    padded[np.arange(padded.shape[1]) < lengths[:, None]] = lists.flatten().to_numpy(
        zero_copy_only=False
    )
    return tf.constant(padded, tf.string)


def _as_table(outputs: dict[str, tf.Tensor]) -> pa.Table:
    scores = outputs["scores"].numpy()
    given = scores > -np.inf
    offsets = pa.array(np.concatenate([[0], given.sum(axis=1).cumsum()]), pa.int32())

    def lists(name: str) -> pa.Array:
        return pa.ListArray.from_arrays(offsets, _strings(outputs[name].numpy()[given]))

    return pa.table(
        {
            "candidate_ids": lists("candidate_ids"),
            "scores": pa.ListArray.from_arrays(offsets, pa.array(scores[given])),
            "groups": lists("groups"),
            "policy": _strings(outputs["policy"].numpy()),
            "model_version": _strings(outputs["model_version"].numpy()),
        }
    )


def _strings(values: np.ndarray) -> pa.Array:
    return pc.cast(pa.array(values, pa.binary()), pa.string())
