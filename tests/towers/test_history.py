"""A history: the items that a user chose, pooled, with the candidate tower's embeddings."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from small_examples import write_examples

from fairness_losses.errors import InvalidInputError
from towers import catalogue
from towers.catalogue import build_features, read_catalogue, read_users
from towers.config import FeaturesConfig, HistoryFeature, IdFeature, TowersConfig
from towers.exported_tower import ExportedTower
from towers.features import FeatureStatistics, HistoryLayer, IdLayer, build_feature, item_ids
from towers.tower import ServedTower, Tower

ITEMS = IdFeature(kind="id", column="item_id")
EMBEDDINGS = np.array([[9, 9], [5, 7], [1, 2], [3, 6], [-4, 8]], np.float32)
"""Of padding, unseen items, and the items a, b and c."""


def item_layer(feature: IdFeature = ITEMS) -> IdLayer:
    items = build_feature(feature, FeatureStatistics(vocabulary=["a", "b", "c"]), 2)
    if not feature.bins:
        items.embedding.set_weights([EMBEDDINGS])
    return items


def history(items: IdLayer | None = None, **settings) -> HistoryLayer:
    feature = HistoryFeature(kind="history", **settings)
    statistics = FeatureStatistics(vocabulary=["a", "b", "c"])
    return build_feature(feature, statistics, 2, items or item_layer())


def test_items_have_the_numbers_that_the_candidate_tower_gives_them():
    items = item_layer()
    looked_up = history(items).lookup(tf.constant([["c", "a", ""], ["stranger", "", ""]]))
    assert looked_up.dtype == tf.int32
    np.testing.assert_array_equal(looked_up, [[4, 2, 0], [1, 0, 0]])
    np.testing.assert_array_equal(items.lookup(tf.constant(["c", "a", "stranger"])), [4, 2, 1])


def test_hashed_items_have_the_same_numbers_too():
    items = item_layer(IdFeature(kind="id", column="item_id", bins=1000))
    names = tf.constant(["c", "a", "stranger"])
    for shared in (True, False):
        layer = history(items, share_embedding=shared)
        np.testing.assert_array_equal(layer.lookup(names[None])[0], items.lookup(names))


CHOSEN = tf.constant([[2, 3, 0, 0], [4, 0, 0, 0], [2, 3, 4, 1], [0, 0, 0, 0], [3, 3, 0, 2]])


def test_the_mean_of_the_items():
    """Of a and b (1 + 3) / 2, (2 + 6) / 2; of a, b, c and an unseen one 5 / 4, 23 / 4; of b, b
    and a, whatever lies between them, 7 / 3, 14 / 3."""
    expected = [[2, 4], [-4, 8], [1.25, 5.75], [0, 0], [7 / 3, 14 / 3]]
    np.testing.assert_allclose(history()(CHOSEN), expected, rtol=1e-6)


def test_the_sum_by_the_square_root_of_the_number():
    """4, 8 by the root of 2; alone -4, 8; 5, 23 by the root of 4; 7, 14 by the root of 3."""
    expected = [[8**0.5, 32**0.5], [-4, 8], [2.5, 11.5], [0, 0], [7 / 3**0.5, 14 / 3**0.5]]
    np.testing.assert_allclose(history(pooling="sqrt")(CHOSEN), expected, rtol=1e-6)


def test_the_gradient_reaches_the_items_in_their_share():
    """Sum of all means: a is in three histories, of 2, 4 and 3 items: 1/2 + 1/4 + 1/3."""
    layer = history()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(layer(CHOSEN))
    gradient = tf.convert_to_tensor(tape.gradient(total, layer.embedding.embeddings))
    shares = [0, 1 / 4, 1 / 2 + 1 / 4 + 1 / 3, 1 / 2 + 1 / 4 + 2 / 3, 1 + 1 / 4]
    np.testing.assert_allclose(gradient, np.stack([shares, shares], 1), rtol=1e-6)


def test_gradients_agree_with_finite_differences():
    layer = history(pooling="sqrt")
    table = layer.embedding.embeddings

    def pooled(values):
        table.assign(values)
        return layer(CHOSEN).numpy()

    start = table.numpy()
    with tf.GradientTape() as tape:
        out = layer(CHOSEN)
        target = tf.reduce_sum(out * tf.range(10.0)[:, None][:5])
    gradient = tf.convert_to_tensor(tape.gradient(target, table)).numpy()
    for row, column in [(1, 0), (2, 1), (4, 0)]:
        step = np.zeros_like(start)
        step[row, column] = 1e-2
        change = (pooled(start + step) - pooled(start - step)) / 2e-2
        expected = (change * np.arange(5)[:, None]).sum()
        np.testing.assert_allclose(gradient[row, column], expected, rtol=1e-3)


def test_a_history_does_not_depend_on_its_order_nor_on_its_padding():
    layer = history()
    np.testing.assert_allclose(
        layer(tf.constant([[4, 0, 2, 0, 0]])), layer(tf.constant([[2, 4]])), rtol=1e-6
    )


def test_a_batch_without_rows_or_without_items_is_zeros():
    assert history()(tf.zeros([0, 3], tf.int32)).shape == (0, 2)
    np.testing.assert_array_equal(history()(tf.zeros([2, 0], tf.int32)), np.zeros([2, 2]))


def test_dropout_leaves_items_out_and_scales_the_others():
    """Half of the a's of 1, 2: each history is (0 or 2) times its embedding, on average once."""
    tf.keras.utils.set_random_seed(1)
    layer = history(dropout=0.5)
    alone = tf.fill([4000, 1], 2)
    vectors = layer(alone, training=True).numpy()
    factors = vectors[:, 0]
    np.testing.assert_allclose(vectors, np.outer(factors, [1, 2]))
    assert set(np.unique(factors)) == {0, 2}
    assert factors.mean() == pytest.approx(1, abs=0.1)
    np.testing.assert_array_equal(layer(alone), np.tile([[1.0, 2.0]], [4000, 1]))


