"""From what users clicked to vectors: the examples, the towers and the training of a run."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf

from fairness_losses.config import FairnessConfig
from pipelines.examples.inputs import FREQUENCY
from pipelines.examples.record_files import shard_path, write_records
from pipelines.examples.tf_examples import encode_examples
from pipelines.simulation.pairs import Pairs
from towers.batches import epochs_of, steps_per_epoch
from towers.building import build_model
from towers.config import (
    ITEM_ID,
    USER_ID,
    CategoricalFeature,
    Feature,
    FeaturesConfig,
    HistoryFeature,
    IdFeature,
    ModelConfig,
)
from towers.encoding import encode
from towers.training_data import TrainingData


class Vectors(NamedTuple):
    """What was learnt.

    Attributes:
        users: float32 `[num_users, dim]`.
        items: float32 `[num_items, dim]`.
    """

    users: np.ndarray
    items: np.ndarray


def learn(
    config: ModelConfig,
    fairness: FairnessConfig | None,
    examples_dir: pathlib.Path,
    seed: int,
) -> Vectors:
    """Trains both towers from the beginning, as `towers.training.train` does.

    There is nothing to resume, to measure between epochs or to export, so there are no checkpoints
    and no SavedModels, which would take most of the time.

    Args:
        config: Features, towers and optimisation.
        fairness: Target and regularizer; none trains for relevance alone.
        examples_dir: What `write_examples` wrote.
        seed: Of the initial weights and the order of the examples.
    """
    tf.keras.backend.clear_session()
    tf.keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    training = config.training
    data = TrainingData.load(config, examples_dir)
    batches = data.batches(config, fairness, seed)
    steps = steps_per_epoch(batches, training.batch_size)
    model = build_model(config, data, seed, fairness, steps * training.epochs)
    model.fit(
        epochs_of(batches, training.batch_size, seed, 0, training.epochs),
        steps_per_epoch=steps,
        epochs=training.epochs,
        verbose=0,
    )
    return Vectors(
        encode(data.query_tower, data.users.columns),
        encode(data.candidate_tower, data.catalogue.columns),
    )


def write_examples(
    features: FeaturesConfig, users: pa.Table, items: pa.Table, pairs: Pairs, folder: pathlib.Path
) -> None:
    """Writes what training reads: tables, vocabularies and one shard, in the format of a run.

    Args:
        features: Of both towers.
        users: `user_id` and features.
        items: `item_id`, `group` and features.
        pairs: Rows of these tables.
        folder: An empty one.
    """
    frequency = np.bincount(pairs.items, minlength=len(items))
    catalogue = items.append_column(FREQUENCY, pa.array(frequency))
    if features.history:
        users = users.append_column(
            features.history.column, _histories(features.history, len(users), items, pairs)
        )
    pq.write_table(users, folder / "users.parquet")
    pq.write_table(catalogue, folder / "catalogue.parquet")
    _write_vocabularies(features.query, users.take(np.unique(pairs.users)), folder)
    # Items of a history are numbered even if the candidate tower does not see their ids.
    numbered = [*features.candidate, IdFeature(kind="id", column=ITEM_ID)]
    _write_vocabularies(numbered, items.take(np.unique(pairs.items)), folder)
    names = [f.column for f in features.query if not isinstance(f, HistoryFeature)]
    examples = users.select(list(dict.fromkeys([USER_ID, *names]))).take(pairs.users)
    examples = examples.append_column(ITEM_ID, items[ITEM_ID].take(pairs.items))
    write_records(shard_path(folder, "train", 0, 1), [encode_examples(examples)])
    write_records(shard_path(folder, "validation", 0, 1), [])


def _histories(
    feature: HistoryFeature, num_users: int, items: pa.Table, pairs: Pairs
) -> pa.ListArray:
    """The latest items of every user, by their ids."""
    order = np.argsort(pairs.users, kind="stable")
    counts = np.bincount(pairs.users, minlength=num_users)
    from_end = np.repeat(np.cumsum(counts), counts) - np.arange(len(order))
    kept = order[from_end <= feature.max_items]
    offsets = np.append(0, np.cumsum(np.minimum(counts, feature.max_items)))
    ids = items[ITEM_ID].combine_chunks().take(pairs.items[kept])
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), ids)


def _write_vocabularies(
    features: Sequence[Feature], chosen: pa.Table, folder: pathlib.Path
) -> None:
    """Writes the values that training sees, of ids and categories."""
    (folder / "vocabularies").mkdir(exist_ok=True)
    for feature in features:
        if isinstance(feature, IdFeature | CategoricalFeature):
            values = pa.table({"value": pc.unique(chosen[feature.column])})
            pq.write_table(values, folder / "vocabularies" / f"{feature.column}.parquet")
