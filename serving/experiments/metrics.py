"""What is measured of the users of an arm."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from fairness_losses.config import Settings

LISTS, OUTCOMES = "lists", "outcomes"
"""Columns that need no column: how many lists a user was served, and how many outcomes followed."""


class _Metric(Settings):
    name: str = Field(min_length=1)
    """As the result calls it."""

    better: Literal["higher", "lower"] = "higher"
    """Which change is an improvement."""

    margin: float | None = Field(default=None, gt=0, lt=1)
    """Of a guardrail: the relative change for the worse that is too much."""


class MeanMetric(_Metric):
    """Mean over the users of a column's sum per user."""

    kind: Literal["mean"]
    """`mean`."""

    value: str
    """Column of the outcomes; or `outcomes`, their number, or `lists`, that of the lists."""

    @property
    def columns(self) -> list[str]:
        """Columns of the outcomes that it needs."""
        return [c for c in (self.value,) if c not in (LISTS, OUTCOMES)]


class RatioMetric(_Metric):
    """Sum of a column over all users, over the sum of another one.

    Users are what was assigned, so the variance is by the delta method over users.
    Source: Deng, Knoblich and Lu, "Applying the Delta Method in Metric Analytics", KDD 2018.
    """

    kind: Literal["ratio"]
    """`ratio`."""

    numerator: str
    """As `value` of a mean."""

    denominator: str
    """As `value` of a mean."""

    @property
    def columns(self) -> list[str]:
        """Columns of the outcomes that it needs."""
        return [c for c in (self.numerator, self.denominator) if c not in (LISTS, OUTCOMES)]


class ExposureMetric(_Metric):
    """Exposure ratio of groups: a group's share of exposure over its target share.

    It is measured for all users and for every slice, and is a ratio metric of every user's sums.
    """

    kind: Literal["exposure"]
    """`exposure`."""

    groups: list[str] = Field(min_length=1)
    """The groups whose exposure must not fall."""

    better: Literal["higher"] = "higher"
    """`higher`: what is lost is exposure."""

    @property
    def columns(self) -> list[str]:
        """None: exposure is in the lists."""
        return []


Metric = MeanMetric | RatioMetric | ExposureMetric
