"""The model of a configuration: what regularizers are given, and that all of them train."""

import numpy as np
import pytest
import tensorflow as tf
from small_examples import small_model, write_biased_log

import fairness_losses
from fairness_losses.config import ConstraintConfig, FairnessConfig, TargetConfig
from fairness_losses.errors import InvalidInputError
from fairness_losses.regularizers.base import Regularizer
from towers.batches import epochs_of
from towers.building import build_model, build_regularizer
from towers.config import TrainingConfig
from towers.model import FairRetrievalModel
from towers.training_data import TrainingData


@pytest.fixture(scope="module")
def examples_dir(tmp_path_factory):
    return write_biased_log(tmp_path_factory.mktemp("log") / "examples")


@pytest.fixture(scope="module")
def data(examples_dir) -> TrainingData:
    """With two slices by gender, one user in six being of none, and the two of a `region`."""
    data = TrainingData.load(small_model(), examples_dir)
    data.users.labels["region"] = np.repeat(np.array(["north", "south"], object), 24)
    return data


def regularizer(data: TrainingData, name: str, **settings) -> Regularizer:
    training = TrainingConfig(temperature=0.2, evaluate_at=[5, 10])
    return build_regularizer(FairnessConfig(regularizer=name, **settings), training, data)


class TestArguments:
    def test_of_exposure_parity(self, data):
        """The target is the catalogue's 72 of a to 36 of b; unknown items have none."""
        found = regularizer(data, "exposure_parity", temperature=0.07).get_config()
        np.testing.assert_allclose(found["target"], [2 / 3, 1 / 3, 0])
        assert found["labels"] == ["a", "b", "unknown"]
        assert found["temperature"] == 0.07
        assert found["depth"] == 10

    def test_the_depth_is_that_of_the_settings_where_they_have_one(self, data):
        assert regularizer(data, "exposure_parity", depth=7).depth == 7

    @pytest.mark.parametrize("depth", [120, 200])
    def test_lists_of_all_items_could_not_be_steered(self, data, depth):
        with pytest.raises(InvalidInputError, match="less than the number of items, 120"):
            regularizer(data, "exposure_parity", depth=depth)

    @pytest.mark.parametrize(
        "name",
        [
            name
            for name in fairness_losses.available()
            if "excluded" in fairness_losses.arguments_of(name)
        ],
    )
    def test_unknown_items_are_left_out_unless_they_are_included(self, data, name):
        assert regularizer(data, name).get_config()["excluded"] == [2]
        included = regularizer(data, name, target=TargetConfig(include_unknown=True))
        assert included.get_config()["excluded"] == []

    @pytest.mark.parametrize("name", ["worst_group", "exposure_constraint"])
    def test_slices_are_counted_over_all_columns(self, data, name):
        assert regularizer(data, name, slices=["region", "gender"]).num_slices == 4

    @pytest.mark.parametrize("name", ["worst_group", "exposure_constraint"])
    def test_a_softmax_of_users_choices_has_the_temperature_of_the_retrieval_loss(self, data, name):
        found = regularizer(data, name, slices=["gender"], temperature=0.07)
        assert found.temperature == 0.2

    def test_options_go_before_what_is_offered(self, data):
        options = {"attention": "rank", "temperature": 0.5}
        found = regularizer(data, "exposure_parity", temperature=0.07, options=options)
        assert (found.attention, found.temperature) == ("rank", 0.5)


