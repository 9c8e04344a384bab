"""Brings interactions together with the tables: unknown ids, order, repetitions."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.examples.checks import Rejections
from pipelines.examples.inputs import TIMESTAMP
from pipelines.examples.splits import HASH, ITEM_ROW, ORIGIN, USER_ROW, id_hashes
from pipelines.readers.chunks import FILE, ROW
from towers.config import ITEM_ID, USER_ID


@dataclasses.dataclass(frozen=True)
class Found:
    """Interactions whose user and item are in the tables.

    Attributes:
        good: The input's columns with `USER_ROW` and `ITEM_ROW` in place of the ids, and `ORIGIN`
            in that of file and row.
        user_hashes: Hash of every good row's user, uint64.
        dead: Interactions whose user or item is in no table, as `checks.DEAD_SCHEMA`.
    """

    good: pa.Table
    user_hashes: np.ndarray
    dead: pa.Table


def with_hashes(table: pa.Table, seed: int) -> pa.Table:
    """Appends `HASH`, that of the id, which says where a row belongs, to rows of a table.

    Args:
        table: Rows of a checked users or items table, the id first.
        seed: Of the hashes.
    """
    return table.append_column(HASH, pa.array(id_hashes(table.column(0).combine_chunks(), seed)))


def look_up(log: pa.Table, users: pa.Table, items: pa.Table) -> Found:
    """Replaces ids by rows of the tables, so that only numbers have to travel.

    Args:
        log: Checked interactions.
        users: Ids of the users table, and `HASH`; other columns are not looked at.
        items: Ids of the items table; other columns are not looked at.
    """
    log = log.combine_chunks()
    rejections = Rejections(len(log))
    rows = {}
    for name, id_name, table in ((USER_ROW, USER_ID, users), (ITEM_ROW, ITEM_ID, items)):
        found = pc.index_in(log[id_name], table[id_name].combine_chunks())
        rows[name] = pc.fill_null(found, -1).to_numpy().astype(np.int32)
        kind = "user" if id_name == USER_ID else "item"
        rejections.add(rows[name] < 0, f"the {kind} is not in the {kind}s table")
    # One number of file and row, which no file has 2^40 of, travels and is sorted sooner than two.
    origin = (log[FILE].to_numpy().astype(np.int64) << 40) + log[ROW].to_numpy()
    columns = {name: pa.array(of_rows) for name, of_rows in rows.items()}
    kept = log.drop([USER_ID, ITEM_ID, FILE, ROW])
    for name, column in {**columns, ORIGIN: pa.array(origin)}.items():
        kept = kept.append_column(name, column)
    good = kept.filter(pa.array(rejections.ok))
    hashes = users[HASH].to_numpy()[good[USER_ROW].to_numpy()]
    return Found(good, hashes, rejections.dead(log))


def in_order(log: pa.Table) -> tuple[pa.Table, int]:
    """Puts rows in order and leaves repetitions out.

    The same user, item and time (or user and item, if the log has no times) is a repetition: the
    first in order of file and row stays.

    Args:
        log: All `Found.good` of some users, in any order.

    Returns:
        The rows by user, time, item, file and row; and the number of repetitions.
    """
    names = [n for n in (USER_ROW, TIMESTAMP, ITEM_ROW) if n in log.column_names]
    keys = [log[name].to_numpy() for name in names]
    order = np.lexsort([log[ORIGIN].to_numpy(), *keys[::-1]])
    repeated = np.zeros(len(order), bool)
    repeated[1:] = np.all([key[order][1:] == key[order][:-1] for key in keys], axis=0)
    return log.take(order[~repeated]), int(repeated.sum())


def by_shard(
    table: pa.Table, hashes: np.ndarray, num_shards: int
) -> Iterator[tuple[int, pa.Table]]:
    """Divides rows by a hash.

    Args:
        table: The rows.
        hashes: uint64 `[num_rows]`.
        num_shards: At most 65,536.

    Yields:
        Every shard with its rows, so that each one is written even if it has none.
    """
    # Numbers of 16 bits are sorted in linear time.
    shard = (hashes % num_shards).astype(np.uint16)
    order = np.argsort(shard, kind="stable")
    bounds = np.searchsorted(shard[order], np.arange(num_shards, dtype=np.uint16))
    table = table.take(order)
    for number, (start, end) in enumerate(itertools.pairwise([*bounds.tolist(), len(table)])):
        yield number, table.slice(start, end - start)
