"""Sample-ratio mismatch: whether the arms have as many users as they should."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from gbstats.utils import check_srm

ALPHA = 0.001
"""Of the test. A mismatch means that something else than chance chose who is in which arm, and then
no effect means anything. Source: Fabijan et al., "Diagnosing Sample Ratio Mismatch in Online
Controlled Experiments", KDD 2019."""


@dataclasses.dataclass(frozen=True)
class SampleRatio:
    """The test.

    Attributes:
        users: Per arm.
        shares: Per arm, as they should be.
        p: Of the chi-squared test.
    """

    users: list[int]
    shares: list[float]
    p: float

    @property
    def is_mismatch(self) -> bool:
        """Whether there is a mismatch, which no effect survives."""
        return self.p < ALPHA


def sample_ratio(users: np.ndarray, shares: Sequence[float]) -> SampleRatio:
    """Tests the number of users per arm, int `[num_arms]`, against their shares."""
    counts = [int(n) for n in users]
    return SampleRatio(counts, list(shares), float(check_srm(counts, list(shares))))
