"""TFRecord files of `tf.train.Example`, plain or gzipped."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairness_losses.errors import InvalidInputError
from pipelines.readers.chunks import (
    Block,
    Chunk,
    is_gzipped,
    open_file,
    unzipped,
    whole_file,
    with_origin,
)

_RECORDS = 65_536
_DECODED = 512
"""Records decoded at once: the memory of more does not fit the processor's cache, and decoding them
takes twice as long."""
_FRAME = 16
"""Bytes around a record: its length, and checksums of both."""
_BLOCK_BYTES = 16 << 20


class TFRecord:
    """Features of one value in every record of a batch are scalars, others are lists.

    A feature that an example does not have is null there. Bytes are UTF-8.
    """

    endings = r"\.tfrecords?(-\d+-of-\d+)?(\.gz)?"
    has_schema = False

    def column_names(self, path: str) -> list[str]:
        """Returns the features of the first 65,536 examples."""
        first = next(record_batches(path), None)
        return [] if first is None else list(first.schema.names)

    def chunks(self, path: str, file: int) -> list[Chunk]:
        """See `chunks.Format`."""
        return whole_file(path, file, bytes_per_row=16 if is_gzipped(path) else 64)

    def read(self, chunk: Chunk, columns: list[str]) -> Iterator[Block]:
        """See `chunks.Format`."""
        first_row = 1
        for batch in record_batches(chunk.path):
            names = batch.schema.names
            nulls = pa.nulls(batch.num_rows)
            table = pa.table({c: _plain(batch[c]) if c in names else nulls for c in columns})
            rows = first_row + np.arange(len(table))
            first_row += len(table)
            yield Block(with_origin(table, chunk.file, rows), names=frozenset(names))


def record_batches(path: str) -> Iterator[pa.RecordBatch]:
    """Yields the examples of a file, 65,536 at a time; features are lists, null where absent.

    Args:
        path: The file, plain or gzipped.

    Raises:
        InvalidInputError: The file is damaged, or holds something else.
    """
    # Only this format needs TensorFlow, which takes seconds to load.
    import tensorflow as tf
    from tfx_bsl.coders import example_coder

    decoder = example_coder.ExamplesToRecordBatchDecoder()
    compression = "GZIP" if is_gzipped(path) else ""
    records = tf.data.TFRecordDataset(path, compression, buffer_size=8 << 20).batch(_DECODED)
    per_batch = -(-_RECORDS // _DECODED)
    portions = records.prefetch(per_batch).as_numpy_iterator()
    size = 0
    try:
        while found := list(itertools.islice(portions, per_batch)):
            size += sum(sum(map(len, portion)) + _FRAME * len(portion) for portion in found)
            tables = [pa.Table.from_batches([decoder.DecodeBatch(portion)]) for portion in found]
            yield pa.concat_tables(tables, promote=True).combine_chunks().to_batches()[0]
    except (tf.errors.OpError, RuntimeError, pa.ArrowInvalid) as error:
        raise InvalidInputError(
            f"{path}: the file is damaged, cut short, holds other records than "
            f"`tf.train.Example`, or a feature of several types; write it again ({error})."
        ) from error
    # TensorFlow takes a file that ends within the length of a record for one that ends before it.
    if size != (whole := _size(path)):
        raise InvalidInputError(
            f"{path}: the file is damaged, cut short: of {whole:,} bytes {size:,} are whole "
            "records. Fetch or write it again."
        )


def _size(path: str) -> int:
    """Bytes of a file, those that it has when it is no longer compressed."""
    with open_file(path) as stream:
        raw = unzipped(path, stream)
        return sum(map(len, iter(functools.partial(raw.read, _BLOCK_BYTES), b"")))


def _plain(column: pa.Array) -> pa.Array:
    """Bytes as strings, and lists of one value as that value."""
    if pa.types.is_null(column.type):
        return column
    if pa.types.is_binary(column.type.value_type) or pa.types.is_large_binary(
        column.type.value_type
    ):
        column = column.cast(pa.list_(pa.string()))
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    if (lengths > 1).any():
        return column
    place = np.cumsum(lengths) - 1
    return column.flatten().take(pa.array(place, mask=lengths == 0))
