"""Files of examples as Arrow batches, by TensorFlow's parser.

It is two to three times as fast as tfx_bsl's decoder, but has to be told which features there are.
In a file that `build_examples` wrote, which its checksum says, all examples have the same ones: the
first tells them all.
"""

from __future__ import annotations

import functools
import hashlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import tensorflow as tf
from tfx_bsl.coders import example_coder

from fairness_losses.errors import InvalidInputError
from pipelines.examples.checks import PARTS
from pipelines.readers.chunks import open_file
from towers.examples import example_shards

_RECORDS = 65_536
_BLOCK_BYTES = 16 << 20
_AGAIN = "Run `fairtowers examples --force`."

Shard = tuple[str, str, str]
"""The part that a file is of, its path, and the SHA-256 of its bytes, hexadecimal."""

_Features = tuple[tuple[str, tf.DType], ...]


def shards(examples_dir: pathlib.Path) -> list[Shard]:
    """Returns all files of all parts.

    Raises:
        InvalidInputError: One is missing, or is not in `shards.json`.
    """
    listed = examples_dir / "shards.json"
    if not listed.is_file():
        raise InvalidInputError(f"{listed} is missing. {_AGAIN}")
    known = json.loads(listed.read_text(encoding="utf-8"))
    paths = [(part, path) for part in PARTS for path in example_shards(examples_dir, part)]
    strange = [path for _, path in paths if path.name not in known]
    if strange:
        raise InvalidInputError(f"{strange[0]} is not in {listed.name}. {_AGAIN}")
    return [(part, str(path), known[path.name]["sha256"]) for part, path in paths]


def read_shard(path: str, sha256: str, max_rows: int | None = None) -> Iterator[pa.RecordBatch]:
    """Yields the examples of a file, 65,536 at a time; features are lists, null if without values.

    Args:
        path: The file.
        sha256: Of its bytes.
        max_rows: Only the first so many.

    Raises:
        InvalidInputError: It is not the file that was written.
    """
    if _checksum(path) != sha256:
        raise InvalidInputError(f"{path}: the file is damaged, or was not written here. {_AGAIN}")
    records = tf.data.TFRecordDataset(path, "GZIP", buffer_size=8 << 20)
    if max_rows is not None:
        records = records.take(max_rows)
    parse = None
    for batch in records.batch(_RECORDS):
        parse = parse or _parser(_features_of(batch[0].numpy()))
        columns = {
            name: _as_lists(values.numpy(), splits.numpy())
            for name, (values, splits) in parse(batch).items()
        }
        yield pa.RecordBatch.from_pydict(columns)


def _checksum(path: str) -> str:
    digest = hashlib.sha256()
    with open_file(path) as file:
        for block in iter(functools.partial(file.read, _BLOCK_BYTES), b""):
            digest.update(block)
    return digest.hexdigest()


def _features_of(example: bytes) -> _Features:
    """Names and types of the features of an example."""
    schema = example_coder.ExamplesToRecordBatchDecoder().DecodeBatch([example]).schema
    kinds = {pa.float32(): tf.float32, pa.int64(): tf.int64, pa.large_binary(): tf.string}
    return tuple((field.name, kinds[field.type.value_type]) for field in schema)


@functools.lru_cache
def _parser(features: _Features) -> Any:
    """A function from serialized examples to values and row splits of each feature."""
    spec = {name: tf.io.RaggedFeature(kind, row_splits_dtype=tf.int64) for name, kind in features}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
    def parse(records: tf.Tensor) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
        parsed = tf.io.parse_example(records, spec)
        return {name: (each.values, each.row_splits) for name, each in parsed.items()}

    return parse


def _as_lists(values: np.ndarray, splits: np.ndarray) -> pa.Array:
    missing = np.append(splits[1:] == splits[:-1], False)
    kind = pa.large_binary() if values.dtype == object else None
    return pa.LargeListArray.from_arrays(pa.array(splits, mask=missing), pa.array(values, kind))
