"""Training with checkpoints, resume and exact evaluation after every epoch."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from fairness_losses.config import FairnessConfig
from fairness_losses.targets import target_shares
from towers.batches import epochs_of, steps_per_epoch
from towers.building import build_model
from towers.checkpointing import EpochCheckpoint
from towers.config import ModelConfig, TrainingConfig
from towers.constraint_updates import constraint_updates, outcome
from towers.encoding import encode
from towers.evaluation import evaluate
from towers.model import FairRetrievalModel
from towers.tower import ServedTower
from towers.training_data import TrainingData, slice_membership

_STEPS_PER_LOG = 64
"""Steps from one entry of losses, group counts and exposures in TensorBoard to the next."""


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
            `history.json`; under a constraint also `constraint.json`, which says what is met.
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
    training = config.training
    with _precision(training.precision), _strategy(training.strategy).scope():
        data = TrainingData.load(config, examples_dir)
        batches = data.batches(config, fairness, seed)
        steps = steps_per_epoch(batches, training.batch_size)
        model = build_model(config, data, seed, fairness, steps * training.epochs)
        checkpoint = EpochCheckpoint(model, out_dir, _evaluation(model, data, training, fairness))
        first_epoch = checkpoint.resume()
        updates = None
        if fairness is not None:
            total = steps * training.epochs
            updates = constraint_updates(model, data, training, fairness, total)
        held = [updates] if updates else []
        if first_epoch < training.epochs:
            with _tensorboard(out_dir) as tensorboard:
                model.fit(
                    epochs_of(batches, training.batch_size, seed, first_epoch, training.epochs),
                    steps_per_epoch=steps,
                    initial_epoch=first_epoch,
                    epochs=training.epochs,
                    # Multipliers move before the checkpoint that has to hold them.
                    callbacks=[*held, checkpoint, tensorboard, *callbacks],
                    verbose=0,
                )
        if updates is not None and fairness is not None:
            slices = slice_membership(data.users, fairness.slices)[0] or ["everybody"]
            found = outcome(updates, slices, data.catalogue.groups.labels)
            (out_dir / "constraint.json").write_text(json.dumps(found, indent=1))
    ServedTower(model.query_tower).save(str(out_dir / "query_tower"))
    ServedTower(model.candidate_tower).save(str(out_dir / "candidate_tower"))
    return checkpoint.history


@contextlib.contextmanager
def _precision(policy: str) -> Iterator[None]:
    before = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        tf.keras.mixed_precision.set_global_policy(before)


def _strategy(name: str) -> tf.distribute.Strategy:
    if name == "mirrored":
        return tf.distribute.MirroredStrategy()
    if name == "multi_worker_mirrored":
        return tf.distribute.MultiWorkerMirroredStrategy()
    return tf.distribute.get_strategy()


class _TensorBoard(tf.keras.callbacks.TensorBoard):
    """Knows whether its writer is the one that all summaries of the process go to."""

    is_open = False

    def on_train_begin(self, logs: Any = None) -> None:
        super().on_train_begin(logs)
        self.is_open = True

    def on_train_end(self, logs: Any = None) -> None:
        self.is_open = False
        super().on_train_end(logs)


@contextlib.contextmanager
def _tensorboard(out_dir: pathlib.Path) -> Iterator[_TensorBoard]:
    """The callback; where training is interrupted, the process gets its summary writer back."""
    callback = _TensorBoard(out_dir / "tensorboard", write_graph=False, update_freq=_STEPS_PER_LOG)
    try:
        yield callback
    except BaseException as error:
        if callback.is_open:
            with contextlib.suppress(type(error)):
                callback.on_train_end()
        raise


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
        query = encode(model.query_tower, data.held_out.columns)
        candidate = encode(model.candidate_tower, data.catalogue.columns)
        return evaluate(query, candidate, data.held_out, training.evaluate_at, groups, target)

    return measure
