"""Who chose what."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from serving.search import NO_ITEM


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Choices, the earliest first.

    Attributes:
        users: Rows of the users, int64 `[num_pairs]`.
        items: Rows of the items, int64 `[num_pairs]`.
    """

    users: np.ndarray
    items: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Pairs]) -> Pairs:
        """Returns one log of several, in their order."""
        return cls(*(np.concatenate([getattr(p, n) for p in parts]) for n in ("users", "items")))

    def among(self, items: np.ndarray) -> Pairs:
        """Returns the choices of some items, as positions among these.

        Args:
            items: Rows of the items, ascending, at least one.
        """
        place = np.minimum(np.searchsorted(items, self.items), len(items) - 1)
        is_there = items[place] == self.items
        return Pairs(self.users[is_there], place[is_there])

    def by_user(self, num_users: int) -> np.ndarray:
        """Returns the items of every user, int32 `[num_users, n]`, padded with `NO_ITEM`."""
        order = np.argsort(self.users, kind="stable")
        counts = np.bincount(self.users, minlength=num_users)
        column = np.arange(len(order)) - np.repeat(np.cumsum(counts) - counts, counts)
        chosen = np.full((num_users, counts.max(initial=0)), NO_ITEM, np.int32)
        chosen[self.users[order], column] = self.items[order]
        return chosen
