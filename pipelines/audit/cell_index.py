"""Which cells of an audit the lists of a user belong to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from pipelines.config import SliceConfig
from pipelines.examples.splits import id_hashes
from pipelines.slicing import distinct_rows, divide
from towers.config import USER_ID


@dataclasses.dataclass(frozen=True)
class CellIndex:
    """The cells of every user.

    Users who share all their cells share a combination; a list is put into order by it once, and
    then is where it belongs in every cell.

    Attributes:
        names: Slice and value of every cell but the first, which is everybody.
        users: uint64 `[num_users]`, hashes of the known users, ascending.
        combinations: int32 `[num_users + 1]`, the combination of each, and at the end that of a
            user who is not known: `unknown` in every slice.
        cells: int32 `[num_combinations, num_slices + 1]`, the cells of each combination.
    """

    names: tuple[tuple[str, str], ...]
    users: np.ndarray
    combinations: np.ndarray
    cells: np.ndarray

    @classmethod
    def of(cls, users: pa.Table, slices: Sequence[SliceConfig], seed: int) -> CellIndex:
        """Indexes a users table.

        Args:
            users: `user_id` and the columns `slice.<column>`.
            slices: The divisions.
            seed: Of the users' hashes.
        """
        user_ids = users[USER_ID].combine_chunks()
        hashes = id_hashes(user_ids, seed)
        anybody = pa.concat_arrays([user_ids, pa.nulls(1, user_ids.type)])
        names: list[tuple[str, str]] = []
        cells = np.zeros((len(anybody), len(slices) + 1), np.int32)
        divided = divide(anybody, users, slices).slices
        for column, (name, values) in enumerate(divided.items(), start=1):
            for value, who in values.items():
                names.append((name, value))
                cells[who, column] = len(names)
        first, combination = distinct_rows(list(cells.T))
        order = np.argsort(hashes)
        return cls(
            names=tuple(names),
            users=hashes[order],
            combinations=np.append(combination[:-1][order], combination[-1:]).astype(np.int32),
            cells=cells[first],
        )

    @property
    def num_cells(self) -> int:
        """All cells, everybody's included."""
        return len(self.names) + 1

    def look_up(self, users: np.ndarray) -> np.ndarray:
        """Returns the place of every user in `users`, int64; `len(users)` for one not known.

        Args:
            users: uint64 `[num_lists]`, hashes.
        """
        if not len(self.users):
            return np.zeros(len(users), np.int64)
        place = np.minimum(np.searchsorted(self.users, users), len(self.users) - 1)
        return np.where(self.users[place] == users, place, len(self.users))
