"""Brings interactions together with the tables: unknown ids, order, duplicates."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.examples.checks import Rejections
from pipelines.examples.inputs import TIMESTAMP
from pipelines.readers.chunks import FILE, ROW
from towers.config import ITEM_ID, USER_ID

USER_ROW, ITEM_ROW = "__user_row", "__item_row"
"""Columns with the row of the users and items table that an interaction belongs to, int32."""


@dataclasses.dataclass(frozen=True)
class Joined:
    """Interactions of one shard.

    Attributes:
        good: The input's columns without the ids, plus `USER_ROW` and `ITEM_ROW`; ordered by
            user, time, item, file and row, whatever order they came in.
        dead: Interactions whose user or item is in no table, as `checks.DEAD_SCHEMA`.
        duplicates: Number of rows that repeated another and were left out.
    """

    good: pa.Table
    dead: pa.Table
    duplicates: int


def join_ids(log: pa.Table, users: pa.Table, items: pa.Table) -> Joined:
    """Looks up users and items, puts rows in order and leaves repetitions out.

    The same user, item and time (or user and item, if the log has no times) is a repetition: the
    first in order of file and row stays.

    Args:
        log: Checked interactions of whole users.
        users: The checked users table.
        items: The checked items table.
    """
    log = log.combine_chunks()
    rejections = Rejections(len(log))
    rows = {}
    for name, id_name, table in ((USER_ROW, USER_ID, users), (ITEM_ROW, ITEM_ID, items)):
        found = pc.index_in(log[id_name], table[id_name].combine_chunks())
        rows[name] = pc.fill_null(found, -1).to_numpy().astype(np.int32)
        kind = "user" if id_name == USER_ID else "item"
        rejections.add(rows[name] < 0, f"the {kind} is not in the {kind}s table")
    keys = [rows[USER_ROW], rows[ITEM_ROW]]
    if TIMESTAMP in log.column_names:
        keys.insert(1, log[TIMESTAMP].to_numpy())
    order = np.lexsort([log[ROW].to_numpy(), log[FILE].to_numpy(), *keys[::-1]])
    order = order[rejections.ok[order]]
    repeated = np.zeros(len(order), bool)
    repeated[1:] = np.all([key[order][1:] == key[order][:-1] for key in keys], axis=0)
    good = log.drop([USER_ID, ITEM_ID])
    for name, values in rows.items():
        good = good.append_column(name, pa.array(values))
    return Joined(good.take(order[~repeated]), rejections.dead(log), int(repeated.sum()))
