"""What is not shown of small cells, nor of the others that would give them away by subtraction.

A cell of few users is hidden. Of two genders, the hidden one would be everybody less the other, and
of crossed slices a cell would be its row less the rest of the row. So more cells are hidden until

- no hidden cell is a sum of multiples of shown ones, whatever the multiples, and
- where a shown cell (or everybody) is reduced by all shown cells of a slice that lie within it, the
  users who are left are none or enough.

Each time, what is hidden next is the smallest cell of those that give another away, if there is one
of the same slice. What is hidden for its own sake and what for another's looks the same. This is
complementary cell suppression; the least loss would take integer programming, and is not sought.
What the method does not do: bounds on a hidden cell that follow from its being no less than 0.

Source: Cox, "Suppression Methodology and Statistical Disclosure Control", JASA 1980; Willenborg and
de Waal, "Elements of Statistical Disclosure Control", 2001, chapter 6.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.optimize import linprog

_CLOSE = 1e-7


def hidden_cells(
    contains: np.ndarray,
    users: np.ndarray,
    slices: Sequence[str],
    fewest: int,
    hidden: np.ndarray | None = None,
) -> np.ndarray:
    """Decides which cells are not shown.

    Args:
        contains: bool `[num_cells, num_combinations]`, which users a cell holds. Users who share
            all their cells are of one combination.
        users: int `[num_combinations]`, their number.
        slices: What each cell divides the users by, `[num_cells]`: cells of one slice have no user
            in common.
        fewest: Cells of fewer users are hidden; 1 hides nothing.
        hidden: bool `[num_cells]`, cells that are not shown anyway.

    Returns:
        bool `[num_cells]`. A cell that holds no combination stays as it is given: there is nothing
        to hide.
    """
    if fewest <= 1:
        return np.zeros(len(contains), bool) if hidden is None else hidden
    table = _Table.of(contains, users, slices)
    hide = table.holds_any & (table.sizes < fewest)
    if hidden is not None:
        hide |= hidden
    while True:
        more = _too_few_left(table, fewest, hide)
        if more is None:
            more = _gives_away(table, hide)
        if more is None:
            return hide
        hide[more] = True


@dataclasses.dataclass(frozen=True)
class _Table:
    """Cells, and how they lie within one another.

    Attributes:
        contains: float `[num_cells, num_combinations]`, 1 where a cell holds one.
        sizes: int `[num_cells]`, users.
        holds_any: bool `[num_cells]`.
        slice: int `[num_cells]`, number of its slice.
        within: bool `[num_cells, num_cells]`, whether the second lies within the first.
    """

    contains: np.ndarray
    sizes: np.ndarray
    holds_any: np.ndarray
    slice: np.ndarray
    within: np.ndarray

    @classmethod
    def of(cls, contains: np.ndarray, users: np.ndarray, slices: Sequence[str]) -> _Table:
        holds, holds_any = contains.astype(float), contains.any(axis=1)
        within = (1 - holds) @ holds.T == 0
        np.fill_diagonal(within, False)
        number = np.unique(np.asarray(slices), return_inverse=True)[1]
        return cls(holds, contains @ users, holds_any, number, within & holds_any)

    def smallest(self, cells: np.ndarray) -> int:
        """Returns the number of the cell with the fewest users."""
        return int(cells[self.sizes[cells].argmin()])


def _too_few_left(table: _Table, fewest: int, hide: np.ndarray) -> int | None:
    """A cell to hide as what it and others of its slice leave of a shown cell is too few users."""
    shown = ~hide & table.holds_any
    combinations = table.contains.sum(axis=1)
    for name in np.unique(table.slice[shown]):
        parts = table.within & shown & (table.slice == name)
        users_left = table.sizes - parts @ table.sizes
        some_left = combinations - parts @ combinations > 0
        bad = np.flatnonzero(shown & parts.any(axis=1) & some_left & (users_left < fewest))
        if len(bad):
            return table.smallest(np.flatnonzero(parts[bad[0]]))
    return None


def _gives_away(table: _Table, hide: np.ndarray) -> int | None:
    """A cell to hide as it and other shown ones add up to a hidden one."""
    shown = np.flatnonzero(~hide & table.holds_any)
    if not len(shown):
        return None
    rows = table.contains[shown]
    basis = _basis(rows)
    for cell in np.flatnonzero(hide & table.holds_any):
        target = table.contains[cell]
        if np.abs(target - basis.T @ (basis @ target)).max() < _CLOSE:
            used = shown[_fewest_terms(rows, target)]
            alike = used[table.slice[used] == table.slice[cell]]
            return table.smallest(alike if len(alike) else used)
    return None


def _basis(rows: np.ndarray) -> np.ndarray:
    """Orthonormal rows that span the same space."""
    _, values, basis = np.linalg.svd(rows, full_matrices=False)
    return basis[values > _CLOSE * max(values.max(), 1.0)]


def _fewest_terms(rows: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Numbers of rows of which some multiples sum to the target, few as a rule.

    The multiples with the least sum of absolute values: a linear programme.
    """
    both = np.hstack([rows.T, -rows.T])
    found = linprog(np.ones(both.shape[1]), A_eq=both, b_eq=target, method="highs")
    positive, negative = np.split(found.x, 2)
    return np.flatnonzero(np.abs(positive - negative) > _CLOSE)
