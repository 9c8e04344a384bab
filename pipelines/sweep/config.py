"""Settings of the sweep: which regularizers, at which weights, against which bonuses."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from fairness_losses.config import ConstraintConfig, FairnessConfig, Settings
from fairness_losses.registry import AT_TEMPERATURE_OF_LOSS, arguments_of, available

BONUS = "bonus"
"""Name of the line of constant bonuses."""

BONUS_PER_SLICE = "bonus_per_slice"
"""Name of the line of bonuses tuned per slice."""

Positive = Annotated[float, Field(gt=0)]
"""A number above 0."""


class SweepPoint(Settings):
    """A regularizer at several weights: one line of the frontier.

    What is not given here is as in `fairness`, except `options`, which belong to one regularizer.
    """

    regularizer: str
    """Name in the registry, see `fairness_losses.available()`."""

    weights: list[Positive] = Field(min_length=1)
    """Factors of the regularizer in the training loss; a model is trained for each."""

    name: str | None = Field(default=None, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    """Of the line, and of its folders; by default the regularizer's. Needed where a regularizer
    occurs more than once."""

    temperature: Positive | None = None
    """Instead of `fairness.temperature`."""

    depth: int | None = Field(default=None, ge=1)
    """Instead of `fairness.depth`."""

    queries: int | None = Field(default=None, ge=1)
    """Instead of `fairness.queries`."""

    slices: list[str] | None = None
    """Instead of `fairness.slices`."""

    constraint: ConstraintConfig | None = None
    """Instead of `fairness.constraint`."""

    options: dict[str, Any] = {}
    """More arguments of the regularizer."""

    @field_validator("regularizer")
    @classmethod
    def _check_regularizer(cls, name: str) -> str:
        if name not in available():
            raise ValueError(f"should be one of {', '.join(available())}")
        return name

    @model_validator(mode="after")
    def _refuse_what_does_nothing(self) -> SweepPoint:
        name = self.regularizer
        if self.constraint is not None and name != "exposure_constraint":
            raise ValueError("`constraint` is for `exposure_constraint` alone: remove it.")
        if self.temperature is not None and name in AT_TEMPERATURE_OF_LOSS:
            raise ValueError(f"`temperature` of `{name}` is that of the retrieval loss: remove it.")
        for option in ("temperature", "depth"):
            # Asked only where it matters: the answer takes TensorFlow.
            if getattr(self, option) is not None and option not in arguments_of(name):
                raise ValueError(f"`{name}` has no `{option}`: remove it.")
        return self

    @property
    def label(self) -> str:
        """Name of the line."""
        return self.name or self.regularizer

    def fairness(self, base: FairnessConfig, weight: float) -> FairnessConfig:
        """Returns the settings of one model of the line.

        Args:
            base: `fairness` of the run configuration.
            weight: One of `weights`.
        """
        own: dict[str, Any] = {
            "regularizer": self.regularizer,
            "weight": weight,
            "options": self.options,
        }
        for name in ("temperature", "depth", "queries", "slices", "constraint"):
            if (value := getattr(self, name)) is not None:
                own[name] = value
        return base.model_copy(update=own)


class SweepConfig(Settings):
    """Models to train and bonuses to try, each a point between exposure and quality."""

    group: str
    """The group of items whose exposure is drawn and to which the bonuses go."""

    points: list[SweepPoint] = []
    """Regularizers with their weights."""

    bonuses: list[float] = []
    """Constants, in units of the score, that are added to the scores of the group's items in the
    model without a regularizer: the comparison that every regularizer has to survive."""

    bonus_by: list[str] = []
    """Columns of `slices`; each of their values, or intersections, has a bonus of its own, tuned so
    that the group's exposure ratio in the lists of these users is one of `bonus_ratios`. It needs
    no labels, but to know of every user who asks in which slice they are."""

    bonus_ratios: list[Positive] = Field(default=[0.7, 0.8, 0.9, 1.0], min_length=1)
    """Exposure ratios that the bonuses per slice are tuned to. A regularizer is compared with the
    cheapest bonus that comes as close to parity, and bonuses need no training: try many."""

    @model_validator(mode="after")
    def _check_points(self) -> SweepConfig:
        if not (self.points or self.bonuses or self.bonus_by):
            raise ValueError("a sweep should have `points`, `bonuses` or `bonus_by`.")
        labels = [point.label for point in self.points]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(f"`{label}` is there twice: give each of them a `name`.")
            if label in (BONUS, BONUS_PER_SLICE):
                raise ValueError(f"the name `{label}` is taken: choose another.")
        if 0 in self.bonuses:
            raise ValueError("a bonus of 0 is the model without a regularizer: leave it out.")
        for strengths in (*(p.weights for p in self.points), self.bonuses, self.bonus_ratios):
            written = [f"{strength:g}" for strength in strengths]
            if len(set(written)) < len(written):
                raise ValueError(f"each value should be there once. Received: {strengths}.")
        return self
