"""Training end to end on a small biased log: learning, steering, resuming, exporting."""

import json
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from small_examples import small_model, write_biased_log, write_examples

from fairness_losses.config import FairnessConfig, TargetConfig
from fairness_losses.errors import InvalidInputError
from towers.building import build_model
from towers.checkpointing import EpochCheckpoint
from towers.config import ModelConfig
from towers.exported_tower import ExportedTower
from towers.training import train
from towers.training_data import TrainingData

# The target is the catalogue, 2 : 1 for group a; the log has 40 : 1.
STEERED = FairnessConfig(weight=6.0, depth=5, temperature=0.05)
NOT_STEERED = STEERED.model_copy(update={"weight": 0.0})
EPOCHS = 4
USERS = [f"u{user}" for user in range(48)]


class KilledError(Exception):
    """Stands for whatever ends a process."""


class KillAfter(tf.keras.callbacks.Callback):
    """Dies after an epoch, when its checkpoint is there."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.epochs = epochs

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self.epochs:
            raise KilledError


def vectors(out: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Of all users, and of all items, from the exported towers."""
    users = pa.table({"user_id": USERS})
    items = pa.table({"item_id": [f"i{item}" for item in range(120)]})
    query, candidate = ExportedTower(out / "query_tower"), ExportedTower(out / "candidate_tower")
    return query.embed(users), candidate.embed(items)


@pytest.fixture(scope="module")
def examples_dir(tmp_path_factory) -> pathlib.Path:
    return write_biased_log(tmp_path_factory.mktemp("log") / "examples")


@pytest.fixture(scope="module")
def steered(examples_dir, tmp_path_factory):
    """Folder and history of an undisturbed run with the regularizer."""
    out = tmp_path_factory.mktemp("steered")
    return out, train(small_model(epochs=EPOCHS), examples_dir, out, 1, STEERED)


@pytest.fixture(scope="module")
def not_steered(examples_dir, tmp_path_factory):
    """Folder and history of the same run with weight 0."""
    out = tmp_path_factory.mktemp("not_steered")
    return out, train(small_model(epochs=EPOCHS), examples_dir, out, 1, NOT_STEERED)


def test_the_loss_falls(not_steered):
    _, history = not_steered
    losses = [row["retrieval_loss"] for row in history]
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert losses == sorted(losses, reverse=True)


def test_every_epoch_has_validation_metrics_overall_per_slice_and_per_group(steered):
    """The slice `unknown` has eight users, too few to be shown."""
    out, history = steered
    assert set(history[-1]) == {
        "epoch",
        "loss",
        "retrieval_loss",
        "regularizer",
        *(f"val_{m}@5" for m in ("recall", "ndcg")),
        *(f"val_{m}@5[gender={g}]" for m in ("recall", "ndcg") for g in ("F", "M")),
        "val_exposure_ratio[a]",
        "val_exposure_ratio[b]",
    }
    assert json.loads((out / "history.json").read_text()) == history


def test_the_regularizer_moves_exposure_towards_the_target(steered, not_steered):
    """Same seed, same data: the regularizer alone makes most of the difference to a ratio of 1."""
    with_it, without = steered[1][-1], not_steered[1][-1]
    assert without["val_exposure_ratio[b]"] < 0.3
    assert 0.6 < with_it["val_exposure_ratio[b]"] < 1.1
    assert with_it["val_exposure_ratio[a]"] < without["val_exposure_ratio[a]"]


def test_without_fairness_groups_are_not_looked_at(examples_dir, tmp_path):
    (row,) = train(small_model(epochs=1), examples_dir, tmp_path, 1)
    assert not [name for name in row if "exposure" in name or "regularizer" in name]


def test_the_same_seed_gives_the_same_model_bit_for_bit(examples_dir, steered, tmp_path):
    history = train(small_model(epochs=EPOCHS), examples_dir, tmp_path, 1, STEERED)
    assert history == steered[1]
    for again, before in zip(vectors(tmp_path), vectors(steered[0]), strict=True):
        np.testing.assert_array_equal(again, before)


def test_a_killed_run_that_is_called_again_ends_like_an_undisturbed_one(
    examples_dir, steered, tmp_path
):
    config = small_model(epochs=EPOCHS)
    with pytest.raises(KilledError):
        train(config, examples_dir, tmp_path, 1, STEERED, callbacks=[KillAfter(2)])
    assert len(json.loads((tmp_path / "history.json").read_text())) == 2
    assert not (tmp_path / "query_tower").exists()
    history = train(config, examples_dir, tmp_path, 1, STEERED)
    assert history == steered[1]
    for resumed, undisturbed in zip(vectors(tmp_path), vectors(steered[0]), strict=True):
        np.testing.assert_array_equal(resumed, undisturbed)


def test_a_finished_run_that_is_called_again_trains_no_further(examples_dir, steered):
    out, history = steered
    before = vectors(out)
    again = train(small_model(epochs=EPOCHS), examples_dir, out, 1, STEERED)
    assert again == history
    for after, expected in zip(vectors(out), before, strict=True):
        np.testing.assert_array_equal(after, expected)


def test_unseen_ids_get_a_finite_vector_of_length_1(steered):
    tower = ExportedTower(steered[0] / "query_tower")
    unseen = tower.embed(pa.table({"user_id": ["stranger", "", "[UNK]"]}))
    np.testing.assert_allclose(np.linalg.norm(unseen, axis=1), 1.0, rtol=1e-5)


