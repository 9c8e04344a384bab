"""Arrow tables as bytes: how tables travel between the steps of a Beam pipeline."""

from __future__ import annotations

import pyarrow as pa


def to_bytes(table: pa.Table, compression: str | None = None) -> bytes:
    """Returns the table in Arrow's stream format; slices carry only their own rows.

    Args:
        table: The table.
        compression: `zstd` for strings that travel: they take a fifth of the room.
    """
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


def from_bytes(data: bytes) -> pa.Table:
    """Returns the table, which shares the memory of `data`."""
    return pa.ipc.open_stream(data).read_all()
