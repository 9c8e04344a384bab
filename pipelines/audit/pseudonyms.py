"""Brings the slices of the users and a log together that holds only hashes of their ids.

The log stays as it is. Where the salts are kept, the ids of the users table are hashed as the
server did, so that each hash leads back to its user in memory. Nothing of that is written: a report
has slices, and dead letters of such a log have no user.
"""

from __future__ import annotations

import dataclasses
import functools
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from serving.log.lists import SALT, USER_HASH
from serving.log.salts import hash_ids, read_salt
from towers.config import USER_ID


@dataclasses.dataclass(frozen=True)
class Pseudonyms:
    """Where hashes lead back to users.

    Attributes:
        salts: Folder of the salts, `serving.log.salts`.
        users: Parquet file or folder with `user_id` of every user whose slices are known.
    """

    salts: pathlib.Path
    users: pathlib.Path

    def resolve(self, lists: pa.Table) -> pa.Table:
        """Returns lists with `user_id` in place of `user_hash` and `salt`.

        A user who is not in the table, or whose salt has been deleted, is called by the hash: their
        slices are `unknown`, and in another period they are another user.

        Args:
            lists: With the columns `user_hash` and `salt` of the log.
        """
        hashes, salts = lists[USER_HASH].combine_chunks(), lists[SALT].to_numpy()
        found = hashes
        for start in np.unique(salts):
            users, of_users = _hashed_users(self, int(start))
            row = pc.index_in(hashes, value_set=of_users)
            mine = pc.and_(pa.array(salts == start), pc.is_valid(row))
            found = pc.if_else(mine, users.take(row), found)
        return lists.drop([USER_HASH, SALT]).append_column(USER_ID, found)

    def has_salt(self, start: int) -> bool:
        """Whether the salt of the period that begins with a second is kept."""
        return read_salt(self.salts, start) is not None


# A worker reads the lists of a period or two after one another.
@functools.lru_cache(maxsize=4)
def _hashed_users(known: Pseudonyms, start: int) -> tuple[pa.Array, pa.Array]:
    """The ids of all users, and their hashes in a period; none where its salt is gone."""
    salt = read_salt(known.salts, start)
    if salt is None:
        return pa.array([], pa.string()), pa.array([], pa.string())
    users = pq.read_table(known.users, columns=[USER_ID])[USER_ID].combine_chunks()
    return users, pa.array(hash_ids(users.to_pylist(), salt), pa.string())
