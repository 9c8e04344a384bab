"""What is noted of lists besides sums per cell, and merges by addition as they do."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.audit.cell_index import CellIndex
from pipelines.audit.details import shown_items
from pipelines.audit.list_checks import MODEL_VERSION, POLICY
from pipelines.audit.user_sample import UserSample

Served = tuple[str | int | None, str | int | None]
"""Policy and model version of a kind of list."""


@dataclasses.dataclass
class Notes:
    """Notes of some lists. Those of different lists are added with `+=`.

    Attributes:
        sample: Users with the exposure in their lists.
        shown: uint8, what was listed, bool `[num_combinations, num_items]`, packed along items;
            None if that would be too large.
        served: Lists of each kind.
    """

    sample: UserSample
    shown: np.ndarray | None
    served: collections.Counter[Served]

    @classmethod
    def empty(cls, index: CellIndex, num_items: int, num_groups: int, sample_size: int) -> Notes:
        """Returns the notes of no list."""
        nobody, nothing = np.zeros(0, np.uint64), np.zeros((0, num_groups))
        shown = shown_items(
            np.zeros(0, np.int64), np.zeros((0, 1), np.int32), len(index.cells), num_items
        )
        return cls(
            sample=UserSample(sample_size, nobody, nothing),
            shown=None if shown is None else np.packbits(shown, axis=1),
            served=collections.Counter(),
        )

    def __iadd__(self, other: Notes) -> Notes:
        self.sample += other.sample
        if self.shown is not None and other.shown is not None:
            self.shown |= other.shown
        self.served += other.served
        return self

    def add(
        self,
        lists: pa.Table,
        users: np.ndarray,
        exposure: np.ndarray,
        rows: np.ndarray,
        index: CellIndex,
        num_items: int,
    ) -> None:
        """Notes lists.

        Args:
            lists: With `policy` and `model_version`.
            users: uint64 `[num_lists]`, hash of each list's user.
            exposure: float64 `[num_lists, num_groups]`.
            rows: int `[num_lists, depth]`, rows of the catalogue, padded.
            index: The cells of the users.
            num_items: Of the catalogue.
        """
        self.sample += UserSample.of(users, exposure, self.sample.size)
        if self.shown is not None:
            combination = index.combinations[index.look_up(users)]
            shown = shown_items(combination, rows, len(index.cells), num_items)
            if shown is not None:
                self.shown |= np.packbits(shown, axis=1)
        self.served.update(_served(lists))

    def items_shown(self, num_items: int) -> np.ndarray | None:
        """Returns `shown` as bool `[num_combinations, num_items]`."""
        if self.shown is None:
            return None
        return np.unpackbits(self.shown, axis=1, count=num_items).astype(bool)


def _served(lists: pa.Table) -> dict[Served, int]:
    ones = pa.array(np.ones(len(lists), np.int64))
    kinds = pa.table({POLICY: lists[POLICY], MODEL_VERSION: lists[MODEL_VERSION], "lists": ones})
    found: dict[str, list[Any]] = (
        kinds.group_by([POLICY, MODEL_VERSION]).aggregate([("lists", "sum")]).to_pydict()
    )
    pairs = zip(found[POLICY], found[MODEL_VERSION], strict=True)
    return dict(zip(pairs, found["lists_sum"], strict=True))
