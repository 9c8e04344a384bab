"""A sample of the users with the exposure in all their lists: it merges, and has a fixed size.

The users with the least hashes are kept. Whoever is among them for all lists is among them for any
part of the lists, so no list of a kept user is missing, however the lists were divided.

Source: the bottom-k sketch of Cohen and Kaplan, "Summarizing Data using Bottom-k Sketches", PODC
2007.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass
class UserSample:
    """Users and the sums over their lists.

    Attributes:
        size: Most users that are kept.
        users: uint64 `[num_users]`, hashes, ascending.
        sums: float64 `[num_users, num_sums]`.
    """

    size: int
    users: np.ndarray
    sums: np.ndarray

    @classmethod
    def of(cls, users: np.ndarray, sums: np.ndarray, size: int) -> UserSample:
        """Samples the users of lists.

        Args:
            users: uint64 `[num_lists]`, hash of each list's user.
            sums: float64 `[num_lists, num_sums]`, what a list adds.
            size: Most users that are kept.
        """
        least = np.unique(users)[:size]
        place = np.searchsorted(least, users)
        kept = place < len(least)
        kept[kept] = least[place[kept]] == users[kept]
        total = np.zeros((len(least), sums.shape[1]))
        np.add.at(total, place[kept], sums[kept])
        return cls(size, least, total)

    def __iadd__(self, other: UserSample) -> UserSample:
        if not len(self.users):
            self.users, self.sums = other.users.copy(), other.sums.copy()
            return self
        merged = UserSample.of(
            np.concatenate([self.users, other.users]),
            np.concatenate([self.sums, other.sums]),
            self.size,
        )
        self.users, self.sums = merged.users, merged.sums
        return self
