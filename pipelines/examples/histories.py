"""What every user chose in training, the latest last: the column behind a history feature."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from pipelines.examples.inputs import TIMESTAMP
from pipelines.examples.splits import ITEM_ROW, ORIGIN, USER_ROW

# A string array holds two gigabytes at most, so the column is made of several.
_USERS_PER_CHUNK = 65_536


def last_choices(train: pa.Table, max_items: int) -> pa.Table:
    """Returns the last training interactions of every user.

    Args:
        train: Training interactions of whole users, as `joins.in_order` returns them.
        max_items: How many to keep per user.

    Returns:
        `USER_ROW` and `ITEM_ROW`, int32, by user; within a user in order of time, or of file and
        row if the log has no times.
    """
    users = train[USER_ROW].to_numpy()
    if TIMESTAMP not in train.column_names:
        # With times, the log is in this order already.
        order = np.lexsort([train[ORIGIN].to_numpy(), users])
        train, users = train.take(order), users[order]
    starts = np.flatnonzero(np.diff(users, prepend=-1))
    lengths = np.diff(starts, append=len(users))
    from_end = np.repeat(starts + lengths, lengths) - np.arange(len(users))
    return train.select([USER_ROW, ITEM_ROW]).filter(pa.array(from_end <= max_items))


def history_column(choices: Iterable[pa.Table], num_users: int, ids: pa.Array) -> pa.ChunkedArray:
    """Returns the history of every user of the table.

    Args:
        choices: From `last_choices`, of every shard; a user is in one of them only.
        num_users: Rows of the users table.
        ids: Ids of the items table, string `[num_items]`.

    Returns:
        Lists of strings `[num_users]`, empty without training interactions.
    """
    tables = list(choices)
    users, items = (
        np.concatenate([np.zeros(0, np.int32), *(table[name].to_numpy() for table in tables)])
        for name in (USER_ROW, ITEM_ROW)
    )
    items = items[np.argsort(users, kind="stable")]
    ends = np.concatenate([[0], np.bincount(users, minlength=num_users).cumsum()])
    chunks = []
    for start in range(0, num_users, _USERS_PER_CHUNK):
        bounds = ends[start : start + _USERS_PER_CHUNK + 1]
        chosen = ids.take(pa.array(items[bounds[0] : bounds[-1]]))
        offsets = pa.array(bounds - bounds[0], pa.int32())
        chunks.append(pa.ListArray.from_arrays(offsets, chosen))
    return pa.chunked_array(chunks, pa.list_(pa.string()))
