"""TFRecord files, framed and compressed a batch at a time, complete if they are there."""

from __future__ import annotations

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable
from typing import BinaryIO

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from isal import igzip

from pipelines.file_systems import StrPath, join, whole_file

_COMPRESSION_LEVEL = 1
_MASK = 0xA282EAD8


@dataclasses.dataclass(frozen=True)
class RecordFile:
    """A file that was written.

    Attributes:
        name: Of the file.
        records: How many it holds.
        sha256: Of its bytes, hexadecimal.
    """

    name: str
    records: int
    sha256: str


def shard_path(folder: StrPath, part: str, shard: int, num_shards: int) -> str:
    """Returns the path of a shard: `folder/train-00003-of-00008.tfrecord.gz`."""
    return join(folder, f"{part}-{shard:05d}-of-{num_shards:05d}.tfrecord.gz")


def write_records(path: StrPath, batches: Iterable[pa.Array]) -> RecordFile:
    """Writes a gzipped TFRecord file, the same bytes for the same batches.

    Writing again, as a runner does that retries or runs a bundle twice, replaces the file.

    Args:
        path: The file.
        batches: Binary arrays of records.
    """
    count = 0
    with whole_file(path) as stream:
        digest = _Digest(stream)
        # Neither the name nor the time is in the file: the same records are the same bytes.
        with igzip.IGzipFile("", "wb", _COMPRESSION_LEVEL, digest, mtime=0) as file:
            for batch in batches:
                file.write(framed(batch))
                count += len(batch)
    return RecordFile(pathlib.PurePath(path).name, count, digest.sha256.hexdigest())


def framed(records: pa.Array) -> memoryview:
    """Returns records as they stand in a TFRecord file.

    Each is its length, little-endian in 8 bytes, a checksum of these, the record, and its checksum.
    Source: TensorFlow, `core/lib/io/record_writer.h`.

    Args:
        records: Binary `[num_records]`.
    """
    if not len(records):
        return memoryview(b"")
    lengths = pc.binary_length(records)
    distinct = pc.unique(lengths)
    of_lengths = [google_crc32c.value(n.to_bytes(8, "little")) for n in distinct.to_pylist()]
    heads = np.empty(len(records), [("length", "<u8"), ("checksum", "<u4")])
    heads["length"] = lengths.to_numpy()
    heads["checksum"] = _masked(of_lengths)[pc.index_in(lengths, distinct).to_numpy()]
    contents = records.to_numpy(zero_copy_only=False)
    tails = _masked([google_crc32c.value(record) for record in contents])
    whole = pc.binary_join_element_wise(_binary(heads), records, _binary(tails), b"")
    return memoryview(whole.buffers()[2])[: pc.sum(pc.binary_length(whole)).as_py()]


class _Digest:
    """A file that knows the SHA-256 of what has been written to it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()


def _masked(checksums: list[int]) -> np.ndarray:
    """Checksums of data that may themselves hold checksums, little-endian `[num_checksums]`."""
    crc = np.array(checksums, np.uint32)
    return ((crc >> np.uint32(15) | crc << np.uint32(17)) + np.uint32(_MASK)).astype("<u4")


def _binary(values: np.ndarray) -> pa.Array:
    """The bytes of every value, binary `[num_values]`."""
    kind = pa.binary(values.dtype.itemsize)
    fixed = pa.Array.from_buffers(kind, len(values), [None, pa.py_buffer(values.tobytes())])
    return fixed.cast(pa.binary())