class TestBands:
    def config(self, data, slices=("gender",), **constraint):
        bands = {"slices": list(slices), "constraint": ConstraintConfig(**constraint)}
        return regularizer(data, "exposure_constraint", **bands).get_config()

    def test_by_default_all_groups_with_a_target_are_held_alike(self, data):
        found = self.config(data, tolerance=0.1, margin=0.2, step_size=0.3)
        assert found["constrained"] == [0, 1]
        assert found["tolerance"] == [0.1] * 2
        assert found["margin"] == 0.2
        assert found["step_size"] == 0.3

    def test_a_tolerance_by_column_is_that_of_each_of_its_slices(self, data):
        tolerance = {"gender": 0.1, "region": 0.2}
        found = self.config(data, ["region", "gender"], tolerance=tolerance)
        assert found["tolerance"] == [0.2, 0.2, 0.1, 0.1]

    def test_without_slices_everybody_is_in_one(self, data):
        found = self.config(data, [], tolerance=0.1)
        assert found["num_slices"] == 0
        assert found["tolerance"] == [0.1]

    def test_groups_by_name(self, data):
        assert self.config(data, groups=["b"])["constrained"] == [1]

    @pytest.mark.parametrize("tolerance", [{"gender": 0.1, "sex": 0.1}, {"region": 0.1}, {}])
    def test_a_tolerance_of_other_columns(self, data, tolerance):
        with pytest.raises(InvalidInputError, match=r"should name the columns .*: gender\. Rec"):
            self.config(data, tolerance=tolerance)

    def test_a_group_that_is_none(self, data):
        with pytest.raises(InvalidInputError, match="names `women`, which is no group of the"):
            self.config(data, groups=["b", "women"])

    def test_a_group_without_a_target(self, data):
        with pytest.raises(InvalidInputError, match="names `unknown`, which has no target"):
            self.config(data, groups=["b", "unknown"])


class TestWrongNames:
    @pytest.mark.parametrize(
        ("name", "settings", "message"),
        [
            ("parity", {}, "no regularizer `parity`"),
            ("exposure_parity", {"options": {"attentoin": "rank"}}, "Did you mean `attention`"),
            (
                "exposure_parity",
                {"options": {"attention": "full"}},
                r"`fairness.options` of `exposure_parity`: `attention` should be one of .*full",
            ),
            (
                "exposure_constraint",
                {"slices": ["sex"]},
                r"names `sex`, which is no column of `slices`; there are: gender, region\.",
            ),
            ("worst_group", {}, "`worst_group` compares slices of the users: name their columns"),
        ],
    )
    def test_are_the_configurations_fault(self, data, name, settings, message):
        with pytest.raises(InvalidInputError, match=message):
            regularizer(data, name, **settings)


def built(examples_dir, fairness=None, **training) -> tuple[FairRetrievalModel, tf.data.Dataset]:
    """A new model and its batches."""
    tf.keras.utils.set_random_seed(1)
    config = small_model(batch_size=16, **training)
    data = TrainingData.load(config, examples_dir)
    model = build_model(config, data, 1, fairness, num_steps=100)
    return model, epochs_of(data.batches(config, fairness, seed=1), 16, 1, 0, epochs=1)


@pytest.mark.parametrize("name", fairness_losses.available())
@pytest.mark.parametrize("batch_of", ["pairs", "users"])
def test_every_regularizer_trains_with_either_kind_of_batch(examples_dir, name, batch_of):
    """All steps of an epoch, three with users and as many with pairs: the loss is the sum of its
    parts, neither of them is below 0, and no variable is lost to a NaN."""
    fairness = FairnessConfig(regularizer=name, weight=2.0, depth=5, slices=["gender"])
    # Some judge what a user chose, for which they have to see all items.
    model, batches = built(examples_dir, fairness, batch_of=batch_of, catalogue_sample=128)
    if name == "exposure_constraint":
        model.regularizer.update(np.tile([8.0, 2.0, 0.0], (2, 1)))
    step = tf.function(model.train_step, input_signature=[batches.element_spec])
    for batch in batches.take(3):
        model.reset_metrics()
        found = {key: float(value) for key, value in step(batch).items()}
        expected = found["retrieval_loss"] + 2 * found["regularizer"]
        assert found["loss"] == pytest.approx(expected, rel=1e-5)
        assert found["regularizer"] >= 0
        assert np.isfinite(found["loss"])
    assert all(np.isfinite(v.numpy()).all() for v in model.trainable_variables)