def test_a_loss_that_diverges_is_the_settings_fault(examples_dir, tmp_path):
    config = small_model(epochs=1, learning_rate=1e38)
    config = config.model_copy(
        update={"towers": config.towers.model_copy(update={"unit_norm": False})}
    )
    with pytest.raises(InvalidInputError, match=r"diverged\. Lower `training.learning_rate`"):
        train(config, examples_dir, tmp_path, 1)
    assert not (tmp_path / "query_tower").exists()


def test_a_missing_shard_stops_training_before_it_begins(tmp_path):
    folder = write_biased_log(tmp_path / "examples")
    (folder / "train-00000-of-00002.tfrecord.gz").unlink()
    with pytest.raises(InvalidInputError, match="1 of 2 files of train examples"):
        train(small_model(), folder, tmp_path / "out", 1)


def test_fewer_examples_than_a_batch_and_an_empty_validation_part(tmp_path):
    """48 users with 2 examples each, in batches of 1000, and nothing to evaluate on."""
    folder = write_biased_log(tmp_path / "examples", validation=False, interactions_per_user=2)
    config = small_model(epochs=2, batch_size=1000, catalogue_sample=0)
    history = train(config, folder, tmp_path / "out", 1)
    assert [set(row) for row in history] == [{"epoch", "loss", "retrieval_loss"}] * 2
    assert history[1]["loss"] < history[0]["loss"]


def test_a_regularizer_that_nobody_knows_is_an_invalid_input(examples_dir, tmp_path):
    fairness = FairnessConfig(regularizer="parity")
    with pytest.raises(InvalidInputError, match="no regularizer `parity`"):
        train(small_model(), examples_dir, tmp_path, 1, fairness)


def test_shares_for_groups_that_are_not_in_the_catalogue_are_an_invalid_input(
    examples_dir, tmp_path
):
    target = TargetConfig(kind="explicit", shares={"a": 0.5, "c": 0.5})
    with pytest.raises(InvalidInputError, match=r"1 have no share\. Not in the catalogue: c\."):
        train(small_model(), examples_dir, tmp_path, 1, FairnessConfig(target=target))


class TestExportedFeatures:
    """A model with a feature of every kind on either side."""

    CONFIG = ModelConfig.model_validate(
        {
            "features": {
                "query": [
                    {"kind": "id", "column": "user_id"},
                    {"kind": "categorical", "column": "country"},
                    {"kind": "numeric", "column": "age"},
                ],
                "candidate": [
                    {"kind": "id", "column": "item_id"},
                    {"kind": "categorical", "column": "genres"},
                    {"kind": "text", "column": "title"},
                    {"kind": "vector", "column": "style"},
                ],
            },
            "towers": {"dim": 4, "hidden": [6]},
            "training": {"epochs": 1, "batch_size": 8, "evaluate_at": [3]},
        }
    )

    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory) -> pathlib.Path:
        rng = np.random.default_rng(0)
        users = {
            "user_id": [f"user {u}" for u in range(9)],
            "country": [("NO", "SE", "")[u % 3] for u in range(9)],
            "age": [20.0 + u for u in range(9)],
            "slice.country": ["x"] * 9,
        }
        items = {
            "item_id": [f"item,{i}" for i in range(7)],
            "group": [("a", "b")[i % 2] for i in range(7)],
            "genres": [[["war"], ["war", "drama"], [""]][i % 3] for i in range(7)],
            "title": [f"Title, the {i}." for i in range(7)],
            "style": rng.normal(size=(7, 3)).tolist(),
        }
        chosen = [(u, i) for u in users["user_id"] for i in items["item_id"] if rng.random() < 0.4]
        folder = tmp_path_factory.mktemp("features")
        pairs = {"train": chosen, "validation": chosen[:3]}
        write_examples(folder / "examples", users, items, pairs)
        train(self.CONFIG, folder / "examples", folder / "out", 1, STEERED)
        return folder

    def test_exported_towers_give_the_vectors_of_the_model_from_raw_columns(self, folder):
        examples = folder / "examples"
        data = TrainingData.load(self.CONFIG, examples)
        model = build_model(self.CONFIG, data, 1, STEERED, num_steps=1)
        assert EpochCheckpoint(model, folder / "out", dict).resume() == 1
        query, candidate = (
            ExportedTower(folder / "out" / f"{side}_tower").embed(
                pq.read_table(examples / f"{table}.parquet")
            )
            for side, table in (("query", "users"), ("candidate", "catalogue"))
        )
        np.testing.assert_allclose(query, model.query_tower(data.users.columns), atol=1e-6)
        np.testing.assert_allclose(candidate, model.embed_candidates(tf.range(7)), atol=1e-6)
        assert len(np.unique(query, axis=0)) == 9

    def test_neither_groups_nor_slices_are_inputs(self, folder):
        for side in ("query", "candidate"):
            loaded = tf.saved_model.load(str(folder / "out" / f"{side}_tower"))
            inputs = loaded.signatures["serving_default"].structured_input_signature[1]
            columns = [f.column for f in getattr(self.CONFIG.features, side)]
            assert sorted(inputs) == sorted(columns)
