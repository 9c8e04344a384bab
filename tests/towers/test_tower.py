"""A tower: how its features become one vector."""

import numpy as np
import pytest
import tensorflow as tf

from towers.config import (
    CategoricalFeature,
    HistoryFeature,
    IdFeature,
    NumericFeature,
    TextFeature,
    TowersConfig,
    VectorFeature,
)
from towers.features import FeatureLayer, FeatureStatistics, build_feature
from towers.tower import ServedTower, Tower

IDS = tf.constant([2, 3, 1])
STYLE = FeatureStatistics(length=2)


def user_id(dim: int = 4) -> FeatureLayer:
    statistics = FeatureStatistics(vocabulary=["u1", "u2"])
    return build_feature(IdFeature(kind="id", column="user_id"), statistics, dim)


def item_id(bins: int | None = None, dim: int = 4) -> FeatureLayer:
    statistics = FeatureStatistics(vocabulary=["i1", "i2"])
    return build_feature(IdFeature(kind="id", column="item_id", bins=bins), statistics, dim)


def age() -> FeatureLayer:
    statistics = FeatureStatistics(mean=40.0, variance=100.0)
    return build_feature(NumericFeature(kind="numeric", column="age"), statistics, 4)


def genres(*vocabulary: str) -> FeatureLayer:
    statistics = FeatureStatistics(vocabulary=vocabulary or ["war"])
    return build_feature(CategoricalFeature(kind="categorical", column="genres"), statistics, 4)


def tower(*features: FeatureLayer, **settings) -> Tower:
    return Tower(features, TowersConfig(**{"dim": 4, **settings}), "query_tower")


def test_a_single_id_is_its_embedding():
    feature = user_id()
    vectors = tower(feature, unit_norm=False)({"user_id": IDS})
    np.testing.assert_array_equal(vectors, feature(IDS))


def test_vectors_have_length_1_and_keep_their_direction():
    feature = user_id()
    vectors = tower(feature)({"user_id": IDS}).numpy()
    raw = feature(IDS).numpy()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(vectors, raw / np.linalg.norm(raw, axis=1, keepdims=True), rtol=1e-5)


def test_several_features_are_projected_to_the_dimension():
    inputs = {
        "user_id": IDS,
        "age": tf.constant([0.5, 1.0, -1.0]),
        "genres": tf.constant([[2]] * 3),
    }
    assert tower(user_id(), age(), genres(), dim=6)(inputs).shape == (3, 6)


def test_a_single_number_is_projected_to_the_dimension():
    assert tower(age())({"age": tf.constant([0.5, 1.0])}).shape == (2, 4)


def test_hidden_layers_come_between_features_and_vector():
    """Embedding 4 x 4, hidden 4 -> 5 and 5 -> 2, projection 2 -> 4, with biases."""
    deep = tower(user_id(), hidden=[5, 2])
    assert deep({"user_id": IDS}).shape == (3, 4)
    assert deep.count_params() == 16 + (20 + 5) + (10 + 2) + (8 + 4)


def test_features_are_learned_through_the_tower():
    model = tower(user_id(), age(), unit_norm=False)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model({"user_id": IDS, "age": tf.constant([0.5, 1.0, 0.0])}))
    gradients = tape.gradient(loss, model.trainable_variables)
    assert len(gradients) == 3  # The embedding, and the projection's kernel and bias.
    assert all(g is not None for g in gradients)


def test_a_served_tower_takes_raw_columns_and_gives_the_same_vectors():
    model = tower(user_id(), age(), genres())
    served = ServedTower(model).embed(
        {
            "user_id": tf.constant(["u2", "stranger"]),
            "age": tf.constant([50.0, 40.0]),
            "genres": tf.constant([["war", ""], ["opera", "war"]]),
        }
    )
    looked_up = {
        "user_id": tf.constant([3, 1]),
        "age": tf.constant([1.0, 0.0]),
        "genres": tf.constant([[2, 0], [1, 2]]),
    }
    np.testing.assert_allclose(served["embedding"], model(looked_up), rtol=1e-6)


def test_inputs_of_a_served_tower_are_called_like_their_columns(tmp_path):
    ServedTower(tower(user_id(), age(), genres())).save(str(tmp_path))
    signature = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    assert signature.structured_input_signature[1] == {
        "user_id": tf.TensorSpec([None], tf.string, "user_id"),
        "age": tf.TensorSpec([None], tf.float32, "age"),
        "genres": tf.TensorSpec([None, None], tf.string, "genres"),
    }
    assert signature.structured_outputs["embedding"].shape.as_list() == [None, 4]


