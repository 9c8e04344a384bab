"""The model: its loss is the retrieval loss with what belongs to it, plus the penalty."""

import numpy as np
import pytest
import tensorflow as tf

from fairness_losses.catalogue_sample import StratifiedSample
from fairness_losses.groups import Groups
from fairness_losses.regularizers.base import Regularizer
from fairness_losses.regularizers.exposure_parity import ExposureParity
from towers.catalogue import EntityTable
from towers.config import IdFeature, TowersConfig
from towers.features import FeatureStatistics, build_feature
from towers.model import FairRetrievalModel
from towers.objectives import PairObjective
from towers.retrieval_loss import RetrievalLoss
from towers.tower import Tower

GROUPS = ["a", "a", "a", "b", "b", "unknown"]
FREQUENCY = np.array([8, 4, 0, 2, 1, 1])
BATCH = {
    "query": {"user_id": tf.constant([1, 2, 3, 1])},
    "candidate": tf.constant([0, 3, 1, 4]),
    "given": tf.constant([[5], [-1], [-1], [-1]]),
    "wanted": tf.constant([[0, 4], [3, -1], [1, -1], [4, 0]]),
    "slices": tf.constant([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]),
}


def id_tower(column: str, size: int) -> Tower:
    statistics = FeatureStatistics(vocabulary=[str(i) for i in range(size)])
    feature = build_feature(IdFeature(kind="id", column=column), statistics, 4)
    return Tower([feature], TowersConfig(dim=4), f"{column}_tower")


def model_with(
    frequency: np.ndarray | None = FREQUENCY, logq_correction: bool = True, **arguments
) -> FairRetrievalModel:
    tf.keras.utils.set_random_seed(0)
    catalogue = EntityTable(
        ids=np.array(list("uvwxyz"), object),
        columns={"item_id": np.arange(1, 7, dtype=np.int32)},
        labels={"group": np.array(GROUPS, object)},
        frequency=frequency,
    )
    towers = id_tower("user_id", 3), id_tower("item_id", 6)
    drawn = arguments.get("sample")
    objective = PairObjective(RetrievalLoss(0.5), catalogue, logq_correction, drawn)
    model = FairRetrievalModel(*towers, catalogue, objective, **arguments)
    model.compile(optimizer=tf.keras.optimizers.Adam(0.1))
    return model


def sample(size: int = 6) -> StratifiedSample:
    return StratifiedSample(Groups.from_labels(GROUPS), size, seed=0)


def retrieval_loss(model: FairRetrievalModel, stands_for: np.ndarray) -> float:
    """The loss of `BATCH`, given how many items each item of the catalogue stands for."""
    scores = model.query_tower(BATCH["query"]) @ tf.transpose(model.embed_candidates(tf.range(6)))
    scores, own = scores.numpy().astype(np.float64) / 0.5, BATCH["candidate"].numpy()
    others = np.arange(6) != own[:, None]
    positive = np.take_along_axis(scores, own[:, None], axis=1)[:, 0]
    partition = np.exp(positive) + (np.exp(scores) * others) @ stands_for
    return float((np.log(partition) - positive).mean())


def drawn_once(probability: np.ndarray) -> np.ndarray:
    """What items of `BATCH` stand for, each of them there once where three draws were to be."""
    return np.isin(np.arange(6), BATCH["candidate"]) / (3 * probability)


class FirstScores(Regularizer):
    """Records what it is given; its penalty is 3."""

    registered_name = "first_scores"

    def penalty(self, candidates):
        self.candidates = candidates
        self.scores, self.membership, self.weights, *_ = candidates
        return tf.constant(3.0)


def test_probabilities_are_training_shares_and_an_item_not_in_training_counts_as_once():
    """Frequencies 8, 4, 0, 2, 1, 1 count as 8, 4, 1, 2, 1, 1 of 17."""
    model = model_with()
    expected = retrieval_loss(model, drawn_once(np.array([8, 4, 1, 2, 1, 1]) / 17))
    assert float(model.compute_loss(BATCH)) == pytest.approx(expected, rel=1e-5)


def test_without_the_correction_all_items_are_equally_likely():
    model = model_with(logq_correction=False)
    expected = retrieval_loss(model, drawn_once(np.full(6, 1 / 6)))
    assert float(model.compute_loss(BATCH)) == pytest.approx(expected, rel=1e-5)


