"""Dual ascent: when multipliers move, what they move by, and what is said of the outcome."""

import json
import types

import numpy as np
import pytest
import tensorflow as tf
from small_examples import small_model, write_biased_log

from fairness_losses.config import ConstraintConfig, FairnessConfig
from fairness_losses.regularizers.exposure_constraint import ExposureConstraint
from towers.building import build_model
from towers.constraint_updates import (
    ConstraintUpdates,
    constraint_updates,
    describe_violations,
    outcome,
)
from towers.encoding import encode
from towers.training_data import TrainingData


class Steps:
    """Plays the part of Keras: tells a callback of epochs and of executions of several steps.

    Args:
        every: Of the updates.
        first_step: Of the updates.
        start: Step that the checkpoint is at.
    """

    def __init__(self, every: int, first_step: int, start: int = 0) -> None:
        self.measured: list[int] = []
        self.iterations = tf.Variable(start)
        self.updates = ConstraintUpdates(
            ExposureConstraint([0.5, 0.5], 0), self.measure, every, first_step
        )
        optimizer = types.SimpleNamespace(iterations=self.iterations)
        self.updates.set_model(types.SimpleNamespace(optimizer=optimizer))

    def measure(self) -> np.ndarray:
        self.measured.append(int(self.iterations.numpy()))
        return np.array([[1.0, 3.0]])

    def run(self, epochs: int, per_epoch: int, per_execution: int) -> list[int]:
        for epoch in range(epochs):
            self.updates.on_epoch_begin(epoch)
            left = per_epoch
            while left:
                now = min(left, per_execution)
                self.iterations.assign_add(now)
                self.updates.on_train_batch_end(per_epoch - left)
                left -= now
            self.updates.on_epoch_end(epoch)
        return self.measured


class TestWhen:
    def test_every_few_steps(self):
        assert Steps(every=4, first_step=0).run(1, 14, per_execution=1) == [4, 8, 12]

    def test_after_the_first_step(self):
        assert Steps(every=4, first_step=8).run(1, 18, per_execution=1) == [12, 16]

    def test_at_the_end_of_the_execution_in_which_it_is_due(self):
        """Steps 4 to 12 are passed at 5, 10 and 14, the end of the epoch; 16 and 20 at 19 and 24,
        and 24 there, too."""
        assert Steps(every=4, first_step=0).run(2, 14, per_execution=5) == [5, 10, 14, 19, 24, 28]

    def test_once_in_an_execution_of_many(self):
        assert Steps(every=2, first_step=0).run(2, 16, per_execution=16) == [16, 32]

    @pytest.mark.parametrize("per_epoch", [1, 3, 7])
    def test_in_epochs_of_fewer_steps_than_that(self, per_epoch):
        """A large batch, or few users, make epochs of a single step."""
        measured = Steps(every=8, first_step=0).run(30, per_epoch, per_execution=16)
        passed = [step for step in range(1, 30 * per_epoch + 1) if step % 8 == 0]
        assert len(measured) == len(passed)
        assert all(0 <= step - due < per_epoch for step, due in zip(measured, passed, strict=True))

    @pytest.mark.parametrize("per_epoch", [1, 14, 40])
    def test_a_resumed_training_measures_at_the_same_steps(self, per_epoch):
        whole = Steps(every=6, first_step=11).run(6, per_epoch, per_execution=4)
        start = 2 * per_epoch
        before = Steps(every=6, first_step=11).run(2, per_epoch, per_execution=4)
        after = Steps(every=6, first_step=11, start=start).run(4, per_epoch, per_execution=4)
        assert before + after == whole

    def test_every_measurement_moves_the_multipliers(self):
        steps = Steps(every=4, first_step=0)
        steps.run(1, 4, per_execution=1)
        once = steps.updates.multipliers.copy()
        steps.run(1, 4, per_execution=1)
        assert once[0, 0] > 0 > once[0, 1]
        assert steps.updates.multipliers[0, 0] > once[0, 0]

    def test_looking_at_the_state_moves_nothing(self):
        steps = Steps(every=4, first_step=0)
        assert steps.updates.state().violated.all()
        np.testing.assert_array_equal(steps.updates.multipliers, np.zeros((1, 2)))


