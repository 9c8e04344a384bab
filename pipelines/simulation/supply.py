"""Creators come and go: who is not seen gives up."""

from __future__ import annotations

import numpy as np

from pipelines.simulation.config import SupplyConfig


class Supply:
    """Who is present, round after round.

    Args:
        settings: When creators leave, and how many come.
        creator: Creator of every item, int `[num_items]`.
        present: Who is present at first, bool `[num_creators]`.
        queue: The others in the order in which they come.
    """

    def __init__(
        self, settings: SupplyConfig, creator: np.ndarray, present: np.ndarray, queue: np.ndarray
    ) -> None:
        self._settings, self._creator = settings, creator
        self._num_items = np.bincount(creator, minlength=len(present))
        self._queue = queue
        self._arrivals = round(settings.newcomers * int(present.sum()))
        self.present = present.copy()

    @property
    def items(self) -> np.ndarray:
        """Rows of the items that are there, int64, ascending."""
        return np.flatnonzero(self.present[self._creator])

    def next_round(self, attention: np.ndarray, rng: np.random.Generator) -> tuple[int, int]:
        """Lets creators leave who saw too little of what users saw, and new ones come.

        With the attention per item of a creator, over the mean of all items that are there, x:
        `P(leaves) = leave * exp(-x)`.

        Args:
            attention: What every item got in this round, float `[num_items]`, 0 where it was not
                there.
            rng: One number per creator, whoever is there: what arms differ in is not chance.

        Returns:
            How many left and how many came.
        """
        draws = rng.random(len(self.present))
        mean = attention.sum() / max(1, len(self.items))
        of_creator = np.bincount(self._creator, attention, minlength=len(self.present))
        own = of_creator / np.maximum(self._num_items, 1) / mean
        leaves = self.present & (draws < self._settings.leave * np.exp(-own))
        arriving, self._queue = np.split(self._queue, [self._arrivals])
        self.present[leaves] = False
        self.present[arriving] = True
        return int(leaves.sum()), len(arriving)
