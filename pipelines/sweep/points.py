"""The points of a sweep: what each is, and where its stages are."""

from __future__ import annotations

import dataclasses
from typing import Literal

from fairness_losses.config import FairnessConfig
from pipelines.sweep.config import BONUS, BONUS_PER_SLICE, SweepConfig

Kind = Literal["baseline", "regularizer", "bonus", "bonus_per_slice"]


@dataclasses.dataclass(frozen=True)
class Point:
    """One point of the frontier.

    Attributes:
        kind: What its lists come from.
        line: Name of the line that it is on.
        strength: Weight, bonus, or the ratio that bonuses are tuned to.
        fairness: How its model is trained; only a regularizer has a model of its own.
    """

    kind: Kind
    line: str
    strength: float
    fairness: FairnessConfig | None = None

    @property
    def name(self) -> str:
        """Of its folder in `sweep`."""
        return self.line if self.kind == "baseline" else f"{self.line}-{self.strength:g}"


def points_of(sweep: SweepConfig, fairness: FairnessConfig, baseline: str) -> list[Point]:
    """Returns all points of a sweep, the model without a regularizer first.

    Args:
        sweep: The sweep's settings.
        fairness: What its points override.
        baseline: Name of the model without a regularizer.
    """
    points = [Point("baseline", baseline, 0.0)]
    for point in sweep.points:
        points += [
            Point("regularizer", point.label, weight, point.fairness(fairness, weight))
            for weight in point.weights
        ]
    points += [Point("bonus", BONUS, bonus) for bonus in sweep.bonuses]
    if sweep.bonus_by:
        points += [Point("bonus_per_slice", BONUS_PER_SLICE, r) for r in sweep.bonus_ratios]
    return points
