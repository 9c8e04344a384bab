"""TFRecord files of our own making: TensorFlow reads them, checks their checksums, and agrees."""

import hashlib
import pathlib

import pyarrow as pa
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.examples.record_files import framed, shard_path, write_records


def _read(path) -> list[bytes]:
    return [r.numpy() for r in tf.data.TFRecordDataset(str(path), "GZIP")]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=20))
def test_records_are_framed_as_by_tensorflow(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("frames") / "t.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)
    assert bytes(framed(pa.array(records, pa.binary()))) == path.read_bytes()


def test_slices_of_arrays_are_framed():
    """Arrow slices keep an offset into the bytes of the whole."""
    whole = pa.array([b"first", b"second", b"third"])
    assert bytes(framed(whole.slice(1, 1))) == bytes(framed(pa.array([b"second"])))


def test_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path):
    path = pathlib.Path(shard_path(tmp_path, "train", 3, 8))
    assert path.name == "train-00003-of-00008.tfrecord.gz"
    assert write_records(path, [pa.array([b"old"])]).records == 1
    found = write_records(path, [pa.array([b"a", b""]), pa.array([b"c"])])
    assert (found.name, found.records) == (path.name, 3)
    assert found.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert _read(path) == [b"a", b"", b"c"]
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "t.tfrecord.gz"
    write_records(path, [pa.array([b"old"])])

    def fail():
        yield pa.array([b"new"])
        raise RuntimeError("worker lost")

    with pytest.raises(RuntimeError):
        write_records(path, fail())
    assert _read(path) == [b"old"]


def test_a_file_without_records_can_be_read(tmp_path):
    path = tmp_path / "t.tfrecord.gz"
    assert write_records(path, []).records == 0
    assert _read(path) == []


def test_the_same_records_are_the_same_bytes_whenever_they_are_written(tmp_path, monkeypatch):
    batches = [pa.array([b"a" * 1000] * 50)]
    monkeypatch.setattr("time.time", lambda: 1e9)
    first = write_records(tmp_path / "a.tfrecord.gz", batches)
    monkeypatch.setattr("time.time", lambda: 2e9)
    assert write_records(tmp_path / "b.tfrecord.gz", batches).sha256 == first.sha256