def test_a_sample_of_the_whole_catalogue_stands_for_itself():
    model = model_with(sample=sample())
    expected = retrieval_loss(model, np.ones(6))
    assert float(model.compute_loss(BATCH)) == pytest.approx(expected, rel=1e-5)


def test_the_penalty_is_added_times_its_weight_and_both_parts_are_reported():
    plain = float(model_with(sample=sample()).compute_loss(BATCH))
    model = model_with(sample=sample(), regularizer=FirstScores(), weight=0.5)
    assert float(model.compute_loss(BATCH)) == pytest.approx(plain + 0.5 * 3.0, rel=1e-5)
    reported = {metric.name: float(metric.result()) for metric in model.metrics}
    assert reported == pytest.approx({"retrieval_loss": plain, "regularizer": 3.0}, rel=1e-5)


def test_the_regularizer_sees_the_sample_with_its_groups_and_weights():
    recorder = FirstScores()
    model = model_with(sample=sample(), regularizer=recorder, regularized_queries=3)
    model.compute_loss(BATCH)
    rows = sample().rows(tf.constant(0))
    query = model.query_tower(BATCH["query"])[:3]
    scores = tf.matmul(query, model.embed_candidates(rows), transpose_b=True)
    np.testing.assert_allclose(recorder.scores, scores, rtol=1e-6)
    membership = Groups.from_labels(GROUPS).membership
    np.testing.assert_array_equal(recorder.membership, membership[rows.numpy()])
    np.testing.assert_array_equal(recorder.weights, np.ones(6))


def test_what_a_user_chose_is_not_listed_and_the_regularizer_sees_who_the_user_is():
    recorder = FirstScores()
    model_with(sample=sample(), regularizer=recorder, regularized_queries=2).compute_loss(BATCH)
    seen = recorder.candidates
    np.testing.assert_array_equal(seen.listed, [[0, 1, 1, 1, 0, 0], [1, 1, 1, 0, 1, 1]])
    assert seen.relevance is None
    np.testing.assert_array_equal(seen.slices, [[1, 0], [0, 1]])
    np.testing.assert_array_equal(seen.frequency, FREQUENCY)
    assert seen.embeddings.shape == [6, 4]


def test_a_regularizer_that_judges_relevance_sees_wanted_items_on_the_lists():
    class Judge(FirstScores):
        registered_name = "judge"
        needs = frozenset({"relevance"})

    judge = Judge()
    model_with(sample=sample(), regularizer=judge, regularized_queries=2).compute_loss(BATCH)
    np.testing.assert_array_equal(judge.candidates.listed, [[1, 1, 1, 1, 1, 0], [1] * 6])
    expected = [[1, 0, 0, 0, 1, 0], [0, 0, 0, 1, 0, 0]]
    np.testing.assert_array_equal(judge.candidates.relevance, expected)


def test_every_step_draws_another_sample_and_the_same_one_when_repeated():
    recorder = FirstScores()
    model = model_with(sample=sample(size=4), regularizer=recorder)
    drawn = []
    for step in (0, 1, 2, 0):
        model.optimizer.iterations.assign(step)
        model.compute_loss(BATCH)
        drawn.append(recorder.scores.numpy())
    np.testing.assert_array_equal(drawn[0], drawn[3])
    assert (drawn[0] != drawn[1]).any() or (drawn[1] != drawn[2]).any()


def test_a_training_step_learns_both_towers_and_lowers_the_loss():
    parity = ExposureParity([0.5, 0.5, 0.0], temperature=0.2, depth=2)
    model = model_with(sample=sample(), regularizer=parity)
    model.compute_loss(BATCH)  # Creates the variables.
    before = [layer.embeddings.numpy() for layer in embeddings(model)]
    losses = [model.train_step(BATCH)["loss"] for _ in range(10)]
    assert losses[-1] < losses[0]
    for old, layer in zip(before, embeddings(model), strict=True):
        assert (old != layer.embeddings.numpy()).any()


def embeddings(model: FairRetrievalModel) -> list[tf.keras.layers.Embedding]:
    return [m for m in model.submodules if isinstance(m, tf.keras.layers.Embedding)]


def test_a_regularizer_without_a_sample_is_refused():
    with pytest.raises(ValueError, match="needs a `sample` of the catalogue"):
        model_with(regularizer=FirstScores())


def test_a_catalogue_without_frequencies_is_refused():
    with pytest.raises(ValueError, match="training frequencies"):
        model_with(frequency=None)
