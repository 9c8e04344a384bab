"""The slices of the users that are counted, audited and reported on."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairness_losses.config import UNKNOWN
from pipelines.config import SliceConfig
from towers.config import USER_ID


@dataclasses.dataclass(frozen=True)
class Cells:
    """Users per slice, as positions in the sorted user ids.

    Attributes:
        everyone: int `[num_users]`, all positions.
        slices: By the slice's name (`gender`, `gender × age`) and value (`F`, `F × 25–44`), the
            positions of its users, int `[users in the cell]`. Only values that occur.
    """

    everyone: np.ndarray
    slices: dict[str, dict[str, np.ndarray]]


def divide(user_ids: pa.Array, users: pa.Table, slices: Sequence[SliceConfig]) -> Cells:
    """Divides the audited users by the slices of the configuration.

    Args:
        user_ids: string `[num_users]`, the users that are divided, each once.
        users: `user_id` and a string column `slice.<column>` per sliced column. A missing user or
            value is `unknown`, a value like any other.
        slices: The divisions, in the order of the report.
    """
    known = users[USER_ID].combine_chunks()
    rows = pc.index_in(user_ids, value_set=known)
    values = {
        cut.column: pc.fill_null(users[f"slice.{cut.column}"].combine_chunks().take(rows), UNKNOWN)
        .to_numpy(zero_copy_only=False)
        .astype(str)
        for cut in slices
        if cut.column is not None
    }
    divided = {}
    for cut in slices:
        columns = [cut.column] if cut.column is not None else cut.cross or []
        divided[cut.name] = _cells([values[column] for column in columns])
    return Cells(everyone=np.arange(len(user_ids)), slices=divided)


def by_cell(cells: Cells, make: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    """Returns what is made of the users of every cell: `overall`, and `slices` by name and value.

    Args:
        cells: The users of every cell.
        make: Takes positions of users, int `[users in the cell]`.
    """
    return {
        "overall": make(cells.everyone),
        "slices": {
            name: {value: make(who) for value, who in values.items()}
            for name, values in cells.slices.items()
        },
    }


def distinct_rows(columns: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers rows by what they hold, in lexicographic order.

    `np.unique(axis=0)` does the same, in a hundred times the time.

    Args:
        columns: Arrays `[num_rows]`, at least one.

    Returns:
        A row of every kind, int `[num_kinds]`; the kind of every row, int `[num_rows]`.
    """
    kind = np.zeros(len(columns[0]), np.int64)
    for column in columns:
        values, code = np.unique(column, return_inverse=True)
        kind = np.unique(kind * max(len(values), 1) + code, return_inverse=True)[1]
    return np.unique(kind, return_index=True)[1], kind


def _cells(columns: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    labels, codes = zip(*(_encode(column) for column in columns), strict=True)
    first, cell = distinct_rows(codes)
    return {
        " × ".join(names[code[row]] for names, code in zip(labels, codes, strict=True)): (
            np.flatnonzero(cell == i)
        )
        for i, row in enumerate(first)
    }


def _encode(column: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Values in the order a reader expects (`5–9` before `10–19`, `unknown` last), and codes."""
    names, codes = np.unique(column, return_inverse=True)
    order = sorted(range(len(names)), key=lambda i: reading_order(str(names[i])))
    rank = np.argsort(order)
    return [str(names[i]) for i in order], rank[codes]


def reading_order(value: str) -> list[tuple[bool, list[tuple[bool, float, str]]]]:
    """Returns what to sort the values of a slice by: `5–9` before `10–19`, `unknown` last.

    Args:
        value: Of one column, or of several that are crossed: `F × 25–44`.
    """
    return [(of_column == UNKNOWN, _numbers_first(of_column)) for of_column in value.split(" × ")]


def _numbers_first(value: str) -> list[tuple[bool, float, str]]:
    parts = re.findall(r"\d+|\D+", value)
    return [(not p.isdecimal(), float(p) if p.isdecimal() else 0.0, p) for p in parts]