@pytest.mark.parametrize("unit_norm", [True, False])
def test_an_unseen_id_has_a_finite_vector(unit_norm):
    vectors = tower(user_id(), unit_norm=unit_norm)({"user_id": tf.constant([1])})
    assert np.isfinite(vectors).all()


class TestHiddenLayers:
    """Hidden units 1, -2 of the ages 1 and -2, with an identity for every affine map."""

    def tower(self, **settings) -> Tower:
        model = tower(age(), **{"dim": 1, "hidden": [1], "unit_norm": False, **settings})
        model({"age": tf.constant([0.0])})
        for dense in (model._hidden[0]._dense, model._projection):
            dense.set_weights([np.ones([1, 1]), np.zeros(1)])
        return model

    @pytest.mark.parametrize(
        ("activation", "expected"),
        [
            ("relu", [1, 0]),
            ("tanh", [0.761594, -0.964028]),
            ("gelu", [0.841345, -0.045500]),  # x times the normal distribution function.
        ],
    )
    def test_activation(self, activation, expected):
        vectors = self.tower(activation=activation)({"age": tf.constant([1.0, -2.0])})
        np.testing.assert_allclose(vectors[:, 0], expected, atol=1e-5)

    def test_layer_norm_comes_before_the_activation(self):
        """Units 3 and 1: mean 2, variance 1, so +-1 (less its epsilon), and ReLU keeps the 1."""
        model = tower(age(), dim=2, hidden=[2], layer_norm=True, unit_norm=False)
        model({"age": tf.constant([0.0])})
        model._hidden[0]._dense.set_weights([np.array([[3.0, 1.0]]), np.zeros(2)])
        model._projection.set_weights([np.eye(2), np.zeros(2)])
        vectors = model({"age": tf.constant([1.0])})
        np.testing.assert_allclose(vectors, [[1, 0]], atol=1e-3)

    def test_dropout_is_for_training(self):
        """A unit of 1 is 0 or 2 with dropout 1/2."""
        tf.keras.utils.set_random_seed(1)
        model = self.tower(dropout=0.5)
        inputs = {"age": tf.ones([1000])}
        np.testing.assert_array_equal(model(inputs), np.ones([1000, 1]))
        np.testing.assert_array_equal(model(inputs, training=False), np.ones([1000, 1]))
        dropped = model(inputs, training=True).numpy()
        assert set(np.unique(dropped)) == {0, 2}
        assert 0.85 < dropped.mean() < 1.15


USERS = {"user_id": tf.constant([2, 3]), "age": tf.constant([0.5, -1.0])}


class TestActivatedFeatures:
    """A user with the embedding 1, -2 and the age 0.5, and one with 3, 4 and the age -1."""

    def tower(self, **settings) -> Tower:
        """The vector is the sum of the units, each shifted by 0.5."""
        items = user_id(dim=2)
        items.embedding.set_weights([np.array([[9, 9], [9, 9], [1, -2], [3, 4]])])
        given = {"dim": 1, "unit_norm": False, "activate_features": True, **settings}
        model = tower(items, age(), **given)
        model(USERS)
        model._hidden[0]._dense.set_weights([np.full(3, 0.5)])
        model._projection.set_weights([np.ones([3, 1]), np.zeros(1)])
        return model

    def test_are_the_first_hidden_layer(self):
        """Units 1.5, -1.5, 1 and 3.5, 4.5, -0.5, of which the activation takes those above 0."""
        np.testing.assert_allclose(self.tower()(USERS), [[2.5], [8]])

    def test_are_dropped_out_in_training(self):
        """Each of the units 1.5, 1 and 3.5, 4.5 is doubled or nothing."""
        tf.keras.utils.set_random_seed(0)
        model = self.tower(dropout=0.5)
        drawn = np.concatenate([model(USERS, training=True) for _ in range(50)], axis=1)
        assert set(drawn[0]) == {0, 2, 3, 5}
        assert set(drawn[1]) == {0, 7, 9, 16}
        np.testing.assert_allclose(model(USERS), [[2.5], [8]])

    def test_of_a_history_with_a_wide_embedding_of_its_own(self):
        """As in an autoencoder: items 2 and 3 have the mean 2, -1 in the hidden layer."""
        feature = HistoryFeature(kind="history", share_embedding=False, dim=2)
        statistics = FeatureStatistics(vocabulary=["a", "b"])
        layer = build_feature(feature, statistics, 1)
        layer.embedding.set_weights([np.array([[0, 0], [0, 0], [1, 2], [3, -4]])])
        model = tower(layer, dim=1, unit_norm=False, activate_features=True)
        inputs = {"history": tf.constant([[2, 3], [3, 0]])}
        model(inputs)
        model._projection.set_weights([np.array([[1.0], [10.0]]), np.zeros(1)])
        np.testing.assert_allclose(model(inputs), [[2], [3]])

    def test_but_not_where_one_is_the_vector(self):
        feature = user_id()
        model = tower(feature, unit_norm=False, activate_features=True)
        np.testing.assert_array_equal(model({"user_id": IDS}), feature(IDS))


