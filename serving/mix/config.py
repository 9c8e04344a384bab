"""Settings of the candidate mix."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from fairness_losses.config import Settings, TargetConfig


class SlicePolicy(Settings):
    """What is different for the users of one slice; what is not given is as for all."""

    shares: dict[str, float] | None = None
    """Target share of every group that has a target; they sum to 1."""

    tolerance: float | None = Field(default=None, ge=0, lt=1)
    """As `serving.policy.tolerance`."""

    @model_validator(mode="after")
    def _check_content(self) -> SlicePolicy:
        if self.shares is None and self.tolerance is None:
            raise ValueError("a slice's policy should have `shares`, a `tolerance`, or both.")
        if self.shares is not None:
            TargetConfig(kind="explicit", shares=self.shares, include_unknown=True)
        return self


class SlicePolicies(Settings):
    """Policies of user slices. A request names its slice by an opaque key, never in clear."""

    slice: str
    """Name of one of the run's `slices`, such as `gender` or `gender × age`."""

    values: dict[str, SlicePolicy] = Field(min_length=1)
    """Value of the slice to its policy. Users of other values get the policy for all."""


class PolicyConfig(Settings):
    """How a list is put together from the candidates that an index finds."""

    kind: Literal["relevance", "quota", "steered"] = "relevance"
    """`relevance`: the highest scores; `quota`: the highest scores within bounds on the number of
    items of every group; `steered`: the highest sums of score and a price of the item's group,
    where prices follow the exposure that was served."""

    target: TargetConfig | None = None
    """Target share per group; by default `fairness.target`."""

    tolerance: float = Field(default=0.05, ge=0, lt=1)
    """For `quota`: how far a group's share of the places may be from its target."""

    prefix: Literal["none", "shares", "significance"] = "none"
    """For `quota`: what holds for the beginning of a list, too. `shares`: the first i places have
    at least the whole part of i times the target; `significance`: as many as a lottery with the
    target shares gives but in a part `alpha` of the lists (FA*IR)."""

    alpha: float = Field(default=0.1, gt=0, le=0.25)
    """For `prefix: significance`: how often a list drawn by lottery would fail any of its minimums,
    of any group and at any place."""

    strategy: Literal["auto", "over_fetch", "bucketized", "hybrid"] = "auto"
    """For `quota` from a ScaNN index, where candidates come from. `over_fetch`: one index, more
    candidates than places; `bucketized`: an index per group; `hybrid`: one index, and one more for
    groups that it comes short of; `auto`: the fastest that fills the quotas of every measured query
    and finds `min_recall` of every group. An exact index compares with every item anyway."""

    over_fetch: int = Field(default=10, ge=1)
    """Candidates per place that are fetched from the one index at first; more where they do not
    fill the quotas."""

    min_recall: float = Field(default=0.95, gt=0, le=1)
    """Share of every group's items of the exact list that `auto` wants found."""

    diversify: Literal["none", "round_robin", "dpp"] = "none"
    """For `quota`: `round_robin` spreads every group evenly over the list; `dpp` chooses, within
    the bounds, items that are not like each other."""

    theta: float = Field(default=0.7, ge=0, lt=1)
    """For `dpp`: 0 looks at diversity alone, towards 1 at relevance alone."""

    step_size: float = Field(default=0.02, gt=0)
    """For `steered`: how far one list whose exposure is twice the target moves the group's price,
    in standard deviations of the scores on a list."""

    by_slice: SlicePolicies | None = None
    """Other targets for some slices of the users."""

    @model_validator(mode="after")
    def _check_kind(self) -> PolicyConfig:
        if self.kind != "quota" and (self.prefix != "none" or self.diversify != "none"):
            raise ValueError("`prefix` and `diversify` belong to `kind: quota`: remove them.")
        if self.kind != "quota" and self.strategy != "auto":
            raise ValueError("`strategy` belongs to `kind: quota`: remove it.")
        if self.kind == "relevance" and self.by_slice is not None:
            raise ValueError("`by_slice` needs `kind: quota` or `kind: steered`.")
        if self.prefix != "none" and self.diversify != "none":
            raise ValueError(
                "`prefix` and `diversify` both say how a list is ordered: set one of them to none."
            )
        return self