class TestWhatWouldNotBeSeen:
    @pytest.mark.parametrize("name", ["pairwise_fairness", "expected_exposure", "worst_group"])
    def test_what_users_chose_is_not_looked_for_in_a_sample(self, examples_dir, name):
        fairness = FairnessConfig(regularizer=name, depth=5, slices=["gender"])
        with pytest.raises(InvalidInputError, match=f"`{name}` compares .*`training.catalogue_sam"):
            built(examples_dir, fairness, catalogue_sample=32)

    def test_min_diff_looks_for_it_only_where_it_is_of_positives_alone(self, examples_dir):
        def fairness(positives_only: bool) -> FairnessConfig:
            options = {"positives_only": positives_only}
            return FairnessConfig(regularizer="min_diff", depth=5, options=options)

        assert built(examples_dir, fairness(False), catalogue_sample=32)[0].regularizer
        with pytest.raises(InvalidInputError, match="`min_diff` compares"):
            built(examples_dir, fairness(True), catalogue_sample=32)

    @pytest.mark.parametrize("name", ["exposure_constraint", "worst_group"])
    def test_the_temperature_of_the_retrieval_loss_has_to_stay(self, examples_dir, name):
        fairness = FairnessConfig(regularizer=name, depth=5, slices=["gender"])
        with pytest.raises(InvalidInputError, match=r"`training\.learned_temperature: false`"):
            built(examples_dir, fairness, catalogue_sample=128, learned_temperature=True)

    def test_weights_of_slices_are_not_kept_by_each_replica(self, examples_dir):
        fairness = FairnessConfig(regularizer="worst_group", slices=["gender"])
        with pytest.raises(InvalidInputError, match=r"`training\.strategy: one_device`"):
            built(examples_dir, fairness, catalogue_sample=128, strategy="mirrored")

    def test_a_memory_beside_the_whole_catalogue(self, examples_dir):
        with pytest.raises(InvalidInputError, match=r"set `training\.candidate_memory: 0`"):
            built(examples_dir, catalogue_sample=128, candidate_memory=50)


def rates(examples_dir, steps, **training) -> list[float]:
    model, _ = built(examples_dir, learning_rate=0.1, **training)
    rate = model.optimizer._learning_rate
    return [float(rate(step) if callable(rate) else rate) for step in steps]


def test_a_constant_learning_rate(examples_dir):
    np.testing.assert_allclose(rates(examples_dir, [0, 99]), [0.1, 0.1], rtol=1e-6)


def test_a_cosine_falls_from_the_learning_rate_to_a_fiftieth_of_it(examples_dir):
    """Half-way through 100 steps it is the mean of 0.1 and 0.002."""
    found = rates(examples_dir, [0, 50, 100, 200], schedule="cosine")
    np.testing.assert_allclose(found, [0.1, 0.051, 0.002, 0.002], rtol=1e-5)


def test_a_cosine_with_a_warmup_first_rises_from_0(examples_dir):
    """Over 20 of the 100 steps; half-way through the other 80 it is the mean again."""
    found = rates(examples_dir, [0, 10, 20, 60, 100], schedule="cosine", warmup=0.2)
    np.testing.assert_allclose(found, [0, 0.05, 0.1, 0.051, 0.002], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("fairness", [None, FairnessConfig(weight=0.0)])
def test_without_a_weight_there_is_no_regularizer(examples_dir, fairness):
    assert built(examples_dir, fairness)[0].regularizer is None


def test_all_variables_are_there_before_a_checkpoint_is_restored(examples_dir):
    model, batches = built(examples_dir, FairnessConfig(depth=5), learned_temperature=True)
    before = len(model.variables), len(model.optimizer.variables)
    for batch in batches.take(1):
        model.train_step(batch)
    assert (len(model.variables), len(model.optimizer.variables)) == before
