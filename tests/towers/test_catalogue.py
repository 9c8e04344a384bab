"""The tables of users and items, as the model and the exported tower take them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from small_examples import write_examples

from fairness_losses.errors import InvalidInputError
from towers import catalogue
from towers.catalogue import (
    EntityTable,
    build_features,
    raw_column,
    raw_columns,
    read_catalogue,
    read_users,
)
from towers.config import FeaturesConfig

STRINGS = tf.TensorSpec([None], tf.string)
BAGS = tf.TensorSpec([None, None], tf.string)
NUMBERS = tf.TensorSpec([None], tf.float32)
VECTORS = tf.TensorSpec([None, 2], tf.float32)

ITEMS = {
    "item_id": ["i,1", "i 2", "ï\n3"],
    "group": ["a", "b", "unknown"],
    "genres": [["drama", "war"], ["war"], [""]],
    "year": [1990.0, 2000.0, 2010.0],
    "title": ["Of War", "Peace", ""],
    "style": [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]],
}
USERS = {
    "user_id": ["u1", "u2", "u3"],
    "country": ["NO", "SE", ""],
    "slice.gender": ["F", "unknown", "M"],
}
PAIRS = [("u1", "i,1"), ("u2", "i,1"), ("u2", "ï\n3")]
FEATURES = FeaturesConfig.model_validate(
    {
        "query": [
            {"kind": "id", "column": "user_id"},
            {"kind": "categorical", "column": "country"},
        ],
        "candidate": [
            {"kind": "id", "column": "item_id"},
            {"kind": "categorical", "column": "genres"},
            {"kind": "numeric", "column": "year"},
            {"kind": "text", "column": "title"},
            {"kind": "vector", "column": "style"},
        ],
    }
)


@pytest.fixture
def examples_dir(tmp_path):
    return write_examples(tmp_path / "examples", USERS, ITEMS, {"train": PAIRS})


def candidate_layers(folder):
    tables = folder / "catalogue.parquet"
    return build_features(FEATURES.candidate, tables, folder / "vocabularies", dim=4)


class TestRawColumn:
    def test_strings_stay_a_column(self):
        raw = raw_column(pa.chunked_array([["a", "b"], ["c"]]), STRINGS)
        assert raw.tolist() == ["a", "b", "c"]

    def test_numbers_become_float32(self):
        raw = raw_column(pa.chunked_array([[1, 2, 3]]), NUMBERS)
        assert raw.dtype == np.float32
        assert raw.tolist() == [1, 2, 3]

    def test_lists_of_categories_are_padded_with_empty_strings(self):
        raw = raw_column(pa.chunked_array([[["a", "b"], ["c"]], [[]]]), BAGS)
        assert raw.tolist() == [["a", "b"], ["c", ""], ["", ""]]

    def test_a_slice_of_a_column_of_lists_is_that_slice(self):
        lists = pa.chunked_array([pa.array([["x"], ["a", "b"], ["c"]]).slice(1)])
        assert raw_column(lists, BAGS).tolist() == [["a", "b"], ["c", ""]]

    def test_lists_without_any_value_still_have_a_column(self):
        lists = pa.chunked_array([pa.array([[], []], pa.list_(pa.string()))])
        assert raw_column(lists, BAGS).tolist() == [[""], [""]]

    def test_a_single_category_is_a_list_of_one(self):
        raw = raw_column(pa.chunked_array([["a", "b"]]), BAGS)
        assert raw.tolist() == [["a"], ["b"]]

    @pytest.mark.parametrize("kind", [pa.list_(pa.float64()), pa.list_(pa.float32(), 2)])
    def test_vectors_become_a_matrix(self, kind):
        raw = raw_column(pa.chunked_array([pa.array([[1.0, 2.0], [3.0, 4.0]], kind)]), VECTORS)
        assert raw.dtype == np.float32
        assert raw.tolist() == [[1, 2], [3, 4]]

    def test_a_column_without_rows_is_a_matrix_without_rows(self):
        empty = pa.chunked_array([pa.array([], pa.list_(pa.float32()))])
        assert raw_column(empty, VECTORS).shape == (0, 2)


def test_features_of_every_kind_are_looked_up_once(examples_dir):
    """Years have mean 2000 and variance 200 / 3; `drama` and `war` occur twice each in training."""
    items = read_catalogue(examples_dir, candidate_layers(examples_dir))
    np.testing.assert_array_equal(items.columns["item_id"], [2, 1, 3])
    np.testing.assert_array_equal(items.columns["genres"], [[2, 3], [3, 0], [0, 0]])
    np.testing.assert_allclose(items.columns["year"], [-(1.5**0.5), 0, 1.5**0.5], rtol=1e-6)
    assert items.columns["title"].shape == (3, 16)
    np.testing.assert_array_equal(items.columns["style"], ITEMS["style"])


def test_the_catalogue_keeps_its_order_groups_and_frequencies(examples_dir):
    items = read_catalogue(examples_dir, [])
    assert items.ids.tolist() == ["i,1", "i 2", "ï\n3"]
    assert items.frequency.tolist() == [2, 0, 1]
    assert items.groups.labels == ("a", "b", "unknown")
    assert items.columns == {}
    assert len(items) == 3


def test_users_have_slices_that_are_no_features(examples_dir):
    layers = build_features(
        FEATURES.query, examples_dir / "users.parquet", examples_dir / "vocabularies", dim=4
    )
    users = read_users(examples_dir, layers)
    assert sorted(users.columns) == ["country", "user_id"]
    np.testing.assert_array_equal(users.columns["country"], [[3], [2], [0]])
    assert {name: labels.tolist() for name, labels in users.labels.items()} == {
        "gender": ["F", "unknown", "M"]
    }


def test_looking_up_in_parts_is_looking_up_at_once(examples_dir, monkeypatch):
    layers = candidate_layers(examples_dir)
    at_once = read_catalogue(examples_dir, layers).columns
    monkeypatch.setattr(catalogue, "_LOOKUP_BATCH", 2)
    in_parts = read_catalogue(examples_dir, layers).columns
    for name, column in at_once.items():
        np.testing.assert_array_equal(in_parts[name], column)


def test_raw_columns_are_those_of_the_features(examples_dir):
    layers = candidate_layers(examples_dir)
    raw = raw_columns(pq.read_table(examples_dir / "catalogue.parquet"), layers)
    assert sorted(raw) == ["genres", "item_id", "style", "title", "year"]
    assert raw["genres"].tolist() == [["drama", "war"], ["war", ""], ["", ""]]


def test_a_constant_number_in_float32_is_known_to_be_constant(tmp_path):
    """In float32 the mean of 3,706 times 1,000,000.3 is off by 0.06, which is then its scale."""
    pq.write_table(pa.table({"n": np.full(3706, 1e6 + 0.3, np.float32)}), tmp_path / "t.parquet")
    config = FeaturesConfig.model_validate({"query": [{"kind": "numeric", "column": "n"}]})
    (layer,) = build_features(config.query, tmp_path / "t.parquet", tmp_path, dim=4)
    np.testing.assert_allclose(layer.lookup(tf.constant([1e6 + 0.3])), [0.0])


def test_rows_of_ids():
    table = EntityTable(ids=np.array(["a", "b", "c"], object), columns={}, labels={})
    rows = table.rows_of(np.array(["c", "a", "c"], object))
    assert rows.dtype == np.int32
    assert rows.tolist() == [2, 0, 2]


def test_an_id_that_is_in_no_table_means_damaged_examples():
    table = EntityTable(ids=np.array(["a"], object), columns={}, labels={})
    with pytest.raises(InvalidInputError, match=r"'z, 9'.*damaged.*--force"):
        table.rows_of(np.array(["a", "z, 9"], object))
