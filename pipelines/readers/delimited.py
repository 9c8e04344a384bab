"""CSV files, plain or gzipped."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.csv

from pipelines.readers.chunks import (
    Block,
    Chunk,
    empty_table,
    is_gzipped,
    open_file,
    unzipped,
    whole_file,
    with_origin,
)

_BLOCK_BYTES = 16 << 20
_RAGGED = "the row has another number of cells than the header"


class Csv:
    """Every column holds strings, as they are written; an empty cell is "". No value is guessed."""

    endings = r"\.csv(\.gz)?"
    has_schema = True

    def column_names(self, path: str) -> list[str]:
        """See `chunks.Format`."""
        with open_file(path) as stream:
            raw = unzipped(path, stream)
            with io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as text:
                return next(csv.reader(text), [])

    def chunks(self, path: str, file: int) -> list[Chunk]:
        """See `chunks.Format`."""
        return whole_file(path, file, bytes_per_row=8 if is_gzipped(path) else 32)

    def read(self, chunk: Chunk, columns: list[str]) -> Iterator[Block]:
        """See `chunks.Format`."""
        ragged: list[int] = []

        def skip(row: pa.csv.InvalidRow) -> str:
            ragged.append(row.number - 1)  # Arrow counts the header as row 1.
            return "skip"

        with open_file(chunk.path) as stream:
            native = pa.PythonFile(stream, mode="r")
            if is_gzipped(chunk.path):
                native = pa.CompressedInputStream(native, "gzip")
            try:
                reader = pa.csv.open_csv(
                    native,
                    # Only the serial reader knows the numbers of the rows it skips.
                    read_options=pa.csv.ReadOptions(block_size=_BLOCK_BYTES, use_threads=False),
                    parse_options=pa.csv.ParseOptions(
                        newlines_in_values=True, invalid_row_handler=skip
                    ),
                    convert_options=pa.csv.ConvertOptions(
                        include_columns=columns,
                        column_types={c: pa.string() for c in columns},
                        strings_can_be_null=False,
                    ),
                )
            except pa.ArrowInvalid as error:
                if "Empty CSV file" in str(error):  # A header and nothing else.
                    return
                raise
            seen, reported = 0, 0
            for batch in reader:
                # A row moves down by the number of skipped rows before it.
                before = np.array(ragged, np.int64) - 1 - np.arange(len(ragged))
                position = seen + np.arange(batch.num_rows)
                rows = 1 + position + np.searchsorted(before, position, side="right")
                table = with_origin(pa.Table.from_batches([batch]), chunk.file, rows)
                yield Block(table, np.array(ragged[reported:], np.int64), _RAGGED)
                seen, reported = seen + batch.num_rows, len(ragged)
            if reported < len(ragged):
                unreadable = np.array(ragged[reported:], np.int64)
                yield Block(empty_table(columns, chunk.file), unreadable, _RAGGED)
