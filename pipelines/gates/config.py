"""Settings of gates: thresholds on figures of a report."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fairness_losses.config import Settings

OVERALL = "overall"
"""Stands in `over` for all users."""


class GateConfig(Settings):
    """One threshold. It holds for every figure that it names: the worst of them decides."""

    name: str | None = None
    """What the verdict calls it; by default it is made of the other settings."""
    figure: str
    """A figure of the audit: of quality (`ndcg@100`), of item groups (`exposure_ratio`), across
    them (`awrf`); or `index_recall`, the recall of the index per group."""
    group: str | None = None
    """Group of items; by default every group that has the figure, for `exposure_ratio` those with a
    target. Figures that are of no group have none."""
    over: str = OVERALL
    """Name of a slice, whose every value is looked at (the worst slice decides); by default all
    users together."""
    value: str | None = None
    """Only this value of the slice."""
    of: Literal["value", "difference", "ratio"] = "value"
    """`value`: the figure itself; `difference` and `ratio`: the highest less the lowest, and the
    lowest over the highest, between the values of the slice `over`; with `over: overall` between
    the groups of items."""
    end: Literal["value", "low", "high"] = "value"
    """What has to be within the limits: the figure, or an end of its interval."""
    min: float | None = None
    """Least that is allowed."""
    max: float | None = None
    """Most that is allowed."""
    change: Literal["absolute", "relative"] | None = None
    """Limits are on the change from the previous release's figure, which is taken as exact: the
    difference, or the difference over it. Needs `gates.previous`."""
    run: str | None = None
    """Name of the variant; by default the last one of the report, that with the regularizer."""

    @model_validator(mode="after")
    def _check(self) -> GateConfig:
        if self.min is None and self.max is None:
            raise ValueError("a gate should have `min` or `max`.")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(
                f"`min` should be at most `max`. Received: {self.min:g} and {self.max:g}."
            )
        if self.value is not None and (self.over == OVERALL or self.of != "value"):
            raise ValueError("`value` is one of a slice: give `over`, and leave `of` out.")
        if self.figure == "index_recall" and (self.over != OVERALL or self.of != "value"):
            raise ValueError("`index_recall` is known over all users only: leave `over` and `of`.")
        return self

    @property
    def title(self) -> str:
        """Its name, given or made."""
        if self.name is not None:
            return self.name
        parts = [
            self.figure,
            *([self.group] if self.group else []),
            *([] if self.over == OVERALL else [f"{self.over}={self.value or 'every value'}"]),
            *([] if self.of == "value" else [f"{self.of} between"]),
            *([] if self.end == "value" else [f"{self.end} end"]),
            *([f"{self.change} change"] if self.change else []),
            *([f"at least {self.min:g}"] if self.min is not None else []),
            *([f"at most {self.max:g}"] if self.max is not None else []),
        ]
        return ", ".join(parts)


class GatesConfig(Settings):
    """Thresholds on the figures of a report; `docs/audit.md` has examples."""

    previous: str | None = None
    """`report.json` of the previous release, for gates on changes; relative to the folder of the
    YAML."""
    checks: list[GateConfig] = Field(default=[])
    """All of them have to hold. None by default."""

    @model_validator(mode="after")
    def _check(self) -> GatesConfig:
        if self.previous is None and any(gate.change for gate in self.checks):
            raise ValueError(
                "a gate on a `change` needs `gates.previous`, the report.json of the last release."
            )
        titles = [gate.title for gate in self.checks]
        twice = [title for title in titles if titles.count(title) > 1]
        if twice:
            raise ValueError(f"the gate `{twice[0]}` is there twice: give each another `name`.")
        return self
