"""Training with checkpoints, resume and exact evaluation after every epoch."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf

import fairness_losses
from fairness_losses.catalogue_sample import StratifiedSample
from fairness_losses.config import FairnessConfig
from fairness_losses.errors import InvalidInputError
from fairness_losses.targets import target_shares
from towers.catalogue import EntityTable, build_features, read_catalogue, read_users
from towers.checkpointing import EpochCheckpoint
from towers.config import ModelConfig, TrainingConfig
from towers.evaluation import HeldOut, evaluate
from towers.examples import Examples, read_examples
from towers.model import FairRetrievalModel
from towers.retrieval_loss import RetrievalLoss
from towers.tower import ServedTower, Tower

_STEPS_PER_EXECUTION = 16
_EMBED_BATCH = 65_536


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What training needs, in memory."""

    catalogue: EntityTable
    users: EntityTable
    train: Examples
    held_out: HeldOut
    query_tower: Tower
    candidate_tower: Tower


def train(
    config: ModelConfig,
    examples_dir: pathlib.Path,
    out_dir: pathlib.Path,
    seed: int,
    fairness: FairnessConfig | None = None,
    callbacks: Sequence[tf.keras.callbacks.Callback] = (),
) -> list[dict[str, float]]:
    """Trains a model and exports its towers.

    A call that was killed is continued by the same call: it starts from the last epoch that was
    completed, and ends with the model that an undisturbed call gives.

    Args:
        config: Features, towers and optimisation.
        examples_dir: Folder that the examples pipeline wrote.
        out_dir: Receives `query_tower`, `candidate_tower`, `checkpoints`, `tensorboard` and
            `history.json`.
        seed: Of the initial weights, the order of the examples and the catalogue samples.
        fairness: Target and regularizer; a weight of 0 trains for relevance alone and measures
            exposure nevertheless, none does not look at groups at all.
        callbacks: More Keras callbacks, such as a progress bar.

    Returns:
        One row of losses and validation metrics per epoch.
    """
    # Resuming has to give what an undisturbed run gives, and two variants have to differ by the
    # regularizer alone: hence deterministic kernels, and weights drawn in a fixed order.
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    data = load_training_data(config, examples_dir)
    model = build_model(config, data, seed, fairness)
    measure = _evaluation(model, data, config.training, fairness)
    checkpoint = EpochCheckpoint(model, out_dir, measure)
    first_epoch = checkpoint.resume()
    steps = max(1, len(data.train) // config.training.batch_size)
    if first_epoch < config.training.epochs:
        model.fit(
            epochs_of(data.train, config.training, seed, first_epoch),
            steps_per_epoch=steps,
            initial_epoch=first_epoch,
            epochs=config.training.epochs,
            callbacks=[
                checkpoint,
                tf.keras.callbacks.TensorBoard(out_dir / "tensorboard", write_graph=False),
                *callbacks,
            ],
            verbose=0,
        )
    ServedTower(model.query_tower).save(str(out_dir / "query_tower"))
    ServedTower(model.candidate_tower).save(str(out_dir / "candidate_tower"))
    return checkpoint.history


def load_training_data(config: ModelConfig, examples_dir: pathlib.Path) -> TrainingData:
    """Reads the examples and tables and builds both towers."""
    vocabularies, dim = examples_dir / "vocabularies", config.towers.dim
    query_layers = build_features(
        config.features.query, examples_dir / "users.parquet", vocabularies, dim
    )
    candidate_layers = build_features(
        config.features.candidate, examples_dir / "catalogue.parquet", vocabularies, dim
    )
    catalogue = read_catalogue(examples_dir, candidate_layers)
    users = read_users(examples_dir, query_layers)
    training = read_examples(examples_dir, "train", query_layers, catalogue)
    validation = read_examples(examples_dir, "validation", [], catalogue)
    held_out = HeldOut.build(
        users,
        relevant=(users.rows_of(validation.users), validation.candidates),
        seen=(users.rows_of(training.users), training.candidates),
        max_users=config.training.evaluation_users,
    )
    return TrainingData(
        catalogue=catalogue,
        users=users,
        train=training,
        held_out=held_out,
        query_tower=Tower(query_layers, config.towers, "query_tower"),
        candidate_tower=Tower(candidate_layers, config.towers, "candidate_tower"),
    )


def build_model(
    config: ModelConfig, data: TrainingData, seed: int, fairness: FairnessConfig | None
) -> FairRetrievalModel:
    """Returns the compiled model, its variables created."""
    training = config.training
    groups = data.catalogue.groups
    sample = regularizer = None
    if training.catalogue_sample:
        sample = StratifiedSample(groups, training.catalogue_sample, seed)
    if fairness is not None and fairness.weight > 0:
        regularizer = fairness_losses.get(
            fairness.regularizer,
            target=target_shares(groups, fairness.target, data.catalogue.frequency),
            temperature=fairness.temperature,
            depth=_steered_depth(fairness, training, len(data.catalogue)),
        )
    model = FairRetrievalModel(
        data.query_tower,
        data.candidate_tower,
        data.catalogue,
        RetrievalLoss(training.temperature, training.remove_accidental_hits),
        sample,
        regularizer,
        fairness.weight if fairness else 0.0,
        fairness.queries if fairness else 0,
        training.logq_correction,
    )
    model.compile(
        optimizer=tf.keras.optimizers.Adam(training.learning_rate),
        steps_per_execution=_STEPS_PER_EXECUTION,
    )
    model.compute_loss(_gather(data.train, tf.constant([0])))
    model.optimizer.build(model.trainable_variables)
    return model


def _steered_depth(fairness: FairnessConfig, training: TrainingConfig, num_items: int) -> int:
    depth = fairness.depth or max(training.evaluate_at)
    if depth >= num_items:
        raise InvalidInputError(
            f"`fairness.depth` should be less than the number of items, {num_items}: else every "
            f"item is on every list, and nothing can be steered. Received: {depth}."
        )
    return depth


def epochs_of(
    examples: Examples, training: TrainingConfig, seed: int, first_epoch: int
) -> tf.data.Dataset:
    """Returns the batches of all epochs from `first_epoch` on, shuffled by (seed, epoch).

    The last, smaller batch of an epoch is left out, so that XLA compiles one shape; which examples
    those are changes with every epoch.
    """
    size = len(examples)
    batch = min(training.batch_size, size)
    # Arrays would be copied into the graph of the data set, which may not exceed 2 GB.
    examples = dataclasses.replace(
        examples,
        query={name: tf.constant(column) for name, column in examples.query.items()},
        candidates=tf.constant(examples.candidates),
    )

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(size), seed=tf.stack([tf.constant(seed, tf.int64), epoch])
        )
        return tf.data.Dataset.range(size // batch).map(
            lambda step: _gather(examples, order[step * batch : (step + 1) * batch])
        )

    dataset = tf.data.Dataset.range(first_epoch, training.epochs).flat_map(one_epoch)
    return dataset.prefetch(tf.data.AUTOTUNE)


