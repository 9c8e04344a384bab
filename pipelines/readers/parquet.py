"""Parquet files, a row group at a time."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq

from pipelines.readers.chunks import Block, Chunk, open_file, with_origin


class Parquet:
    """Every column has the type that the file gives it."""

    endings = r"\.parquet"
    name = "Parquet"
    unreadable = "the row cannot be read"

    def column_names(self, path: str) -> list[str]:
        """See `chunks.Format`."""
        with open_file(path) as stream:
            return list(pq.ParquetFile(stream).schema_arrow.names)

    def chunks(self, path: str, file: int) -> list[Chunk]:
        """See `chunks.Format`."""
        chunks, first_row = [], 0
        with open_file(path) as stream:
            metadata = pq.ParquetFile(stream).metadata
            for group in range(metadata.num_row_groups):
                rows = metadata.row_group(group).num_rows
                chunks.append(Chunk(path, file, group, first_row, rows))
                first_row += rows
        return chunks

    def read(self, chunk: Chunk, columns: list[str]) -> Iterator[Block]:
        """See `chunks.Format`."""
        with open_file(chunk.path) as stream:
            table = pq.ParquetFile(stream).read_row_group(chunk.row_group, columns=columns)
        rows = chunk.first_row + 1 + np.arange(len(table))
        yield Block(with_origin(table.select(columns), chunk.file, rows), np.zeros(0, np.int64))