class TestVectorDropout:
    def vectors(self, side: str, training: bool, **settings) -> np.ndarray:
        tf.keras.utils.set_random_seed(1)
        items = item_id(dim=1000)
        items.embedding.set_weights([np.ones([4, 1000])])
        given = {"dim": 1000, "unit_norm": False, "vector_dropout": 0.5, **settings}
        model = Tower([items], TowersConfig(**given), f"{side}_tower", side)
        return model({"item_id": tf.constant([2])}, training=training).numpy()[0]

    def test_leaves_out_dimensions_of_queries_in_training(self):
        dropped = self.vectors("query", training=True)
        assert set(dropped) == {0, 2}
        assert 0.85 < dropped.mean() < 1.15

    @pytest.mark.parametrize(
        ("side", "training"), [("query", False), ("candidate", True), ("candidate", False)]
    )
    def test_and_nothing_else(self, side, training):
        np.testing.assert_array_equal(self.vectors(side, training), np.ones(1000))

    def test_not_the_one_that_a_bias_is_multiplied_by(self):
        dropped = self.vectors("query", training=True, bias=True)
        assert set(dropped[:-1]) == {0, 2}
        assert dropped[-1] == 1


def test_training_reaches_the_dropout_of_features():
    """An id is replaced by the unseen one's embedding, in training only."""
    feature = IdFeature(kind="id", column="user_id", dropout=0.5)
    layer = build_feature(feature, FeatureStatistics(vocabulary=["u1"]), 4)
    model = tower(layer, unit_norm=False)
    inputs = {"user_id": tf.fill([100], 2)}
    assert len(np.unique(model(inputs, training=True), axis=0)) == 2
    assert len(np.unique(model(inputs), axis=0)) == 1