def _evaluation(
    model: FairRetrievalModel,
    data: TrainingData,
    training: TrainingConfig,
    fairness: FairnessConfig | None,
) -> Callable[[], dict[str, float]]:
    """Returns the measurement that follows every epoch."""
    groups = data.catalogue.groups
    target = None
    if fairness is not None:
        target = target_shares(groups, fairness.target, data.catalogue.frequency)

    def measure() -> dict[str, float]:
        if not len(data.held_out):
            return {}
        query = _embed(model.query_tower, data.held_out.columns)
        candidate = _embed(model.candidate_tower, data.catalogue.columns)
        return evaluate(query, candidate, data.held_out, training.evaluate_at, groups, target)

    return measure


def _gather(examples: Examples, rows: tf.Tensor) -> dict[str, tf.Tensor | dict[str, tf.Tensor]]:
    return {
        "query": {name: tf.gather(column, rows) for name, column in examples.query.items()},
        "candidate": tf.gather(examples.candidates, rows),
    }


def _embed(tower: Tower, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Encodes looked-up columns batch by batch, float32 `[num_rows, dim]`."""
    size = len(next(iter(columns.values())))
    batches = range(0, size, _EMBED_BATCH)
    return np.concatenate(
        [tower({k: v[i : i + _EMBED_BATCH] for k, v in columns.items()}).numpy() for i in batches]
    )
