"""Sums of lists per cell that merge by addition: what an audit of any number of lists keeps."""

from __future__ import annotations

import dataclasses

import numpy as np

from pipelines.audit.cell_index import CellIndex
from pipelines.audit.notes import Notes
from pipelines.audit.poisson import poisson_counts

_BLOCK = 1024
"""Lists whose draws are held at once: at 200 resamples 1.6 MB, which stay in the cache."""


@dataclasses.dataclass
class Accumulator:
    """The lists of every cell, added up; its size does not depend on how many there are.

    Accumulators of different lists are added with `+=`, in any order and grouping. Numbers of
    lists and users are exact; sums are those of any other order but for the rounding of floats.

    Attributes:
        lists: int64 `[num_cells]`.
        sums: float64 `[num_cells, num_sums]`.
        resampled: float64 `[num_cells, samples, num_sums]`.
        seen: bool `[3, num_users]`: which known users have a list, one with a positive, and one
            whose NDKL is defined.
        strangers: The same of other users, whose hashes are kept: uint64, distinct, ascending.
        notes: What else is noted of the lists.
    """

    lists: np.ndarray
    sums: np.ndarray
    resampled: np.ndarray
    seen: np.ndarray
    strangers: tuple[np.ndarray, ...]
    notes: Notes

    @classmethod
    def empty(cls, index: CellIndex, num_sums: int, samples: int, notes: Notes) -> Accumulator:
        """Returns the sums of no list, with its notes."""
        return cls(
            lists=np.zeros(index.num_cells, np.int64),
            sums=np.zeros((index.num_cells, num_sums)),
            resampled=np.zeros((index.num_cells, samples, num_sums)),
            seen=np.zeros((3, len(index.users)), bool),
            strangers=(np.zeros(0, np.uint64),) * 3,
            notes=notes,
        )

    def __iadd__(self, other: Accumulator) -> Accumulator:
        self.lists += other.lists
        self.sums += other.sums
        self.resampled += other.resampled
        self.seen |= other.seen
        self._meet(*other.strangers)
        self.notes += other.notes
        return self

    def add(
        self,
        users: np.ndarray,
        sums: np.ndarray,
        has: np.ndarray,
        index: CellIndex,
        seed: int,
    ) -> None:
        """Adds lists.

        Args:
            users: uint64 `[num_lists]`, hash of each list's user.
            sums: float64 `[num_lists, num_sums]`.
            has: bool `[2, num_lists]`, see `Layout.has`.
            index: The cells of the users.
            seed: Of the resamples.
        """
        place = index.look_up(users)
        known = place < len(index.users)
        counts = np.vstack([np.ones(len(users), bool), has])
        for row, lists in enumerate(counts):
            self.seen[row, place[known & lists]] = True
        self._meet(*(users[~known & lists] for lists in counts))
        combination = index.combinations[place]
        order = np.argsort(combination, kind="stable")
        users, sums = users[order], sums[order]
        present, starts, lists = np.unique(
            combination[order], return_index=True, return_counts=True
        )
        for cells, start, end in zip(index.cells[present], starts, starts + lists, strict=True):
            self.lists[cells] += end - start
            self.sums[cells] += sums[start:end].sum(axis=0)
            self.resampled[cells] += self._resample(users[start:end], sums[start:end], seed)

    def _resample(self, users: np.ndarray, sums: np.ndarray, seed: int) -> np.ndarray:
        total = np.zeros(self.resampled.shape[1:])
        for start in range(0, len(users), _BLOCK):
            block = slice(start, start + _BLOCK)
            total += poisson_counts(users[block], len(total), seed).T @ sums[block]
        return total

    def _meet(self, *users: np.ndarray) -> None:
        self.strangers = tuple(map(np.union1d, self.strangers, users))

    def users(self, index: CellIndex) -> np.ndarray:
        """Returns distinct users, and those of them with a positive and with an NDKL.

        Args:
            index: The cells of the users.

        Returns:
            int64 `[3, num_combinations]`; cells add up those of their combinations.
        """
        known, stranger = index.combinations[:-1], index.combinations[-1]
        counts = np.zeros((len(self.seen), len(index.cells)), np.int64)
        for row, strangers in enumerate(self.strangers):
            counts[row] = np.bincount(known[self.seen[row]], minlength=len(index.cells))
            counts[row, stranger] += len(strangers)
        return counts
