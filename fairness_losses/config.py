"""Settings of groups, targets and regularizers."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

UNKNOWN = "unknown"
"""The label of an item (or user) whose group nobody stated. It is never merged into another."""


_ROUNDING = 1e-3
"""How far from 1 shares may sum that a person rounded."""


class Settings(BaseModel):
    """Base of all settings: unknown keys are refused, values cannot be changed afterwards."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class GroupsConfig(Settings):
    """Which columns of the items table say what group an item belongs to."""

    columns: list[str] = Field(min_length=1)
    """Columns of the items table. With several, a group is an intersection: `female × new`."""

    unknown_values: list[str] = [UNKNOWN, "", "nan", "None", "null"]
    """Values that mean "nobody stated it"; they all become the label `unknown`."""


class TargetConfig(Settings):
    """The share of exposure each group should get. Shares are over the groups with a target."""

    kind: Literal["catalogue", "uniform", "merit", "population", "explicit"] = "catalogue"
    """`catalogue`: a group's share of the catalogue; `uniform`: the same share for every group;
    `merit`: its share of what users chose in training; `population`: its share of the population
    counted in `shares`; `explicit`: the shares given in `shares`."""

    shares: dict[str, float] | None = None
    """Group to share, for `explicit` (they sum to 1) and `population` (counts or percentages of a
    census, say; only their proportions matter). Positive."""

    include_unknown: bool = False
    """Whether `unknown` items are a group with a target of their own. Off: their exposure is
    reported, but neither counted in the shares nor steered."""

    @model_validator(mode="after")
    def _check_shares(self) -> TargetConfig:
        if (self.kind in ("explicit", "population")) != (self.shares is not None):
            raise ValueError(
                "`shares` should be given if and only if `kind` is `explicit` or `population`."
            )
        for group, share in (self.shares or {}).items():
            if not share > 0:
                raise ValueError(f"the share of `{group}` should be positive. Received: {share}.")
        total = math.fsum((self.shares or {}).values())
        if self.kind == "explicit" and abs(total - 1) > _ROUNDING:
            raise ValueError(
                f"`shares` should sum to 1. Received: {total:.6g}. For counts or percentages use "
                "the kind `population`."
            )
        if self.shares and UNKNOWN in self.shares and not self.include_unknown:
            raise ValueError("a share for `unknown` needs `include_unknown: true`.")
        return self


class ConstraintConfig(Settings):
    """Bands of exposure ratios, for the regularizer `exposure_constraint`."""

    groups: list[str] | None = None
    """The groups that are held in their band; by default all that have a target."""

    tolerance: float | dict[str, float] = 0.05
    """Half the width of the band around a ratio of 1; one for every column of `fairness.slices`,
    or the same for all."""

    margin: float = Field(default=0.3, ge=0, lt=1)
    """How far inside its band a ratio should be, as a share of the tolerance."""

    step_size: float = Field(default=0.05, gt=0)
    """How fast multipliers follow, per unit of the ratio and update."""

    start: float = Field(default=0.5, ge=0, lt=1)
    """Share of the training after which the constraint holds: a model that knows what is relevant
    gives way where it costs least."""

    every: int = Field(default=16, ge=1)
    """Steps from one measurement of exact lists, and update of the multipliers, to the next. Steps
    are executed 16 at a time, so it counts as the next multiple of 16."""

    users: int = Field(default=4000, ge=1)
    """Users whose exact lists are measured each time, at most, but 100 of every slice."""

    @model_validator(mode="after")
    def _check_tolerance(self) -> ConstraintConfig:
        given = self.tolerance if isinstance(self.tolerance, dict) else {"": self.tolerance}
        for column, tolerance in given.items():
            if not 0 < tolerance < 1:
                where = f" of `{column}`" if column else ""
                raise ValueError(
                    f"the tolerance{where} should be between 0 and 1. Received: {tolerance}."
                )
        return self


class FairnessConfig(Settings):
    """The group-exposure regularizer of the second model; the first is trained without."""

    regularizer: str = "exposure_parity"
    """Name in the registry, see `fairness_losses.available()`."""

    weight: float = Field(default=1.0, ge=0)
    """Factor of the regularizer in the training loss."""

    target: TargetConfig = TargetConfig()
    """Target share of exposure per group."""

    temperature: float = Field(default=0.03, gt=0)
    """Softness of the differentiable exposure, in units of the score. Smaller is closer to the
    exposure of the exact list, with sparser gradients."""

    depth: int | None = Field(default=None, ge=1)
    """Length of the lists whose exposure is steered, without what a user has chosen already. By
    default the largest of `audit.ks`."""

    queries: int = Field(default=256, ge=1)
    """Queries of each batch whose exposure is measured, at most."""

    slices: list[str] = []
    """Columns of `slices` that divide the users for a regularizer that looks at user slices; each
    value is a slice."""

    constraint: ConstraintConfig = ConstraintConfig()
    """For the regularizer `exposure_constraint` alone."""

    options: dict[str, Any] = {}
    """More arguments of the regularizer; see its documentation."""
