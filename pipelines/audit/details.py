"""What an audit knows besides sums per cell: who is in which cells, and what was shown at all."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pyarrow as pa

from pipelines.audit.suppression import hidden_cells
from pipelines.audit.user_sample import UserSample
from pipelines.examples.splits import id_hashes
from pipelines.slicing import Cells, distinct_rows

OVERALL = ("", "")
"""Slice and value of the cell of all users."""

_MOST_SHOWN = 1 << 26
"""Of combinations times items: beyond it is not noted what was shown to whom."""


@dataclasses.dataclass(frozen=True)
class Details:
    """Users by combination: those who share all their cells are of one.

    Attributes:
        names: Slice and value of every cell but the first, which is everybody.
        cells: int `[num_combinations, num_slices + 1]`, the cells of each combination.
        users: int64 `[3, num_combinations]`: users with a list, with a positive, with an NDKL.
        sample: Users with the exposure in their lists.
        combinations: int `[num_sampled_users]`, of those.
        shown: bool `[num_combinations, num_items]`, what was listed; None if that is not known.
    """

    names: tuple[tuple[str, str], ...]
    cells: np.ndarray
    users: np.ndarray
    sample: UserSample
    combinations: np.ndarray
    shown: np.ndarray | None

    @functools.cached_property
    def contains(self) -> np.ndarray:
        """Bool `[num_cells, num_combinations]`, which users with a list a cell holds."""
        holds = np.zeros((len(self.names) + 1, len(self.cells)), bool)
        holds[self.cells, np.arange(len(self.cells))[:, None]] = True
        return holds & (self.users[0] > 0)

    def hidden(self, fewest: int) -> list[dict[tuple[str, str], bool]]:
        """Returns by cell what is not shown: all of it, what rests on positives, the NDKL.

        Args:
            fewest: Fewer users are too few, see `suppression.hidden_cells`.
        """
        slices = ["", *(name for name, _ in self.names)]
        hide: np.ndarray | None = None
        found = []
        for users in self.users:
            now = hidden_cells(self.contains, users, slices, fewest, hide)
            hide = now if hide is None else hide
            found.append({name: bool(now[number]) for name, number in self._numbers.items()})
        return found

    def number(self, name: tuple[str, str]) -> int:
        """Returns the number of a cell."""
        return self._numbers[name]

    @functools.cached_property
    def _numbers(self) -> dict[tuple[str, str], int]:
        return {name: number for number, name in enumerate([OVERALL, *self.names])}

    def members(self, name: tuple[str, str]) -> np.ndarray:
        """Returns which users of the sample are in a cell, bool `[num_sampled_users]`."""
        return (self.cells[self.combinations] == self.number(name)).any(axis=1)

    def shown_in(self, name: tuple[str, str]) -> np.ndarray | None:
        """Returns which items were listed in a cell, bool `[num_items]`; None if not known."""
        if self.shown is None:
            return None
        return self.shown[self.contains[self.number(name)]].any(axis=0)


def details_of(
    user_ids: pa.Array,
    divided: Cells,
    exposure: np.ndarray,
    has: np.ndarray,
    rows: np.ndarray,
    num_items: int,
    sample_size: int,
    seed: int,
) -> Details:
    """Returns the details of lists in memory, one per user.

    Args:
        user_ids: string `[num_users]`.
        divided: Their cells.
        exposure: float64 `[num_users, num_groups]`.
        has: bool `[2, num_users]`, see `Layout.has`.
        rows: int `[num_users, depth]`, rows of the catalogue, padded.
        num_items: Of the catalogue.
        sample_size: Users whose exposure is kept.
        seed: Of the users' hashes.
    """
    names: list[tuple[str, str]] = []
    cells = np.zeros((len(user_ids), len(divided.slices) + 1), np.int64)
    for column, (name, values) in enumerate(divided.slices.items(), start=1):
        for value, who in values.items():
            names.append((name, value))
            cells[who, column] = len(names)
    first, combination = distinct_rows(list(cells.T))
    hashes = id_hashes(user_ids, seed)
    sample = UserSample.of(hashes, exposure, sample_size)
    order = np.argsort(hashes)
    place = order[np.searchsorted(hashes[order], sample.users)]
    kinds = np.vstack([np.ones(len(hashes), bool), has])
    return Details(
        names=tuple(names),
        cells=cells[first],
        users=np.array([np.bincount(combination[k], minlength=len(first)) for k in kinds]),
        sample=sample,
        combinations=combination[place],
        shown=shown_items(combination, rows, len(first), num_items),
    )


def shown_items(
    combination: np.ndarray, rows: np.ndarray, num_combinations: int, num_items: int
) -> np.ndarray | None:
    """Returns what was listed for users of every combination.

    Args:
        combination: int `[num_lists]`.
        rows: int `[num_lists, depth]`, rows of the catalogue, padded.
        num_combinations: Of users.
        num_items: Of the catalogue.

    Returns:
        bool `[num_combinations, num_items]`; None if that would be too large.
    """
    if num_combinations * num_items > _MOST_SHOWN:
        return None
    # Padding, -1, is noted in the last column.
    shown = np.zeros((num_combinations, num_items + 1), bool)
    shown[combination[:, None], rows] = True
    return shown[:, :-1]
