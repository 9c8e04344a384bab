"""Answers as a table of lists: what is logged of them, and what never is.

Of the inputs, only the user's id, hashed, and the policy key are logged: features and the groups
that a user picked may be sensitive.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas  # noqa: F401  (pyarrow would import it while the first requests wait)
import pyarrow as pa
import pyarrow.compute as pc

from serving.log.answer import Answer
from serving.log.salts import Salts, hash_ids
from towers.config import USER_ID

_LISTS_AT_ONCE = 512
"""Lists turned into a table at once. Python runs nothing else while strings are converted: with so
many of 100 for some milliseconds. Fewer would take longer in all."""

_log = logging.getLogger(__name__)

POLICY_KEY = "policy_key"
LIST_ID, PROCESS, SEQUENCE = "list_id", "process", "sequence"
USER_HASH, SALT = "user_hash", "salt"

SCHEMA = pa.schema(
    [
        (LIST_ID, pa.string()),
        (PROCESS, pa.string()),
        (SEQUENCE, pa.int64()),
        ("timestamp", pa.timestamp("us", "UTC")),
        (USER_HASH, pa.string()),
        (SALT, pa.int64()),
        ("candidate_ids", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
        ("groups", pa.list_(pa.string())),
        ("policy", pa.string()),
        ("model_version", pa.string()),
        (POLICY_KEY, pa.string()),
        ("arm", pa.string()),
        ("model", pa.string()),
        ("signature", pa.string()),
    ]
)
"""Columns of the log. `list_id` is `<process>-<sequence>`; the lists that a process was given are
numbered from 0, dropped ones, too, so that what is missing shows. `user_hash` is null where a
request had no `user_id`; `salt` is the first second of the period of its salt."""


def num_lists(answer: Answer) -> int:
    """Returns the lists in an answer; 0 if it is of vectors."""
    return len(answer.outputs.get("candidate_ids", ()))


Numbered = tuple[int, Answer]
"""An answer of at least one list, with the number of the first."""


def as_tables(
    answers: Sequence[Numbered], process: str, salts: Salts
) -> tuple[list[pa.Table], int]:
    """Returns the lists of answers, `SCHEMA`, in their order.

    Args:
        answers: Answers and their numbers.
        process: Name of this process.
        salts: For the users' ids.

    Returns:
        Tables, and how many lists are in none of them: those of answers that are not of the shapes
        or types that they should be, which are told in the program's log without their values.
    """
    ends = np.cumsum([num_lists(answer) for _, answer in answers])
    starts = np.flatnonzero(np.diff(ends // _LISTS_AT_ONCE, prepend=-1))
    tables: list[pa.Table] = []
    for start, end in itertools.pairwise([*starts, len(ends)]):
        tables += _usable(answers[start:end], process, salts)
    return tables, int(ends[-1]) - sum(table.num_rows for table in tables)


def _usable(answers: Sequence[Numbered], process: str, salts: Salts) -> list[pa.Table]:
    try:
        return [_as_table(answers, process, salts)]
    except Exception as error:
        if len(answers) > 1:
            return [table for one in answers for table in _usable([one], process, salts)]
        _log.error("an answer could not be logged (%s).", type(error).__name__)
        return []


def _as_table(answers: Sequence[Numbered], process: str, salts: Salts) -> pa.Table:
    sizes = np.array([num_lists(answer) for _, answer in answers])

    def every(values: Any, kind: pa.DataType) -> pa.Array:
        """A value per answer as a value per list."""
        return pa.array(values, kind).take(pa.array(np.repeat(np.arange(len(sizes)), sizes)))

    def given(name: str) -> pa.Array:
        """An output of a value per list."""
        return _strings([answer.outputs[name] for _, answer in answers])

    firsts = np.array([first for first, _ in answers])
    place = np.arange(sizes.sum()) - np.repeat(np.append(0, sizes.cumsum()[:-1]), sizes)
    sequence = np.repeat(firsts, sizes) + place
    times = np.array([answer.unix_seconds for _, answer in answers])
    starts = np.array([salts.start_of(seconds) for seconds in times])
    columns = {
        LIST_ID: pc.binary_join_element_wise(process, pc.cast(sequence, pa.string()), "-"),
        PROCESS: pa.array([process]).take(pa.array(np.zeros(len(sequence), np.int64))),
        SEQUENCE: pa.array(sequence),
        "timestamp": every((times * 1e6).astype(np.int64), SCHEMA.field("timestamp").type),
        USER_HASH: _hashed(answers, sizes, np.repeat(starts, sizes), salts),
        SALT: pa.array(np.repeat(starts, sizes)),
        **_candidates([answer for _, answer in answers]),
        "policy": given("policy"),
        "model_version": given("model_version"),
        POLICY_KEY: _inputs(answers, sizes, POLICY_KEY).fill_null(""),
        "arm": every([answer.arm for _, answer in answers], pa.string()),
        "model": every([answer.model for _, answer in answers], pa.string()),
        "signature": every([answer.signature for _, answer in answers], pa.string()),
    }
    return pa.table([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def _candidates(answers: Sequence[Answer]) -> dict[str, pa.Array]:
    """The lists, without the padding at the end of short ones."""
    scores = [np.asarray(a.outputs["scores"], np.float32) for a in answers]
    lengths = np.concatenate([(s > -np.inf).sum(axis=1) for s in scores])
    offsets = pa.array(np.append(0, lengths.cumsum()), pa.int32())
    flat = np.concatenate([s.ravel() for s in scores])
    kept = flat > -np.inf
    values = {"scores": pa.array(flat[kept])}
    for name in ("candidate_ids", "groups"):
        both = zip(answers, scores, strict=True)
        arrays = [_of_shape(np.asarray(a.outputs[name]), s.shape).ravel() for a, s in both]
        values[name] = _strings(arrays).filter(pa.array(kept))
    return {name: pa.ListArray.from_arrays(offsets, array) for name, array in values.items()}


def _of_shape(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if values.shape != shape:
        raise ValueError(f"outputs should be of one shape. Received: {values.shape} and {shape}.")
    return values


def _hashed(
    answers: Sequence[Numbered], sizes: np.ndarray, starts: np.ndarray, salts: Salts
) -> pa.Array:
    """The hash of every list's user; each user of a period is hashed once."""
    users = _inputs(answers, sizes, USER_ID)
    parts, order = [], []
    for start in np.unique(starts):
        rows = np.flatnonzero(starts == start)
        coded = users.take(pa.array(rows)).dictionary_encode()
        hashes = hash_ids(coded.dictionary.to_pylist(), salts.salt(int(start)))
        parts.append(pa.array(hashes, pa.string()).take(coded.indices))
        order.append(rows)
    return pa.concat_arrays(parts).take(pa.array(np.argsort(np.concatenate(order))))


def _inputs(answers: Sequence[Numbered], sizes: np.ndarray, name: str) -> pa.Array:
    """An input of a value per list; null where an answer's request did not have it."""
    empty = [None]
    return _strings(
        [
            np.asarray(answer.inputs[name], object).reshape(n)
            if name in answer.inputs
            else np.array(empty * n, object)
            for (_, answer), n in zip(answers, sizes, strict=True)
        ]
    )


def _strings(arrays: Sequence[np.ndarray]) -> pa.Array:
    """Arrays of bytes or str as one of string; bytes that are not UTF-8 raise."""
    return pa.array(np.concatenate([np.asarray(a, object) for a in arrays]), pa.string())
