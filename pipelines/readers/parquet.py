"""Parquet files, some row groups at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq

from pipelines.readers.chunks import Block, Chunk, open_file, with_origin

_ROWS = 65_536
"""Small row groups are read together until they have so many rows: each step has a cost of its own
per table that it is given."""


class Parquet:
    """Every column has the type that the file gives it."""

    endings = r"\.parquet"
    has_schema = True

    def column_names(self, path: str) -> list[str]:
        """See `chunks.Format`."""
        with open_file(path) as stream:
            return list(pq.ParquetFile(stream).schema_arrow.names)

    def chunks(self, path: str, file: int) -> list[Chunk]:
        """See `chunks.Format`."""
        with open_file(path) as stream:
            metadata = pq.ParquetFile(stream).metadata
        rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        before = np.concatenate([[0], np.cumsum(rows, dtype=np.int64)])
        chunks, first = [], 0
        for end in range(1, len(rows) + 1):
            count = int(before[end] - before[first])
            if count >= _ROWS or end == len(rows):
                groups = tuple(range(first, end))
                chunks.append(Chunk(path, file, groups, int(before[first]), count))
                first = end
        return chunks

    def read(self, chunk: Chunk, columns: list[str]) -> Iterator[Block]:
        """See `chunks.Format`."""
        with open_file(chunk.path) as stream:
            table = pq.ParquetFile(stream).read_row_groups(chunk.row_groups, columns=columns)
        rows = chunk.first_row + 1 + np.arange(len(table))
        yield Block(with_origin(table.select(columns), chunk.file, rows))
