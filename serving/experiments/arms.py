"""Who takes part in an experiment, and what its arms are served."""

from __future__ import annotations

from pydantic import Field, model_validator

from fairness_losses.config import Settings

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
"""Names of experiments and arms: they travel in a header, see `labels`."""

BUCKETS = 10_000
"""Buckets that a layer divides the users into."""


class ArmConfig(Settings):
    """A part of the users, and what they are served."""

    name: str = Field(pattern=NAME)
    """As the log calls it."""

    share: float = Field(gt=0, lt=1)
    """Share of the experiment's users. Changing it after the launch moves users between arms."""

    label: str | None = None
    """Label of the model version that is asked, such as `stable`."""

    version: int | None = Field(default=None, ge=1)
    """Number of the model version that is asked, in place of a label."""

    signature: str | None = None
    """Signature that is asked; by default the one that fits the request."""

    policy_key: str | None = None
    """Key of the policy that is asked for, see `serving.policy.by_slice`."""

    @model_validator(mode="after")
    def _check_what_it_is(self) -> ArmConfig:
        if self.label is not None and self.version is not None:
            raise ValueError(f"the arm `{self.name}` has a `label` and a `version`: give one.")
        if not any((self.label, self.version, self.signature, self.policy_key)):
            raise ValueError(
                f"the arm `{self.name}` should say what is served: a `label`, `version`, "
                "`signature` or `policy_key`."
            )
        return self


class LayerConfig(Settings):
    """A place where only one experiment can be for a user, such as a page."""

    name: str = Field(pattern=NAME)
    """Experiments with the same layer divide the users of it by this name's hash."""

    buckets: tuple[int, int]
    """First and last bucket of this experiment, of 0 to 9999. No other one of the layer may have
    any of them at the same time."""

    @model_validator(mode="after")
    def _check_buckets(self) -> LayerConfig:
        first, last = self.buckets
        if not 0 <= first <= last < BUCKETS:
            raise ValueError(
                f"`buckets` should be the first and the last of 0 to {BUCKETS - 1}. "
                f"Received: {first} and {last}."
            )
        return self


class Rule(Settings):
    """A condition on an attribute of the request."""

    attribute: str
    """Its name. A request without it is not eligible."""

    any_of: list[str] | None = None
    """The values that are eligible."""

    none_of: list[str] | None = None
    """The values that are not."""

    at_least: float | None = None
    """The least number that is eligible."""

    @model_validator(mode="after")
    def _check_one_condition(self) -> Rule:
        given = [self.any_of, self.none_of, self.at_least]
        if sum(each is not None for each in given) != 1:
            raise ValueError(
                f"the rule on `{self.attribute}` should have one of `any_of`, `none_of` and "
                "`at_least`."
            )
        return self
