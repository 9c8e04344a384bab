"""What was observed of the users of an experiment: sums per user, all that an analysis needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Observations:
    """Sums of every user who was served a list, from the first list on.

    Attributes:
        arm: int `[num_users]`, number of the arm.
        totals: By column of the outcomes, and for `lists` and `outcomes`, float64 `[num_users]`.
        before: The same columns before the start, for the adjustment; empty without one.
        exposure: float64 `[num_users, num_groups]`, of the groups of `exposure.targets` in their
            order.
        slices: By column, the users' values, string `[num_users]`.
        arrived: int `[num_users]`, whole days from the start to the first list.
        followed: int `[num_users]`, whole days from the first list to the end of the data.
        daily: By column of the primary metric, float64 `[num_users, num_days]`, sums per day
            since the first list.
    """

    arm: np.ndarray
    totals: Mapping[str, np.ndarray]
    before: Mapping[str, np.ndarray]
    exposure: np.ndarray
    slices: Mapping[str, np.ndarray]
    arrived: np.ndarray
    followed: np.ndarray
    daily: Mapping[str, np.ndarray]

    def users(self, num_arms: int) -> np.ndarray:
        """Returns the number of users per arm, int `[num_arms]`."""
        return np.bincount(self.arm, minlength=num_arms)
