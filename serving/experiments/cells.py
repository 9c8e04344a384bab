"""All users, and the users of every slice; slices of few users are withheld."""

from __future__ import annotations

import dataclasses

import numpy as np

from serving.experiments.config import Experiment
from serving.experiments.observations import Observations


@dataclasses.dataclass(frozen=True)
class Cell:
    """Some of the users.

    Attributes:
        slice: Column that they are a slice of; None for all users.
        value: Their value of it; None for all users.
        rows: bool `[num_users]`.
        is_withheld: Whether nothing may be said of them.
    """

    slice: str | None
    value: str | None
    rows: np.ndarray
    is_withheld: bool


def cells(experiment: Experiment, seen: Observations) -> list[Cell]:
    """Returns all users, then the slices, by column and value.

    A slice with fewer than `min_users` in an arm is withheld, and then the next larger ones of its
    column, until two or more with `min_users` together are: else what is left of all users would
    give them away.

    Args:
        experiment: With `slices` and `min_users`.
        seen: The users.
    """
    found = [Cell(None, None, np.ones(len(seen.arm), bool), False)]
    for column in experiment.slices:
        values = seen.slices[column]
        names = np.unique(values)
        rows = [values == name for name in names]
        fewest = [
            int(np.bincount(seen.arm[of_value], minlength=len(experiment.arms)).min())
            for of_value in rows
        ]
        withheld = _withheld(np.array(fewest, np.int64), experiment.min_users)
        found += [
            Cell(column, str(name), of_value, bool(is_withheld))
            for name, of_value, is_withheld in zip(names, rows, withheld, strict=True)
        ]
    return found


def _withheld(fewest: np.ndarray, min_users: int) -> np.ndarray:
    """Which slices are withheld, by the users that they have in the arm with the fewest."""
    withheld = fewest < min_users
    while withheld.any() and not withheld.all():
        if withheld.sum() > 1 and fewest[withheld].sum() >= min_users:
            break
        withheld[np.where(withheld, np.iinfo(np.int64).max, fewest).argmin()] = True
    return withheld
