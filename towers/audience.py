"""Users whose exact lists show what exposure the groups have."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from fairness_losses.browsing import dcg_weights
from fairness_losses.exposure import list_exposure
from fairness_losses.groups import Groups
from towers.evaluation import Positives, exact_lists

_LEAST_USERS = 100
"""Users of a slice, below which its exposure would be chance."""


@dataclasses.dataclass(frozen=True)
class Audience:
    """Users, their slices and what they have chosen already.

    Attributes:
        columns: Looked-up query features, `[num_users]` or `[num_users, values]` each.
        slices: float32 `[num_users, num_slices]`; with no slice everybody is in one.
        seen: Items per user that are left out of the lists.
    """

    columns: Mapping[str, np.ndarray]
    slices: np.ndarray
    seen: Positives

    @classmethod
    def build(
        cls,
        columns: Mapping[str, np.ndarray],
        slices: np.ndarray,
        seen: tuple[np.ndarray, np.ndarray],
        max_users: int,
    ) -> Audience:
        """Takes users evenly from the table, and more of slices that would have hardly any.

        Those that are added count in these slices only, and so shift no other one.

        Args:
            columns: Looked-up query features of all users.
            slices: float `[num_users, num_slices]`.
            seen: User rows and item rows, `[n]` each.
            max_users: So many users at most, but 100 of every slice, or all it has.
        """
        num_users = len(slices)
        who = np.arange(num_users)
        if num_users > max_users:
            who = np.linspace(0, num_users - 1, max_users).astype(int)
        counted = slices[who]
        for number in range(slices.shape[1]):
            others = np.setdiff1d(np.flatnonzero(slices[:, number]), who)
            missing = max(0, _LEAST_USERS - np.count_nonzero(counted[:, number]))
            if missing < len(others):
                others = others[np.linspace(0, len(others) - 1, missing).astype(int)]
            only = np.zeros((len(others), slices.shape[1]), np.float32)
            only[:, number] = slices[others, number]
            who, counted = np.append(who, others), np.concatenate([counted, only])
        position = np.full(num_users, -1)
        position[who] = np.arange(len(who))
        rows = position[seen[0]]
        everybody = np.ones((len(who), 1), np.float32)
        return cls(
            columns={name: column[who] for name, column in columns.items()},
            slices=counted if slices.shape[1] else everybody,
            seen=Positives.from_pairs(rows[rows >= 0], seen[1][rows >= 0], len(who)),
        )

    def exposure(
        self, query: np.ndarray, candidate: np.ndarray, groups: Groups, depth: int
    ) -> np.ndarray:
        """Exposure of every group in the exact lists of every slice, with the weights of DCG.

        Args:
            query: float32 `[num_users, dim]`.
            candidate: float32 `[num_items, dim]`, the whole catalogue.
            groups: Groups of the catalogue.
            depth: Length of the lists.

        Returns:
            float64 `[num_slices, num_groups]`, summed over users.
        """
        exposure = np.zeros((self.slices.shape[1], len(groups.labels)))
        weights = dcg_weights(depth)
        for start, lists in exact_lists(query, candidate, self.seen, depth):
            of_users = self.slices[start : start + len(lists)]
            exposure += of_users.T @ list_exposure(lists, groups.membership, weights)
        return exposure
