"""Arrow tables as serialized `tf.Example`s."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tfx_bsl.coders import example_coder


def encode_examples(table: pa.Table) -> pa.Array:
    """Encodes every row as a `tf.Example`; each column is a feature.

    Args:
        table: Columns of strings (bytes features), whole numbers (int64), floating-point numbers
            (float), or lists of these; without nulls.

    Returns:
        Binary `[num_rows]`, serialized examples; the same bytes for the same rows.
    """
    # One by one, since the encoder puts the features of an example into no certain order.
    return merge_examples(*(_encode_feature(n, table[n]) for n in table.column_names))


def merge_examples(*parts: pa.Array) -> pa.Array:
    """Merges examples that have different features.

    Serialized protocol buffers that are put one after the other are the serialized merger, so a
    user or item is encoded once, however many interactions it has. Source:
    https://protobuf.dev/programming-guides/encoding/#last-one-wins; TensorFlow's fast parser says
    the same of itself.

    Args:
        parts: Binary `[num_rows]` each, from `encode_examples`.

    Returns:
        Binary `[num_rows]`.
    """
    return pc.binary_join_element_wise(*parts, b"")


def _encode_feature(name: str, column: pa.ChunkedArray) -> pa.Array:
    if not len(column):
        return pa.array([], pa.binary())
    batch = pa.RecordBatch.from_arrays([_as_lists(column)], names=[name])
    return pa.array(example_coder.RecordBatchToExamplesEncoder().encode(batch), pa.binary())


def _as_lists(column: pa.ChunkedArray) -> pa.Array:
    values = column.combine_chunks()
    if not pa.types.is_list(values.type):
        offsets = pa.array(np.arange(len(values) + 1, dtype=np.int32))
        values = pa.ListArray.from_arrays(offsets, values)
    if pa.types.is_string(values.type.value_type):
        return values.cast(pa.list_(pa.binary()))
    return values
