"""Training end to end on a small biased log: learning, steering, resuming, exporting."""

import json
import os
import pathlib
import subprocess
import sys

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
    with tf.summary.record_if(True):
        assert not tf.summary.should_record_summaries(), "there is a writer left"
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


class TestHistories:
    """Batches of users whose histories are all that is known of them, with everything on that has
    a state: dropout, a schedule, a learned temperature and a constraint."""

    CONFIG = ModelConfig.model_validate(
        {
            "features": {"query": [{"kind": "history", "dropout": 0.2}]},
            "towers": {"dim": 9, "unit_norm": False, "bias": True, "vector_dropout": 0.2},
            "training": {
                "batch_of": "users",
                "batch_size": 16,
                "epochs": 24,
                "learning_rate": 0.05,
                "schedule": "cosine",
                "warmup": 0.1,
                "temperature": 1.0,
                "evaluate_at": [5],
            },
        }
    )
    HELD = FairnessConfig.model_validate(
        {
            "regularizer": "exposure_constraint",
            "slices": ["gender"],
            "depth": 5,
            "constraint": {"tolerance": 0.15, "start": 0.25, "every": 4, "step_size": 0.2},
        }
    )

    @pytest.fixture(scope="class")
    def held(self, examples_dir, tmp_path_factory):
        """Folder and history of an undisturbed run."""
        out = tmp_path_factory.mktemp("held")
        return out, train(self.CONFIG, examples_dir, out, 1, self.HELD)

    def test_it_learns(self, held):
        """Of 110 items a user has not chosen, two are held out: by chance 5 / 110 of them are
        among five."""
        history = held[1]
        assert history[-1]["retrieval_loss"] < history[0]["retrieval_loss"] - 0.3
        assert history[-1]["val_recall@5"] > 3 * 5 / 110

    def test_the_exported_tower_takes_items_and_knows_a_stranger_by_them(self, held):
        """Items are of the taste that is their number by 4; i7 was chosen by nobody... or not."""
        query = ExportedTower(held[0] / "query_tower")
        candidate = ExportedTower(held[0] / "candidate_tower")
        chosen = [[f"i{4 * n + taste}" for n in range(6)] for taste in range(4)]
        strangers = pa.table({"history": [*chosen, ["stranger"], []]})
        items = candidate.embed(pa.table({"item_id": [f"i{item}" for item in range(120)]}))
        scores = query.embed(strangers) @ items.T
        assert np.isfinite(scores).all()
        for taste in range(4):
            best = np.argsort(-scores[taste])[:10]
            assert (best % 4 == taste).mean() > 0.5
        loaded = tf.saved_model.load(str(held[0] / "query_tower")).signatures["serving_default"]
        assert loaded.structured_input_signature[1] == {
            "history": tf.TensorSpec([None, None], tf.string, "history")
        }

    def test_the_constraint_starts_when_it_should_and_moves_exposure(self, held):
        """A quarter of 72 steps is 18, which six epochs reach and none of them exceeds."""
        history = held[1]
        assert not any(row["regularizer"] for row in history[:6])
        assert all(row["regularizer"] > 0 for row in history[8:])
        assert history[5]["val_exposure_ratio[b]"] < 0.1
        assert history[-1]["val_exposure_ratio[b]"] > 0.4

    def test_it_is_written_how_far_the_constraint_is_met(self, held):
        found = json.loads((held[0] / "constraint.json").read_text())
        cells = {(cell["slice"], cell["group"]) for cell in found["constraints"]}
        slices = ["gender=F", "gender=M"]
        assert cells == {(name, group) for name in slices for group in ("a", "b")}
        assert found["met"] == (not found["unmet"])
        for cell in found["constraints"]:
            assert (cell["low"], cell["high"]) == (0.85, 1.15)
        pull = {(cell["slice"], cell["group"]): cell["multiplier"] for cell in found["constraints"]}
        assert all(pull[name, "b"] > max(0, pull[name, "a"]) for name in slices), pull

    def test_a_killed_run_that_is_called_again_ends_like_an_undisturbed_one(
        self, examples_dir, held, tmp_path
    ):
        """Dropout, learning rate and multipliers go on where they were."""
        with pytest.raises(KilledError):
            train(self.CONFIG, examples_dir, tmp_path, 1, self.HELD, callbacks=[KillAfter(11)])
        history = train(self.CONFIG, examples_dir, tmp_path, 1, self.HELD)
        assert history == held[1]
        users = pq.read_table(examples_dir / "users.parquet")
        again, expected = (
            ExportedTower(out / "query_tower").embed(users) for out in (tmp_path, held[0])
        )
        np.testing.assert_array_equal(again, expected)
        outcomes = [(out / "constraint.json").read_text() for out in (tmp_path, held[0])]
        assert outcomes[0] == outcomes[1]


def test_in_mixed_precision_the_loss_is_finite_and_vectors_are_float32(examples_dir, tmp_path):
    config = small_model(epochs=2, precision="mixed_bfloat16")
    history = train(config, examples_dir, tmp_path, 1, STEERED)
    assert np.isfinite([row["loss"] for row in history]).all()
    assert history[1]["retrieval_loss"] < history[0]["retrieval_loss"]
    for found in vectors(tmp_path):
        assert found.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, rtol=1e-5)
    assert tf.keras.mixed_precision.global_policy().name == "float32"


def test_tensorboard_has_what_groups_have(steered):
    """Groups of items, however deep in the loop over steps the regularizer is called."""
    tags = {
        value.tag
        for path in (steered[0] / "tensorboard").rglob("*tfevents*")
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    for group in ("a", "b", "unknown"):
        assert f"exposure_parity/exposure_share/{group}" in tags
        assert f"exposure_parity/candidates/{group}" in tags
    assert {"epoch_loss", "epoch_exposure_ratio[b]"} <= tags


MIRRORED = """
import pathlib, sys
import tensorflow as tf
import test_training
from fairness_losses.config import FairnessConfig
from towers.training import train

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
tests = test_training.TestHistories
training = {"strategy": "mirrored", "epochs": 8}
config = tests.CONFIG.model_copy(
    update={"training": tests.CONFIG.training.model_copy(update=training)}
)
examples_dir, out = (pathlib.Path(argument) for argument in sys.argv[1:])
train(config, examples_dir, out, 1, tests.HELD)
print("replicas:", tf.distribute.MirroredStrategy().num_replicas_in_sync)
"""


@pytest.mark.slow
def test_on_two_devices_it_learns_and_is_held_to_its_constraint(examples_dir, tmp_path):
    """Devices are made when TensorFlow starts: hence the other process."""
    command = [sys.executable, "-c", MIRRORED, str(examples_dir), str(tmp_path)]
    room = pathlib.Path(__file__).parent
    paths = os.pathsep.join([str(room), str(room.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "replicas: 2" in done.stdout
    history = json.loads((tmp_path / "history.json").read_text())
    assert history[-1]["retrieval_loss"] < history[0]["retrieval_loss"]
    assert history[-1]["regularizer"] > 0
    cells = json.loads((tmp_path / "constraint.json").read_text())["constraints"]
    assert any(cell["multiplier"] for cell in cells)
    users = pq.read_table(examples_dir / "users.parquet")
    assert np.isfinite(ExportedTower(tmp_path / "query_tower").embed(users)).all()
