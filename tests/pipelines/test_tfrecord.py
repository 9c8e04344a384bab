"""Logs and tables in files of `tf.train.Example`."""

import pyarrow as pa
import pytest
import tensorflow as tf

from fairness_losses.errors import InvalidInputError
from pipelines.examples.tf_examples import encode_examples
from pipelines.readers import tfrecord
from pipelines.readers.chunks import FILE, ROW
from pipelines.readers.files import check_columns, column_names, find_files, plan_chunks, read_chunk


def write(path, records: list[bytes]):
    options = tf.io.TFRecordOptions("GZIP" if path.suffix == ".gz" else "")
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for record in records:
            writer.write(record)
    return path


def table(**columns):
    return encode_examples(pa.table(columns)).to_pylist()


def read(pattern, columns):
    chunks = plan_chunks(find_files(str(pattern), "data.path"))
    blocks = [b for c in chunks for b in read_chunk(c, columns)]
    assert not any(len(b.unreadable) for b in blocks)
    return [row for b in blocks for row in b.table.to_pylist()]


@pytest.mark.parametrize("name", ["t.tfrecord", "t.tfrecord.gz", "t.tfrecord-00000-of-00001"])
def test_scalars_lists_and_strings(tmp_path, name):
    path = write(
        tmp_path / name,
        table(
            id=["a", "é"],
            n=[7, 8],
            x=pa.array([0.5, 1.5], pa.float32()),
            l=[["u"], ["v", "w"]],
            v=pa.array([[1.0, 2.0]] * 2, pa.list_(pa.float32())),
        ),
    )
    assert read(path, ["l", "id", "n", "x", "v"]) == [
        {"l": ["u"], "id": "a", "n": 7, "x": 0.5, "v": [1.0, 2.0], FILE: 0, ROW: 1},
        {"l": ["v", "w"], "id": "é", "n": 8, "x": 1.5, "v": [1.0, 2.0], FILE: 0, ROW: 2},
    ]


def test_a_feature_that_an_example_does_not_have_is_null(tmp_path):
    path = write(tmp_path / "t.tfrecord", table(id=["a"]) + table(x=[1]) + table(id=["b"], x=[2]))
    found = [(r["id"], r["x"], r["y"]) for r in read(path, ["id", "x", "y"])]
    assert found == [("a", None, None), (None, 1, None), ("b", 2, None)]


def test_rows_are_numbered_over_all_batches(tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecord, "_DECODED", 1)
    monkeypatch.setattr(tfrecord, "_RECORDS", 2)
    write(tmp_path / "a.tfrecord", table(id=[1, 2, 3, 4, 5]))
    write(tmp_path / "b.tfrecord", table(id=[6]))
    found = [(r["id"], r[FILE], r[ROW]) for r in read(tmp_path / "*.tfrecord", ["id"])]
    assert found == [(1, 0, 1), (2, 0, 2), (3, 0, 3), (4, 0, 4), (5, 0, 5), (6, 1, 1)]


def test_columns_are_the_features(tmp_path):
    path = write(tmp_path / "t.tfrecord", table(b=[1]) + table(a=[2]))
    assert sorted(column_names(str(path))) == ["a", "b"]
    with pytest.raises(InvalidInputError, match="no column `c`"):
        check_columns([str(path)], {"c": "data.users.id"})


def test_features_that_only_a_late_example_has_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(tfrecord, "_DECODED", 1)
    monkeypatch.setattr(tfrecord, "_RECORDS", 1)
    path = write(tmp_path / "t.tfrecord", table(a=[1]) + table(a=[2], b=[3]))
    assert column_names(str(path)) == ["a"]
    (chunk,) = plan_chunks([str(path)])
    assert [b.names for b in read_chunk(chunk, ["a"])] == [{"a"}, {"a", "b"}]


def test_a_file_without_records_is_refused(tmp_path):
    write(tmp_path / "t.tfrecord", [])
    with pytest.raises(InvalidInputError, match="the file is empty"):
        check_columns([str(tmp_path / "t.tfrecord")], {})


@pytest.mark.parametrize("cut", [1, 7, 15, 24, 500])
@pytest.mark.parametrize("name", ["t.tfrecord", "t.tfrecord.gz"])
def test_a_file_that_is_cut_short_is_refused_wherever_it_is_cut(tmp_path, name, cut):
    path = write(tmp_path / name, table(id=list(range(1000))))
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InvalidInputError, match=rf"{name}: the file is damaged"):
        read(path, ["id"])


def test_records_of_something_else_are_refused(tmp_path):
    path = write(tmp_path / "t.tfrecord", [b"\xff\xff no example"])
    with pytest.raises(InvalidInputError, match="holds other records"):
        read(path, ["id"])


def test_bytes_that_are_not_utf8_are_refused(tmp_path):
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"\xff"]))
    example = tf.train.Example(features=tf.train.Features(feature={"id": feature}))
    path = write(tmp_path / "t.tfrecord", [example.SerializeToString()])
    with pytest.raises(InvalidInputError, match="not UTF-8"):
        read(path, ["id"])