class TestOutcome:
    """Target a half each of a and b, `unknown` without one; the second slice has no list."""

    NAMES = SLICES, GROUPS = ("gender=F", "gender=M"), ("a", "b", "unknown")

    def updates(
        self,
        first: tuple[float, ...],
        second: tuple[float, ...] = (0.0, 0.0, 0.0),
        **arguments,
    ) -> ConstraintUpdates:
        constraint = ExposureConstraint([0.5, 0.5, 0.0], 2, tolerance=0.1, **arguments)
        constraint._pull.assign([[0.25, -0.123456, 0.0], [0.5, 0.0, 0.0]])
        exposure = np.array([first, second])
        return ConstraintUpdates(constraint, lambda: exposure, every=1, first_step=0)

    def test_says_of_every_constraint_where_it_is(self):
        """Shares 0.6 and 0.4 are ratios 1.2 and 0.8; `unknown` has no cell."""
        found = outcome(self.updates((6.0, 4.0, 5.0)), *self.NAMES)
        band = {"low": 0.9, "high": 1.1}
        women, men = {"slice": "gender=F"}, {"slice": "gender=M"}
        assert found["constraints"] == [
            {**women, "group": "a", "ratio": 1.2, **band, "multiplier": 0.25},
            {**women, "group": "b", "ratio": 0.8, **band, "multiplier": -0.1235},
            {**men, "group": "a", "ratio": None, **band, "multiplier": 0.5},
            {**men, "group": "b", "ratio": None, **band, "multiplier": 0.0},
        ]
        assert not found["met"]
        assert found["unmet"] == [
            "a in gender=F: ratio 1.200, wanted 0.90 to 1.10",
            "b in gender=F: ratio 0.800, wanted 0.90 to 1.10",
            "a in gender=M: no list to measure it by",
            "b in gender=M: no list to measure it by",
        ]

    def test_is_met_inside_all_bands(self):
        found = outcome(self.updates((5.2, 4.8, 5.0), second=(48.0, 52.0, 0.0)), *self.NAMES)
        assert found["met"]
        assert found["unmet"] == []

    def test_is_not_met_where_nothing_was_measured(self):
        found = outcome(self.updates((5.2, 4.8, 5.0)), *self.NAMES)
        assert not found["met"]
        assert [sentence.split(":")[0] for sentence in found["unmet"]] == [
            "a in gender=M",
            "b in gender=M",
        ]

    def test_of_groups_that_are_not_constrained_nothing_is_said(self):
        updates = self.updates((6.0, 4.0, 5.0), constrained=[1])
        found = outcome(updates, *self.NAMES)
        assert {cell["group"] for cell in found["constraints"]} == {"b"}
        assert found["unmet"] == [
            "b in gender=F: ratio 0.800, wanted 0.90 to 1.10",
            "b in gender=M: no list to measure it by",
        ]

    def test_is_json_as_the_standard_has_it(self):
        found = outcome(self.updates((6.0, 4.0, 5.0)), *self.NAMES)
        assert json.loads(json.dumps(found, allow_nan=False)) == found

    def test_violations_alone(self):
        state = self.updates((1.0, 3.0, 0.0)).state()
        assert describe_violations(state, *self.NAMES) == [
            "a in gender=F: ratio 0.500, wanted 0.90 to 1.10",
            "b in gender=F: ratio 1.500, wanted 0.90 to 1.10",
        ]


class TestOfAModel:
    @pytest.fixture(scope="class")
    def examples_dir(self, tmp_path_factory):
        return write_biased_log(tmp_path_factory.mktemp("log") / "examples")

    def built(self, examples_dir, **settings):
        config = small_model(batch_of="users", evaluate_at=[5, 200])
        data = TrainingData.load(config, examples_dir)
        fairness = FairnessConfig(**{"regularizer": "exposure_constraint", **settings})
        model = build_model(config, data, 1, fairness, num_steps=40)
        return model, data, constraint_updates(model, data, config.training, fairness, 40)

    def test_its_exact_lists_are_measured_slice_by_slice(self, examples_dir):
        """Lists of one item: each user's best one that is not among those chosen in training."""
        model, data, updates = self.built(examples_dir, slices=["gender"], depth=1)
        users = encode(model.query_tower, data.users.columns)
        scores = users @ encode(model.candidate_tower, data.catalogue.columns).T
        scores[data.train_users, data.train.candidates] = -np.inf
        groups, gender = data.catalogue.labels["group"], data.users.labels["gender"]
        best = groups[scores.argmax(axis=1)]
        share = [(best[gender == g] == "a").sum() for g in ("F", "M")]
        known = [np.isin(best[gender == g], ["a", "b"]).sum() for g in ("F", "M")]
        expected = np.array(share) / np.array(known) / (72 / 108)
        np.testing.assert_allclose(updates.state().ratio[:, 0], expected)

    def test_lists_are_no_longer_than_the_catalogue(self, examples_dir):
        """Of 200 there are 120; each user has seen ten."""
        _, _, updates = self.built(examples_dir)
        assert updates.state().ratio.shape == (1, 3)

    def test_it_starts_after_a_share_of_the_training(self, examples_dir):
        constraint = ConstraintConfig(start=0.25, every=3)
        _, _, updates = self.built(examples_dir, constraint=constraint)
        assert updates._first_step == 10
        assert updates._every == 3

    @pytest.mark.parametrize("settings", [{"regularizer": "exposure_parity"}, {"weight": 0.0}])
    def test_without_a_constraint_there_is_nothing_to_update(self, examples_dir, settings):
        assert self.built(examples_dir, depth=5, **settings)[2] is None