class TestBias:
    CONFIG = TowersConfig(dim=3, unit_norm=False, bias=True)

    def sides(self) -> tuple[Tower, Tower]:
        query, candidate = (
            Tower([user_id(dim=3)], self.CONFIG, f"{side}_tower", side=side)
            for side in ("query", "candidate")
        )
        query.features[0].embedding.set_weights([np.array([[0.0] * 3] * 3 + [[1, 2, 9]])])
        table = np.array([[0.0] * 3, [1, 1, 0.5], [3, 4, 0.25], [3, 4, -7]])
        candidate.features[0].embedding.set_weights([table])
        return query, candidate

    def test_the_inner_product_has_the_candidates_last_component_added(self):
        """Query 1, 2 and candidates 1, 1 with bias 0.5; 3, 4 with 0.25; 3, 4 with -7."""
        query, candidate = self.sides()
        (vector,) = query({"user_id": tf.constant([3])}).numpy()
        assert vector.tolist() == [1, 2, 1]
        scores = candidate({"user_id": tf.constant([1, 2, 3])}).numpy() @ vector
        np.testing.assert_allclose(scores, [3 + 0.5, 11 + 0.25, 11 - 7])

    def test_the_bias_is_learned(self):
        query, candidate = self.sides()
        with tf.GradientTape() as tape:
            vectors = [side({"user_id": tf.constant([3])}) for side in (query, candidate)]
            score = tf.reduce_sum(vectors[0] * vectors[1])
        tables = [side.features[0].embedding.embeddings for side in (query, candidate)]
        gradients = [tf.convert_to_tensor(g)[3].numpy() for g in tape.gradient(score, tables)]
        assert gradients[0].tolist() == [3, 4, 0]
        assert gradients[1].tolist() == [1, 2, 1]

    def started(self, numbers, frequency, **settings) -> np.ndarray:
        """Logits of items 0 to 3 for a query that agrees with none of them."""
        items = item_id(**settings)
        items.embedding.set_weights([np.zeros(items.embedding.embeddings.shape)])
        candidate = Tower([items], self.CONFIG, "candidate_tower", "candidate")
        query = Tower([items], self.CONFIG, "query_tower", "query")
        candidate({"item_id": tf.constant([0])})
        candidate.start_from_popularity(np.array(numbers), np.array(frequency), temperature=1.0)
        inputs = {"item_id": tf.range(4)}
        return (candidate(inputs).numpy() @ query(inputs).numpy().T)[:, 0]

    def test_it_starts_from_the_popularity_of_items(self):
        """Items chosen 7 and 2 times of 9, counted once more: log 8/9 and log 3/9. Unseen ones
        (number 1, of two in the catalogue) and padding count as chosen once: log 1/9."""
        logits = self.started([2, 3, 1, 1], [7, 2, 0, 0], dim=3)
        np.testing.assert_allclose(logits, np.log([1 / 9, 1 / 9, 8 / 9, 3 / 9]), rtol=1e-5)

    def test_items_that_share_a_hash_bin_are_popular_together(self):
        """Of three bins after the padding 1 has items chosen 4 and 3 times of 9: log 8/9."""
        logits = self.started([1, 1, 2], [4, 3, 2], bins=3, dim=3)[1:]
        np.testing.assert_allclose(logits, np.log([8 / 9, 3 / 9, 1 / 9]), rtol=1e-5)

    def test_a_tower_without_a_bias_has_no_popularity(self):
        items = item_id(dim=3)
        model = Tower([items], TowersConfig(dim=3, unit_norm=False), "candidate_tower", "candidate")
        model.start_from_popularity(np.array([2, 3]), np.array([7, 2]), temperature=1.0)
        inputs = {"item_id": tf.constant([2, 3])}
        np.testing.assert_array_equal(model(inputs), items(inputs["item_id"]))

    def test_it_has_to_be_known_which_side_has_the_one(self):
        with pytest.raises(ValueError, match="`side` should be `query` or `candidate`"):
            Tower([user_id(dim=3)], self.CONFIG, "query_tower")


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_in_mixed_precision_vectors_are_float32_and_about_the_same(policy):
    inputs = {
        "user_id": tf.constant([2, 3, 1]),
        "age": tf.constant([0.5, 1.0, -1.0]),
        "genres": tf.constant([[2, 1], [0, 0], [2, 0]]),
        "history": tf.constant([[2, 3, 3], [0, 0, 0], [1, 0, 2]]),
        "style": tf.constant([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]),
        "title": tf.constant([[1, 2], [3, 0], [0, 0]]),
    }

    def build() -> Tower:
        tf.keras.utils.set_random_seed(0)
        items = user_id()
        layers = [
            user_id(),
            age(),
            genres(),
            build_feature(HistoryFeature(kind="history"), FeatureStatistics(), 4, items),
            build_feature(VectorFeature(kind="vector", column="style"), STYLE, 4),
            build_feature(TextFeature(kind="text", column="title"), FeatureStatistics(), 4),
        ]
        model = tower(*layers, hidden=[8], layer_norm=True, dropout=0.5)
        model(inputs)
        return model

    plain = build()
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        mixed = build()
        vectors = mixed(inputs)
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(mixed(inputs, training=True) ** 3)
        gradients = tape.gradient(loss, mixed.trainable_variables)
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert vectors.dtype == tf.float32
    assert mixed._hidden[0]._dense.compute_dtype == policy.removeprefix("mixed_")
    np.testing.assert_allclose(vectors, plain(inputs), atol=0.03)
    for variable, gradient in zip(mixed.trainable_variables, gradients, strict=True):
        assert variable.dtype == gradient.dtype == tf.float32
        assert np.isfinite(tf.convert_to_tensor(gradient)).all()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_dropout_of_ids_is_what_gives_an_unseen_item_the_vector_of_its_genre(dropout):
    """Items 2 to 11 belong at 1 if they are of genre 2, and at -1 if of genre 3. Without dropout
    their ids have learned a good half of it, which an unseen item then lacks."""
    tf.keras.utils.set_random_seed(0)
    ids = IdFeature(kind="id", column="item_id", dropout=dropout)
    items = build_feature(ids, FeatureStatistics(vocabulary=list("abcdefghij")), 4)
    model = tower(items, genres("war", "drama"), dim=1, unit_norm=False)
    inputs = {"item_id": tf.range(2, 12), "genres": tf.constant([[2], [3]] * 5)}
    wanted = tf.constant([[1.0], [-1.0]] * 5)
    model(inputs)
    optimizer = tf.keras.optimizers.Adam(0.05)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step() -> None:
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(inputs, training=True) - wanted) ** 2)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    for _ in range(200):
        step()
    unseen = model({"item_id": tf.constant([1, 1]), "genres": tf.constant([[2], [3]])}).numpy()
    error = abs(unseen[:, 0] - [1, -1]).max()
    assert error < 0.05 if dropout else error > 0.3
