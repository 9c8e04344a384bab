"""What an experiment is, and everything that is fixed before it is launched."""

from __future__ import annotations

import hashlib
import itertools
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, model_validator

from fairness_losses.config import UNKNOWN, Settings
from serving.experiments.arms import NAME, ArmConfig, LayerConfig, Rule
from serving.experiments.metrics import ExposureMetric, MeanMetric, Metric, RatioMetric

_ROUNDING = 1e-9


class FixedHorizon(Settings):
    """Effects are shown once, when the experiment has ended."""

    kind: Literal["fixed"] = "fixed"
    """`fixed`."""


class Sequential(Settings):
    """Effects may be looked at any time: intervals are always-valid ones, and wider."""

    kind: Literal["sequential"]
    """`sequential`."""

    tuned_for: int = Field(default=5000, ge=1)
    """Users at which the intervals are as narrow as they can be; they hold at any number. Give
    about as many as the experiment will have."""


Stopping = Annotated[FixedHorizon | Sequential, Field(discriminator="kind")]
Guardrail = Annotated[
    MeanMetric | RatioMetric | ExposureMetric,
    Field(discriminator="kind"),
]


class ExposureConfig(Settings):
    """How exposure is measured, for guardrails of the kind `exposure`."""

    targets: dict[str, Annotated[float, Field(gt=0)]] = Field(min_length=2)
    """Target share of every group that has one. Shares are of the exposure of these groups; only
    the proportions matter."""

    depth: int = Field(default=100, ge=1)
    """Ranks that count, with the attention of DCG."""

    @model_validator(mode="after")
    def _check_targets(self) -> ExposureConfig:
        if UNKNOWN in self.targets:
            raise ValueError("`unknown` is no group with a target.")
        return self


class MetricsConfig(Settings):
    """What an experiment is decided by."""

    primary: Annotated[MeanMetric | RatioMetric, Field(discriminator="kind")]
    """The one metric that a new arm has to improve."""

    secondary: list[Annotated[MeanMetric | RatioMetric, Field(discriminator="kind")]] = []
    """Metrics that explain; Holm's correction is over all of them."""

    guardrails: list[Guardrail] = []
    """Metrics that must not get worse by their `margin` or more."""

    @model_validator(mode="after")
    def _check_names(self) -> MetricsConfig:
        names = [metric.name for metric in self.all]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"two metrics are called `{min(twice)}`; rename one.")
        for metric in self.guardrails:
            if metric.margin is None:
                raise ValueError(f"the guardrail `{metric.name}` needs a `margin`.")
        for metric in (self.primary, *self.secondary):
            if metric.margin is not None:
                raise ValueError(f"`{metric.name}` is no guardrail and has no `margin`.")
        return self

    @property
    def all(self) -> list[Metric]:
        """The primary metric, then the secondary ones and the guardrails."""
        return [self.primary, *self.secondary, *self.guardrails]


class Experiment(Settings):
    """A comparison of what arms serve; the first arm is the control."""

    name: str = Field(pattern=NAME)
    """As the log calls it."""

    salt: str = Field(min_length=1)
    """Of the hash that assigns users. Two experiments should not share one, nor a second run of
    an experiment that of the first."""

    arms: list[ArmConfig] = Field(min_length=2)
    """The control, then what is compared with it."""

    traffic: float = Field(default=1.0, gt=0, le=1)
    """Share of the eligible users (of the layer's buckets) that take part. It may grow: who is in
    stays, in the same arm."""

    layer: LayerConfig | None = None
    """Where the experiment excludes others; without one it excludes none."""

    eligibility: list[Rule] = []
    """Rules on attributes of the request, all of which have to hold."""

    sensitive: list[str] = ["age", "disability", "ethnicity", "gender", "race", "religion", "sex"]
    """Attributes that eligibility may not ask for, besides `slices`, which it never may."""

    metrics: MetricsConfig
    """What it is decided by."""

    exposure: ExposureConfig | None = None
    """How exposure is measured; needed by guardrails of the kind `exposure`."""

    minimum_effect: float = Field(gt=0)
    """Relative change of the primary metric that should be found with the given power."""

    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    """Of the effects, two-sided; and of non-inferiority, one-sided."""

    power: float = Field(default=0.8, gt=0, lt=1)
    """Chance to find `minimum_effect`, and that all guardrails hold where nothing has changed."""

    stopping: Stopping = FixedHorizon()
    """When effects may be looked at; fixed before the launch."""

    start: AwareDatetime
    """When the first user is let in, with a time zone. Lists before it do not count."""

    end: AwareDatetime
    """When it is over. Lists and outcomes from then on do not count."""

    covariate_days: int | None = Field(default=None, ge=1)
    """With it, metrics of the kind `mean` are adjusted (CUPED) by the same column, summed over so
    many days before the start."""

    slices: list[str] = []
    """Columns of the users table; effects and fairness guardrails are also measured for each of
    their values."""

    min_users: int = Field(default=100, ge=2)
    """Slices with fewer users in an arm are withheld."""

    max_lists_per_day: int = Field(default=1000, ge=1)
    """A user with more lists on a day (UTC) is a bot and left out, whatever their arm."""

    clock_skew_seconds: float = Field(default=60.0, ge=0)
    """An outcome counts if it is at most so much earlier than the user's first list: the clocks of
    two machines differ."""

    @model_validator(mode="after")
    def _check_arms(self) -> Experiment:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError(f"arms should have different names. Received: {', '.join(names)}.")
        total = sum(arm.share for arm in self.arms)
        if abs(total - 1) > _ROUNDING:
            raise ValueError(f"the arms' `share` should sum to 1. Received: {total:.6g}.")
        return self

    @model_validator(mode="after")
    def _check_eligibility(self) -> Experiment:
        for rule in self.eligibility:
            if rule.attribute in {*self.sensitive, *self.slices}:
                raise ValueError(
                    f"eligibility asks for `{rule.attribute}`, which is sensitive (it is listed, "
                    "or makes slices). Remove the rule: everybody takes part."
                )
        return self

    @model_validator(mode="after")
    def _check_metrics(self) -> Experiment:
        if self.end <= self.start:
            raise ValueError(f"`end` should be after `start`. Received: {self.end}.")
        for metric in self.metrics.guardrails:
            if metric.kind != "exposure":
                continue
            if self.exposure is None:
                raise ValueError(f"the guardrail `{metric.name}` needs the section `exposure`.")
            unknown = [g for g in metric.groups if g not in self.exposure.targets]
            if unknown:
                raise ValueError(
                    f"the guardrail `{metric.name}` is for the group `{unknown[0]}`, which has no "
                    "share in `exposure.targets`."
                )
        return self

    @property
    def days(self) -> int:
        """Length in days, a part of one counted as a whole."""
        return -int((self.start - self.end).total_seconds() // 86_400)

    @property
    def control(self) -> ArmConfig:
        """What the other arms are compared with."""
        return self.arms[0]

    @property
    def columns(self) -> list[str]:
        """Columns of the outcomes that metrics are made of."""
        return sorted({c for metric in self.metrics.all for c in metric.columns})

    def fingerprint(self) -> str:
        """Returns what is another when the experiment is: 16 hexadecimal digits.

        Traffic is left out, which may grow after the launch.
        """
        text = self.model_dump_json(exclude={"traffic"})
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def share_bounds(experiment: Experiment) -> list[float]:
    """Returns where each arm ends on the line from 0 to 1; the last ends at 1."""
    return [*itertools.accumulate(arm.share for arm in experiment.arms[:-1]), 1.0]
