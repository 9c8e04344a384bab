"""Serialized examples and their files."""

import pyarrow as pa
import tensorflow as tf

from pipelines.examples.tf_examples import encode_examples, merge_examples


def _parse(record):
    return tf.train.Example.FromString(record).features.feature


def test_each_type_has_its_kind_of_feature():
    table = pa.table(
        {
            "text": ["é"],
            "whole": pa.array([7], pa.int64()),
            "number": pa.array([0.5], pa.float32()),
            "words": [["a", ""]],
            "vector": pa.array([[1, 2]], pa.list_(pa.float32())),
        }
    )
    features = _parse(encode_examples(table)[0].as_py())
    assert features["text"].bytes_list.value == ["é".encode()]
    assert features["whole"].int64_list.value == [7]
    assert features["number"].float_list.value == [0.5]
    assert features["words"].bytes_list.value == [b"a", b""]
    assert features["vector"].float_list.value == [1, 2]


def test_rows_of_filtered_tables_are_encoded():
    """Arrow slices keep an offset into the values of the whole table."""
    table = pa.table({"id": ["a", "b", "c"], "list": [["x"], ["y", "z"], ["w"]]}).slice(1, 2)
    found = [_parse(r.as_py()) for r in encode_examples(table)]
    assert [f["list"].bytes_list.value for f in found] == [[b"y", b"z"], [b"w"]]


def test_no_rows_are_no_examples():
    assert len(encode_examples(pa.table({"id": pa.array([], pa.string())}))) == 0


def test_merged_examples_have_all_features_for_every_parser():
    users = encode_examples(pa.table({"user_id": ["u1"], "x": [["a", "b"]]}))
    items = encode_examples(pa.table({"item_id": ["i1"]}))
    record = merge_examples(users, items)[0].as_py()
    assert sorted(_parse(record)) == ["item_id", "user_id", "x"]
    spec = {name: tf.io.RaggedFeature(tf.string) for name in ("user_id", "item_id", "x")}
    expected = {"user_id": [b"u1"], "item_id": [b"i1"], "x": [b"a", b"b"]}
    parsed = tf.io.parse_example([record], spec)
    assert {name: value.to_list()[0] for name, value in parsed.items()} == expected
    single = tf.io.parse_single_example(record, spec)
    assert {name: value.numpy().tolist() for name, value in single.items()} == expected


def test_encoding_gives_the_same_bytes_every_time():
    table = pa.table({name: ["x"] for name in "abcdefghij"})
    assert len({encode_examples(table)[0].as_py() for _ in range(20)}) == 1
