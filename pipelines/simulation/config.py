"""Settings of the closed loop."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from fairness_losses.config import FairnessConfig, Settings
from fairness_losses.registry import available
from pipelines.config import SyntheticConfig
from serving.mix.config import PolicyConfig
from towers.config import FeaturesConfig, ModelConfig, TowersConfig, TrainingConfig

ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
"""Also the name of a folder."""


class ArmConfig(Settings):
    """One way to train and to make lists, followed through all rounds."""

    fairness: FairnessConfig = FairnessConfig(weight=0)
    """Regularizer and its target, as in a run; by default none."""

    policy: PolicyConfig = PolicyConfig()
    """How lists are made, as `serving.policy` of a run; its target is by default that of
    `fairness`."""

    @model_validator(mode="after")
    def _check_slices(self) -> ArmConfig:
        if self.fairness.slices or self.policy.by_slice is not None:
            raise ValueError("the simulation has no slices of the users: remove them.")
        if self.fairness.regularizer not in available():
            raise ValueError(
                f"`fairness.regularizer` should be one of {', '.join(available())}. "
                f"Received: {self.fairness.regularizer!r}."
            )
        return self


class SupplyConfig(Settings):
    """Who offers items, and when they give up."""

    present: float = Field(default=0.6, gt=0, le=1)
    """Share of the marketplace's creators who are there at first. The others are those who may
    come later."""

    newcomers: float = Field(default=0.05, ge=0, le=1)
    """Creators who come in every round, as a share of those present at first; whoever they are,
    they come in the same order in all arms."""

    leave: float = Field(default=0.15, ge=0, le=1)
    """Probability with which a creator leaves after a round in which nobody saw anything of theirs.
    With x times the mean attention per item it is `leave * exp(-x)`. Who has left stays away."""


class SimulationConfig(Settings):
    """A simulation: one marketplace per seed, and the same rounds in it for every arm."""

    name: str
    """Title of the plot."""

    seed: int = Field(default=42, ge=0)
    """The first seed."""

    seeds: int = Field(default=3, ge=2)
    """Marketplaces, and with them users, creators and chance, that intervals are over."""

    rounds: int = Field(default=10, ge=1)
    """In each a model is trained, every user sees one list, and creators come and go."""

    window: int | None = Field(default=None, ge=1)
    """Rounds that training looks back, the log of the marketplace being the one before the first.
    By default all."""

    k: int = Field(default=20, ge=1)
    """Length of the lists."""

    marketplace: SyntheticConfig = SyntheticConfig()
    """Size, and bias of the policy that the first log is from."""

    supply: SupplyConfig = SupplyConfig()
    """Creators."""

    features: FeaturesConfig = FeaturesConfig()
    """As in a run on the synthetic marketplace, see `configs/synthetic.yaml`."""

    towers: TowersConfig = TowersConfig()
    """As in a run."""

    training: TrainingConfig = TrainingConfig()
    """As in a run; nothing is held out."""

    arms: dict[ArmName, ArmConfig] = Field(min_length=1)
    """Name to arm. The first is the one that others are compared with."""

    confidence: float = Field(default=0.95, gt=0, lt=1)
    """Level of the intervals."""

    @property
    def model(self) -> ModelConfig:
        """The part that the towers room knows."""
        return ModelConfig(features=self.features, towers=self.towers, training=self.training)

    @model_validator(mode="after")
    def _check_newcomers(self) -> SimulationConfig:
        needed = self.supply.present * (1 + self.rounds * self.supply.newcomers)
        if needed > 1:
            raise ValueError(
                f"`supply` needs {needed:.2f} times the creators that there are: lower `present`, "
                "`newcomers` or `rounds` until `present * (1 + rounds * newcomers)` is at most 1."
            )
        return self

    @model_validator(mode="after")
    def _check_regularizers(self) -> SimulationConfig:
        weighed = any(arm.fairness.weight > 0 for arm in self.arms.values())
        if weighed and not self.training.catalogue_sample:
            raise ValueError("a regularizer needs `training.catalogue_sample` above 0.")
        return self
