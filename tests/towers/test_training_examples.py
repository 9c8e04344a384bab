"""Examples from TFRecord shards into memory."""

import numpy as np
import pytest
import tensorflow as tf
from small_examples import write_examples

from fairness_losses.errors import InvalidInputError
from towers import examples
from towers.catalogue import build_features, read_catalogue, read_users
from towers.config import FeaturesConfig
from towers.examples import example_shards, read_examples, read_pairs

USERS = {
    "user_id": ["u,1", "u\n2", "ü 3"],
    "likes": [["jazz"], ["rock", "jazz", "pop"], [""]],
    "age": [20.0, 30.0, 40.0],
    "about": ["likes jazz", "", "a b c"],
    "taste": [[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]],
}
ITEMS = {"item_id": ["i1", "i2"], "group": ["a", "unknown"]}
PAIRS = [("u,1", "i2"), ("u\n2", "i1"), ("ü 3", "i2"), ("u,1", "i1"), ("u\n2", "i2")]
FEATURES = FeaturesConfig.model_validate(
    {
        "query": [
            {"kind": "id", "column": "user_id"},
            {"kind": "categorical", "column": "likes"},
            {"kind": "numeric", "column": "age"},
            {"kind": "text", "column": "about", "max_words": 2},
            {"kind": "vector", "column": "taste"},
        ]
    }
)


@pytest.fixture
def examples_dir(tmp_path):
    folder = tmp_path / "examples"
    return write_examples(folder, USERS, ITEMS, {"train": PAIRS}, num_shards=2)


def read(folder, part: str = "train") -> examples.Examples:
    vocabularies = folder / "vocabularies"
    layers = build_features(FEATURES.query, folder / "users.parquet", vocabularies, dim=4)
    return read_examples(folder, part, layers, read_catalogue(folder, []))


def test_examples_come_in_the_order_of_their_shards(examples_dir):
    """Shard 0 has the examples 0, 2 and 4, shard 1 the others."""
    train = read(examples_dir)
    assert train.users.tolist() == ["u,1", "ü 3", "u\n2", "u\n2", "u,1"]
    assert train.candidates.tolist() == [1, 1, 1, 0, 0]
    assert train.candidates.dtype == np.int32
    assert len(train) == 5


def test_features_are_looked_up(examples_dir):
    """Users 1 and 2 have two examples each: jazz 4, pop 2, rock 2, and the empty string once."""
    query = read(examples_dir).query
    np.testing.assert_array_equal(query["user_id"], [3, 4, 2, 2, 3])
    np.testing.assert_array_equal(
        query["likes"], [[2, 0, 0], [0, 0, 0], [4, 2, 3], [4, 2, 3], [2, 0, 0]]
    )
    np.testing.assert_allclose(query["age"], np.array([-1, 1, 0, 0, -1]) * 1.5**0.5, rtol=1e-6)
    np.testing.assert_array_equal(query["taste"], [[1, 0], [0.5, 0.5], [0, 1], [0, 1], [1, 0]])
    assert query["about"].shape == (5, 2)


def test_examples_look_up_what_the_users_table_looks_up(examples_dir):
    """Otherwise a user would have another vector in evaluation than in training."""
    layers = build_features(
        FEATURES.query, examples_dir / "users.parquet", examples_dir / "vocabularies", dim=4
    )
    users = read_users(examples_dir, layers)
    train = read(examples_dir)
    rows = users.rows_of(train.users)
    for name, column in train.query.items():
        np.testing.assert_array_equal(column, users.columns[name][rows])


@pytest.mark.parametrize("batch", [1, 2])
def test_batches_of_different_width_are_padded_to_the_widest(examples_dir, batch, monkeypatch):
    at_once = read(examples_dir).query
    monkeypatch.setattr(examples, "_PARSE_BATCH", batch)
    for name, column in read(examples_dir).query.items():
        np.testing.assert_array_equal(column, at_once[name])


def test_a_part_without_examples_is_empty(examples_dir):
    validation = read_examples(examples_dir, "validation", [], read_catalogue(examples_dir, []))
    assert len(validation) == 0
    assert validation.candidates.dtype == np.int32
    assert read_pairs(examples_dir, "validation").num_rows == 0


def test_pairs_are_read_without_any_table(examples_dir):
    (examples_dir / "catalogue.parquet").unlink()
    pairs = read_pairs(examples_dir, "train")
    assert pairs["user_id"].to_pylist() == ["u,1", "ü 3", "u\n2", "u\n2", "u,1"]
    assert pairs["item_id"].to_pylist() == ["i2", "i2", "i2", "i1", "i1"]


def test_a_missing_shard_is_counted(examples_dir):
    (examples_dir / "train-00001-of-00002.tfrecord.gz").unlink()
    with pytest.raises(InvalidInputError, match=r"1 of 2 files of train examples.*--force"):
        read(examples_dir)


def test_a_folder_without_shards_says_so(tmp_path):
    with pytest.raises(InvalidInputError, match="0 of 1 files of test examples"):
        example_shards(tmp_path, "test")


def test_shards_are_in_order(examples_dir):
    names = [path.name for path in example_shards(examples_dir, "train")]
    assert names == ["train-00000-of-00002.tfrecord.gz", "train-00001-of-00002.tfrecord.gz"]


def test_an_item_that_is_not_in_the_catalogue_is_named(examples_dir):
    items = {name: values[:1] for name, values in ITEMS.items()}
    other = write_examples(examples_dir.parent / "other", USERS, items, {"train": [("u,1", "i1")]})
    with pytest.raises(InvalidInputError, match=r"'i2'.*damaged"):
        read_examples(examples_dir, "train", [], read_catalogue(other, []))


def test_pairs_of_an_empty_part_are_strings_all_the_same(examples_dir, tmp_path):
    """A run without a validation part joins its pairs with those of the training part."""
    with tf.io.TFRecordWriter(str(tmp_path / "validation-00000-of-00001.tfrecord.gz"), "GZIP"):
        pass
    empty = read_pairs(tmp_path, "validation")
    assert empty.num_rows == 0
    assert empty.schema == read_pairs(examples_dir, "train").schema


def test_a_damaged_shard_is_refused(examples_dir, tmp_path):
    whole = next(examples_dir.glob("train-00000-*"))
    (tmp_path / "train-00000-of-00001.tfrecord.gz").write_bytes(whole.read_bytes()[:-20])
    with pytest.raises(InvalidInputError, match="examples are damaged"):
        read_pairs(tmp_path, "train")
