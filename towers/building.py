"""The model that a configuration describes."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

import fairness_losses
from fairness_losses.catalogue_sample import StratifiedSample
from fairness_losses.config import FairnessConfig
from fairness_losses.errors import InvalidInputError
from fairness_losses.regularizers.base import Regularizer
from fairness_losses.targets import target_shares
from towers.batches import PairBatches, UserBatches
from towers.config import ModelConfig, TrainingConfig
from towers.model import FairRetrievalModel
from towers.objectives import Objective, PairObjective, UserObjective
from towers.retrieval_loss import RetrievalLoss
from towers.training_data import TrainingData, slice_membership
from towers.user_loss import UserLoss

_STEPS_PER_EXECUTION = 16


def build_model(
    config: ModelConfig, data: TrainingData, seed: int, fairness: FairnessConfig | None
) -> FairRetrievalModel:
    """Returns the compiled model; its variables are created by the first batch."""
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
        _objective(training, data, sample),
        sample,
        regularizer,
        fairness.weight if fairness else 0.0,
        fairness.queries if fairness else 0,
    )
    model.compile(
        optimizer=tf.keras.optimizers.Adam(training.learning_rate),
        steps_per_execution=_STEPS_PER_EXECUTION,
    )
    return model


def create_variables(model: FairRetrievalModel, batches: PairBatches | UserBatches) -> None:
    """Creates the variables of a model and its optimizer, so that they can be restored."""
    first = batches.gather(tf.constant([0]), tf.constant(0, tf.int64))
    model.compute_loss(first, training=True)
    model.optimizer.build(model.trainable_variables)


def _objective(
    training: TrainingConfig, data: TrainingData, sample: StratifiedSample | None
) -> Objective:
    if training.batch_of == "pairs":
        loss = RetrievalLoss(training.temperature, training.remove_accidental_hits)
        return PairObjective(loss, data.catalogue, training.logq_correction)
    whole = sample is not None and sample.is_whole
    return UserObjective(UserLoss(training.temperature), len(data.catalogue) if whole else None)


def build_regularizer(
    fairness: FairnessConfig, training: TrainingConfig, data: TrainingData
) -> Regularizer:
    """Returns the regularizer with the arguments that it takes of those in `fairness`.

    Raises:
        InvalidInputError: `fairness.options` names an argument that it does not have.
    """
    name, groups = fairness.regularizer, data.catalogue.groups
    accepted = fairness_losses.arguments_of(name)
    offered: dict[str, Any] = {"labels": groups.labels}
    if "target" in accepted:
        offered["target"] = target_shares(groups, fairness.target, data.catalogue.frequency)
    if "temperature" in accepted:
        offered["temperature"] = fairness.temperature
    if "depth" in accepted:
        offered["depth"] = _steered_depth(fairness, training, len(data.catalogue))
    if "num_slices" in accepted:
        offered["num_slices"] = len(slice_membership(data.users, fairness.slices)[0])
    regularizer = fairness_losses.get(name, **offered, **fairness.options)
    if "slices" in regularizer.needs and not fairness.slices:
        raise InvalidInputError(
            f"`{name}` compares slices of the users: name their columns in `fairness.slices`."
        )
    return regularizer


def _steered_depth(fairness: FairnessConfig, training: TrainingConfig, num_items: int) -> int:
    depth = fairness.depth or max(training.evaluate_at)
    if depth >= num_items:
        raise InvalidInputError(
            f"`fairness.depth` should be less than the number of items, {num_items}: else every "
            f"item is on every list, and nothing can be steered. Received: {depth}."
        )
    return depth
