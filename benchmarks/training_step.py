r"""A training step beside that of `tfrs.tasks.Retrieval`.

    python -m benchmarks.training_step

Both train two tables of embeddings on the same batches, with Adam but where a row says otherwise.
Items are drawn evenly or by a law of popularity; logs are like the latter, where a batch holds
fewer distinct items.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from benchmarks.pairs import data_of_pairs
from benchmarks.timing import in_turns, print_ratios
from fairness_losses.config import FairnessConfig
from towers.batches import epochs_of
from towers.building import build_model
from towers.config import IdFeature, ModelConfig
from towers.features import FeatureLayer, FeatureStatistics, build_feature
from towers.training_data import TrainingData

NUM_EXAMPLES = 400_000
STEPS_PER_EXECUTION = 16
SAMPLE = 512
"""Items of the catalogue that exposure is measured on, which are negatives, too."""
PLAIN = "tfrs.tasks.Retrieval"


class PlainRetrieval(tfrs.Model):
    """The model of the TFRS tutorial, with item ids and sampling probabilities where asked for."""

    def __init__(self, size: int, dim: int, probability: np.ndarray | None) -> None:
        super().__init__()
        self.query = tf.keras.layers.Embedding(size, dim)
        self.candidate = tf.keras.layers.Embedding(size, dim)
        self.task = tfrs.tasks.Retrieval(
            temperature=0.15, remove_accidental_hits=probability is not None
        )
        self.probability = None if probability is None else tf.constant(probability, tf.float32)

    def compute_loss(self, inputs: Any, training: bool = False) -> tf.Tensor:
        """Returns the loss of a batch."""
        query = tf.math.l2_normalize(self.query(inputs["query"]["user_id"] - 2), axis=1)
        rows = inputs["candidate"]
        candidate = tf.math.l2_normalize(self.candidate(rows), axis=1)
        corrected = {}
        if self.probability is not None:
            corrected = {
                "candidate_ids": rows,
                "candidate_sampling_probability": tf.gather(self.probability, rows),
            }
        return self.task(query, candidate, compute_metrics=False, **corrected)


def main() -> None:
    """Times every model on even and on popular items and prints a table for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--size", type=int, default=20_000, help="queries, and items")
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--executions", type=int, default=2, help="of 16 steps, in a round")
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    for title, exponent in (("items drawn evenly", 0.0), ("items drawn by popularity", 0.8)):
        print(f"\n{title}\n")
        seconds = in_turns(_rounds(arguments, exponent), arguments.rounds)
        steps = STEPS_PER_EXECUTION * arguments.executions
        print_ratios(seconds, PLAIN, steps / 1000, "ms a step")


def _rounds(arguments: argparse.Namespace, exponent: float) -> dict[str, Callable[[], object]]:
    tf.keras.utils.set_random_seed(0)
    size, dim = arguments.size, arguments.dim
    chance = (1.0 + np.arange(size)) ** -exponent
    chance /= chance.sum()
    users = np.random.default_rng(0).integers(0, size, NUM_EXAMPLES).astype(np.int32)
    items = np.random.default_rng(1).choice(size, NUM_EXAMPLES, p=chance).astype(np.int32)

    def ours(optimizer: str, **fairness: Any) -> Callable[[], object]:
        settings = FairnessConfig(**fairness) if fairness else None
        config = _config(arguments, optimizer, sample=SAMPLE if settings else 0)
        data = _data(config, users, items, size)
        return _steps(build_model(config, data, 0, settings, 1), data, config, arguments, settings)

    def theirs(probability: np.ndarray | None) -> Callable[[], object]:
        config = _config(arguments, "adam", sample=0)
        model = PlainRetrieval(size, dim, probability)
        model.compile(tf.keras.optimizers.Adam(0.002), steps_per_execution=STEPS_PER_EXECUTION)
        return _steps(model, _data(config, users, items, size), config, arguments, None)

    parity = {"regularizer": "exposure_parity", "weight": 1.0}
    return {
        PLAIN: theirs(None),
        f"{PLAIN}, logQ, hits removed": theirs(chance),
        "fairtowers, logQ, hits removed": ours("adam"),
        "the same with exposure parity": ours("adam", **parity),
        "lazy_adam": ours("lazy_adam"),
        "lazy_adam with exposure parity": ours("lazy_adam", **parity),
    }


def _config(arguments: argparse.Namespace, optimizer: str, sample: int) -> ModelConfig:
    training = {
        "batch_size": arguments.batch,
        "catalogue_sample": sample,
        "optimizer": optimizer,
    }
    return ModelConfig.model_validate({"towers": {"dim": arguments.dim}, "training": training})


def _data(config: ModelConfig, users: np.ndarray, items: np.ndarray, size: int) -> TrainingData:
    numbers = np.arange(2, size + 2, dtype=np.int32)
    layers = (_layer("user_id", size, config), _layer("item_id", size, config))
    return data_of_pairs(config, users, items, (numbers, numbers), layers)


def _layer(column: str, size: int, config: ModelConfig) -> FeatureLayer:
    ids = [str(number) for number in range(size)]
    feature = IdFeature(kind="id", column=column)
    return build_feature(feature, FeatureStatistics(vocabulary=ids), config.towers.dim)


def _steps(
    model: tf.keras.Model,
    data: TrainingData,
    config: ModelConfig,
    arguments: argparse.Namespace,
    fairness: FairnessConfig | None,
) -> Callable[[], object]:
    """Returns what trains for a round, as `fit` does between its callbacks."""
    batches = epochs_of(data.batches(config, fairness, 0), arguments.batch, 0, 0, 1_000_000)
    iterator = iter(batches)
    execute = model.make_train_function()

    def train() -> None:
        for _ in range(arguments.executions):
            loss = execute(iterator)["loss"]
        float(loss)

    return train


if __name__ == "__main__":
    main()