def test_what_is_left_out_still_counts_in_the_mean():
    """Four a's of 1, 2 with dropout 1/2: kept * 2 / 4 times the embedding, kept from 0 to 4."""
    tf.keras.utils.set_random_seed(1)
    factors = history(dropout=0.5)(tf.fill([1000, 4], 2), training=True).numpy()[:, 0]
    assert set(np.unique(factors)) == {0, 0.5, 1, 1.5, 2}


def test_shared_embeddings_are_one_variable_and_own_ones_another():
    items = item_layer()
    assert history(items).embedding is items.embedding
    own = history(items, share_embedding=False)
    assert own.embedding is not items.embedding
    assert own.embedding.embeddings.shape == (5, 2)


def test_sharing_with_nothing_is_refused():
    feature = HistoryFeature(kind="history")
    with pytest.raises(InvalidInputError, match="was built without them"):
        build_feature(feature, FeatureStatistics(), 2)


def test_without_item_ids_in_the_candidate_tower_a_history_numbers_them_itself():
    feature = HistoryFeature(kind="history", share_embedding=False)
    layer = build_feature(feature, FeatureStatistics(vocabulary=["a"]), 2)
    np.testing.assert_array_equal(layer.lookup(tf.constant([["a", "b", ""]])), [[2, 1, 0]])
    assert item_ids([layer]) is None


FEATURES = FeaturesConfig.model_validate({"query": [{"kind": "history", "pooling": "sqrt"}]})
PAIRS = [("u1", "a"), ("u1", "b"), ("u2", "c")]


@pytest.fixture
def examples_dir(tmp_path):
    users = {"user_id": ["u1", "u2", "u3"], "history": [["a", "b"], ["c"], []]}
    items = {"item_id": ["a", "b", "c"], "group": ["x", "x", "y"]}
    return write_examples(tmp_path / "examples", users, items, {"train": PAIRS})


def both_sides(folder, features: FeaturesConfig = FEATURES):
    vocabularies = folder / "vocabularies"
    candidate = build_features(features.candidate, folder / "catalogue.parquet", vocabularies, 4)
    query = build_features(features.query, folder / "users.parquet", vocabularies, 4, candidate)
    return query, candidate


@pytest.mark.parametrize("batch", [1, 65_536])
def test_users_have_their_history_looked_up_and_padded(examples_dir, batch, monkeypatch):
    monkeypatch.setattr(catalogue, "_LOOKUP_BATCH", batch)
    query, candidate = both_sides(examples_dir)
    users = read_users(examples_dir, query)
    np.testing.assert_array_equal(users.columns["history"], [[2, 3], [4, 0], [0, 0]])
    items = read_catalogue(examples_dir, candidate)
    np.testing.assert_array_equal(items.columns["item_id"], [2, 3, 4])


def test_both_towers_train_one_table(examples_dir):
    query, candidate = both_sides(examples_dir)
    towers = [
        Tower(layers, TowersConfig(dim=4), f"{side}_tower")
        for layers, side in ((query, "query"), (candidate, "candidate"))
    ]
    (shared,) = towers[0].trainable_variables
    assert shared is towers[1].trainable_variables[0]
    with tf.GradientTape() as tape:
        vectors = towers[0]({"history": tf.constant([[2, 3]])})
        score = tf.reduce_sum(vectors * towers[1]({"item_id": tf.constant([4])}))
    gradient = tf.convert_to_tensor(tape.gradient(score, shared)).numpy()
    assert gradient.any(axis=1).tolist() == [False, False, True, True, True]


def test_an_exported_query_tower_takes_histories_as_strings(examples_dir, tmp_path):
    query, _ = both_sides(examples_dir)
    tower = Tower(query, TowersConfig(dim=4), "query_tower")
    ServedTower(tower).save(str(tmp_path / "tower"))
    loaded = tf.saved_model.load(str(tmp_path / "tower")).signatures["serving_default"]
    spec = loaded.structured_input_signature[1]
    assert spec == {"history": tf.TensorSpec([None, None], tf.string, "history")}

    users = pq.read_table(examples_dir / "users.parquet")
    exported = ExportedTower(tmp_path / "tower")
    assert exported.raw(users)["history"].tolist() == [["a", "b"], ["c", ""], ["", ""]]
    vectors = exported.embed(users)
    np.testing.assert_allclose(vectors, tower(read_users(examples_dir, query).columns), atol=1e-6)
    np.testing.assert_array_equal(vectors[2], np.zeros(4))
    nobody = pa.table({"history": pa.array([[]], pa.list_(pa.string()))})
    np.testing.assert_array_equal(exported.embed(nobody), np.zeros([1, 4]))


def test_own_embeddings_are_built_from_the_tables_alone(examples_dir):
    """The candidate tower does not see ids, but the vocabulary of items is there."""
    features = FeaturesConfig.model_validate(
        {
            "query": [{"kind": "history", "share_embedding": False}],
            "candidate": [{"kind": "categorical", "column": "group"}],
        }
    )
    (layer,), _ = both_sides(examples_dir, features)
    np.testing.assert_array_equal(layer.lookup(tf.constant([["b", "z"]])), [[3, 1]])
