"""What is relevant to whom, looked up for some lists at a time."""

from __future__ import annotations

import dataclasses

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.examples.splits import id_hashes
from towers.config import ITEM_ID, USER_ID

_COMPARED = 1 << 22
"""Ranks compared with a relevant item at a time."""


@dataclasses.dataclass(frozen=True)
class Relevance:
    """The relevant items of every user that has any.

    Attributes:
        users: uint64 `[num_users]`, hashes, ascending.
        starts: int64 `[num_users + 1]`, where each user's items begin.
        items: int32, rows of the catalogue, -1 for an item that is not in it.
    """

    users: np.ndarray
    starts: np.ndarray
    items: np.ndarray

    @classmethod
    def of(cls, relevant: pa.Table, item_ids: pa.Array, seed: int) -> Relevance:
        """Indexes pairs.

        Args:
            relevant: `user_id` and `item_id`; a pair that repeats counts once.
            item_ids: string `[num_items]`, the catalogue.
            seed: Of the users' hashes.
        """
        pairs = relevant.select([USER_ID, ITEM_ID]).group_by([USER_ID, ITEM_ID]).aggregate([])
        hashes = id_hashes(pairs[USER_ID].combine_chunks(), seed)
        found = pc.index_in(pairs[ITEM_ID], value_set=item_ids)
        order = np.argsort(hashes, kind="stable")
        users, starts = np.unique(hashes[order], return_index=True)
        items = pc.fill_null(found, -1).to_numpy().astype(np.int32)[order]
        return cls(users, np.append(starts, len(items)), items)

    def look_up(self, users: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Finds what is relevant in lists.

        Args:
            users: uint64 `[num_lists]`, hash of each list's user.
            rows: int `[num_lists, depth]`, rows of the catalogue, padded.

        Returns:
            Whether the item at a rank is relevant, bool `[num_lists, depth]`; and the number of
            relevant items of the list's user, listed or not, int64 `[num_lists]`.
        """
        place = np.searchsorted(self.users, users)
        known = np.append(self.users, np.uint64(0))[place] == users
        known &= place < len(self.users)
        place = np.where(known, place, 0)
        num_relevant = np.where(known, np.append(np.diff(self.starts), 0)[place], 0)
        # Every relevant item of every list, one after the other, is looked for along its list.
        lists = np.repeat(np.arange(len(users)), num_relevant)
        ends = num_relevant.cumsum()
        nth = np.arange(len(lists)) - np.repeat(ends - num_relevant, num_relevant)
        wanted = self.items[np.repeat(self.starts[place], num_relevant) + nth]
        hits = np.zeros(rows.shape, bool)
        step = max(1, _COMPARED // rows.shape[1])
        for start in range(0, len(lists), step):
            block = slice(start, start + step)
            where = (rows[lists[block]] == wanted[block, None]) & (wanted[block, None] >= 0)
            pair, rank = np.nonzero(where)
            hits[lists[block][pair], rank] = True
        return hits, num_relevant
