"""The model that a configuration describes."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

import fairness_losses
from fairness_losses.candidate_memory import CandidateMemory
from fairness_losses.catalogue_sample import StratifiedSample
from fairness_losses.config import FairnessConfig
from fairness_losses.errors import InvalidInputError
from fairness_losses.registry import AT_TEMPERATURE_OF_LOSS
from fairness_losses.regularizers.base import Regularizer
from fairness_losses.regularizers.exposure_constraint import ExposureConstraint
from fairness_losses.regularizers.worst_group import WorstGroup
from fairness_losses.targets import target_shares
from towers.config import ITEM_ID, ModelConfig, TrainingConfig
from towers.lazy_adam import LazyAdam
from towers.model import FairRetrievalModel
from towers.objectives import Objective, PairObjective, UserObjective, draw_probability
from towers.retrieval_loss import RetrievalLoss
from towers.training_data import TrainingData, slice_columns, slice_membership
from towers.user_loss import UserLoss

_STEPS_PER_EXECUTION = 16

_OPTIMIZERS = {"adam": tf.keras.optimizers.Adam, "lazy_adam": LazyAdam}

_LAST_RATE = 0.02
"""Learning rate at the end of a cosine schedule, as a share of the highest."""


def build_model(
    config: ModelConfig,
    data: TrainingData,
    seed: int,
    fairness: FairnessConfig | None,
    num_steps: int,
) -> FairRetrievalModel:
    """Returns the compiled model, its variables created, so that they can be restored.

    Args:
        config: Features, towers and optimisation.
        data: What it will be trained on.
        seed: Of the catalogue samples.
        fairness: Target and regularizer.
        num_steps: Length of the training.
    """
    training = config.training
    sample = regularizer = None
    if training.catalogue_sample:
        sample = StratifiedSample(data.catalogue.groups, training.catalogue_sample, seed)
    if fairness is not None and fairness.weight > 0:
        regularizer = build_regularizer(fairness, training, data)
    model = FairRetrievalModel(
        data.query_tower,
        data.candidate_tower,
        data.catalogue,
        _objective(training, data, sample, config.towers.dim),
        sample,
        regularizer,
        fairness.weight if fairness else 0.0,
        fairness.queries if fairness else 0,
        training.learned_temperature,
    )
    model.compile(
        optimizer=_OPTIMIZERS[training.optimizer](_learning_rate(training, num_steps)),
        steps_per_execution=_STEPS_PER_EXECUTION,
    )
    first = {name: column[:1] for name, column in data.users.columns.items()}
    model.query_tower(first, training=True)
    model.embed_candidates(tf.constant([0]), training=True)
    catalogue = data.catalogue
    if config.towers.bias and ITEM_ID in catalogue.columns and catalogue.frequency is not None:
        numbers = catalogue.columns[ITEM_ID]
        model.candidate_tower.start_from_popularity(
            numbers, catalogue.frequency, training.temperature
        )
    model.optimizer.build(model.trainable_variables)
    return model


def _learning_rate(
    training: TrainingConfig, num_steps: int
) -> float | tf.keras.optimizers.schedules.LearningRateSchedule:
    if training.schedule == "constant":
        return training.learning_rate
    warmup = int(training.warmup * num_steps)
    return tf.keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=0.0 if warmup else training.learning_rate,
        decay_steps=max(1, num_steps - warmup),
        alpha=_LAST_RATE,
        warmup_target=training.learning_rate if warmup else None,
        warmup_steps=warmup,
    )


def _objective(
    training: TrainingConfig, data: TrainingData, sample: StratifiedSample | None, dim: int
) -> Objective:
    if training.batch_of == "pairs":
        loss = RetrievalLoss(training.temperature, training.remove_accidental_hits)
        memory = None
        if training.candidate_memory:
            if sample is not None and sample.is_whole:
                raise InvalidInputError(
                    "`training.catalogue_sample` is the whole catalogue, so past candidates add "
                    "nothing: set `training.candidate_memory: 0`."
                )
            probability = draw_probability(data.catalogue, training.logq_correction)
            memory = CandidateMemory(training.candidate_memory, dim, probability)
        return PairObjective(
            loss,
            data.catalogue,
            training.logq_correction,
            sample,
            memory,
        )
    whole = sample is not None and sample.is_whole
    return UserObjective(UserLoss(training.temperature), len(data.catalogue) if whole else None)


def build_regularizer(
    fairness: FairnessConfig, training: TrainingConfig, data: TrainingData
) -> Regularizer:
    """Returns the regularizer with the arguments that it takes of those in `fairness`.

    Raises:
        InvalidInputError: `fairness.options` names an argument that it does not have, or a value
            that it cannot have; slices, groups or bands do not fit the data; or it would not see
            what it looks for.
    """
    name, groups = fairness.regularizer, data.catalogue.groups
    accepted = fairness_losses.arguments_of(name)
    offered: dict[str, Any] = {"labels": groups.labels}
    if "target" in accepted:
        offered["target"] = target_shares(groups, fairness.target, data.catalogue.frequency)
    if "excluded" in accepted and not fairness.target.include_unknown:
        offered["excluded"] = np.flatnonzero(groups.is_unknown).tolist()
    if "temperature" in accepted:
        of_loss = name in AT_TEMPERATURE_OF_LOSS
        offered["temperature"] = training.temperature if of_loss else fairness.temperature
    if "depth" in accepted:
        offered["depth"] = _steered_depth(fairness, training, len(data.catalogue))
    if "num_slices" in accepted:
        offered["num_slices"] = len(slice_membership(data.users, fairness.slices)[0])
    if name == ExposureConstraint.registered_name:
        offered |= _bands(fairness, data, offered["target"])
    elif "num_slices" in accepted and not fairness.slices:
        raise InvalidInputError(
            f"`{name}` compares slices of the users: name their columns in `fairness.slices`."
        )
    try:
        regularizer = fairness_losses.get(name, **(offered | fairness.options))
    except ValueError as error:
        raise InvalidInputError(f"`fairness.options` of `{name}`: {error}") from error
    _refuse_blind_spots(regularizer, training, len(data.catalogue))
    return regularizer


def _bands(fairness: FairnessConfig, data: TrainingData, target: np.ndarray) -> dict[str, Any]:
    """What `fairness.constraint` says, in the order of slices and groups."""
    settings, labels = fairness.constraint, data.catalogue.groups.labels
    columns = slice_columns(data.users, fairness.slices)
    tolerance: float | list[float]
    if isinstance(settings.tolerance, dict):
        if set(settings.tolerance) != set(columns):
            raise InvalidInputError(
                "`fairness.constraint.tolerance` should name the columns of `fairness.slices`: "
                f"{', '.join(fairness.slices)}. Received: {', '.join(settings.tolerance)}."
            )
        tolerance = [settings.tolerance[column] for column in columns]
    else:
        tolerance = settings.tolerance
    foreign = sorted(set(settings.groups or []) - set(labels))
    if foreign:
        raise InvalidInputError(
            f"`fairness.constraint.groups` names `{foreign[0]}`, which is no group of the items."
        )
    constrained = None
    if settings.groups is not None:
        constrained = [labels.index(group) for group in settings.groups]
        without = [labels[number] for number in constrained if target[number] == 0]
        if without:
            raise InvalidInputError(
                f"`fairness.constraint.groups` names `{without[0]}`, which has no target."
            )
    return {
        "tolerance": tolerance,
        "constrained": constrained,
        "margin": settings.margin,
        "step_size": settings.step_size,
    }


def _refuse_blind_spots(regularizer: Regularizer, training: TrainingConfig, num_items: int) -> None:
    """Refuses a regularizer that would not see what it looks for."""
    name = regularizer.registered_name
    if regularizer.judges_relevance and training.catalogue_sample < num_items:
        raise InvalidInputError(
            f"`{name}` compares the items that a user chose with all others, of which a sample "
            "would hold hardly any: raise `training.catalogue_sample` to the number of items."
        )
    if name in AT_TEMPERATURE_OF_LOSS and training.learned_temperature:
        raise InvalidInputError(
            f"`{name}` needs the temperature of the retrieval loss to stay: set "
            "`training.learned_temperature: false`."
        )
    if name == WorstGroup.registered_name and training.strategy != "one_device":
        raise InvalidInputError(
            f"`{name}` keeps weights of the slices that replicas would each change on their own: "
            "set `training.strategy: one_device`."
        )


def _steered_depth(fairness: FairnessConfig, training: TrainingConfig, num_items: int) -> int:
    depth = fairness.depth or max(training.evaluate_at)
    if depth >= num_items:
        raise InvalidInputError(
            "`fairness.depth` (by default the largest of `audit.ks`) should be less than the "
            f"number of items, {num_items}: else every item is on every list, and nothing can be "
            f"steered. Received: {depth}."
        )
    return depth
