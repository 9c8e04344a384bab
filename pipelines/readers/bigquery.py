"""Tables of BigQuery, as the Arrow record batches that its Storage API sends."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.io.gcp import bigquery
from apache_beam.io.gcp.bigquery_tools import BigQueryWrapper, parse_table_reference
from apache_beam.io.iobase import SourceBundle
from apitools.base.py.exceptions import CredentialsError, HttpError

from fairness_losses.errors import InvalidInputError
from pipelines.examples.arrow_ipc import from_bytes, to_bytes
from pipelines.file_systems import look_up_options
from pipelines.readers.chunks import Block, Chunk, with_origin

_SCHEME = "bigquery://"
_ROWS = 65_536
"""Batches are put together until they have so many rows, as small row groups are."""


@dataclasses.dataclass(frozen=True)
class Page(Chunk):
    """Rows that the service has sent.

    Attributes:
        first_row: Number of its first row, from 1.
        step: From the number of a row to that of the next.
        content: The rows, in Arrow's stream format.
    """

    step: int
    content: bytes


class BigQuery:
    """Tables with the types that BigQuery gives their columns in Arrow.

    INT64 is int64, FLOAT64 double, NUMERIC a decimal, DATE, DATETIME and TIMESTAMP are times, and
    REPEATED columns are lists. Source: https://cloud.google.com/bigquery/docs/reference/storage,
    "Arrow schema details".
    """

    endings = ""
    has_schema = True

    def column_names(self, path: str) -> list[str]:
        """See `chunks.Format`."""
        return [field.name for field in _look_up(path).schema.fields]

    def chunks(self, path: str, file: int) -> list[Chunk]:
        """Returns one chunk, which says how many rows there are; `ReadPages` reads them."""
        return [Chunk(path, file, (), 0, _look_up(path).numRows or 0)]

    def read(self, chunk: Chunk, columns: list[str]) -> Iterator[Block]:
        """Yields the rows of a page."""
        assert isinstance(chunk, Page)
        table = from_bytes(chunk.content).select(columns)
        rows = chunk.first_row + chunk.step * np.arange(len(table))
        yield Block(with_origin(table, chunk.file, rows))


class ReadPages(beam.io.ReadFromBigQuery):
    """Beam's reader of tables, whose elements are a `Page` each and not a dictionary per row.

    The rows of a table have no order and no numbers. Here they are dealt out: row 1 is the first of
    the first of the streams in which the service sends the table, row 2 that of the second.

    Args:
        path: Of the table.
        file: Its number.
        columns: Columns to read; others are not sent.
    """

    def __init__(self, path: str, file: int, columns: Sequence[str]) -> None:
        super().__init__(
            method=bigquery.ReadFromBigQuery.Method.DIRECT_READ,
            use_native_datetime=True,  # This is what makes Beam ask for Arrow.
            table=path.removeprefix(_SCHEME),
            selected_fields=list(dict.fromkeys(columns)),
        )
        self._path, self._file = path, file

    def _expand_direct_read(self, pcoll: beam.pvalue.PBegin) -> beam.PCollection:
        source = _TableSource(
            self._path,
            self._file,
            method=self.method,
            use_native_datetime=self.use_native_datetime,
            pipeline_options=pcoll.pipeline.options,
            **self._kwargs,
        )
        return pcoll | beam.io.Read(source)


class _TableSource(bigquery._CustomBigQueryStorageSource):
    """Beam's source, which opens the session; its streams say which one they are."""

    def __init__(self, path: str, file: int, **options: Any) -> None:
        super().__init__(**options)
        self._path, self._file = path, file

    def split(self, *bounds: Any) -> Iterator[SourceBundle]:
        bundles = list(super().split(*bounds))
        for number, bundle in enumerate(bundles):
            before_first = Page(self._path, self._file, (), 1 + number, 0, len(bundles), b"")
            source = _StreamSource(bundle.source.read_stream_name, before_first)
            yield SourceBundle(bundle.weight, source, None, None)


class _StreamSource(bigquery._CustomBigQueryStorageStreamSource):
    """Beam's source of a stream, less the taking apart of what it receives.

    Args:
        name: Of the stream.
        before_first: The empty page before the first.
    """

    def __init__(self, name: str, before_first: Page) -> None:
        super().__init__(name, use_native_datetime=True)
        self._before_first = before_first

    def read_arrow(self) -> Iterator[Page]:
        client = bigquery.bq_storage.BigQueryReadClient()
        stream = client.read_rows(
            self.read_stream_name, retry_delay_callback=self.retry_delay_callback
        )
        page = self._before_first
        for batches in _gathered(message.to_arrow() for message in stream.rows().pages):
            table = pa.Table.from_batches(batches)
            first_row = page.first_row + page.step * page.rows
            page = dataclasses.replace(
                page, first_row=first_row, rows=len(table), content=to_bytes(table)
            )
            yield page


def is_table(path: str) -> bool:
    """Whether a path is that of a BigQuery table: `bigquery://project.dataset.table`."""
    return path.startswith(_SCHEME)


def check_table(path: str, setting: str) -> None:
    """Checks that there is a table that can be read.

    Args:
        path: Of the table.
        setting: What the path is the value of, for messages.

    Raises:
        InvalidInputError: There is no such table, it may not be seen, or it is a view.
    """
    try:
        kind = _look_up(path).type
    except (HttpError, CredentialsError) as error:
        raise InvalidInputError(f"`{setting}`: {path} cannot be looked up: {error}") from error
    if "VIEW" in kind:
        raise InvalidInputError(
            f"`{setting}`: {path} is a view, which BigQuery's Storage API does not read. Write its "
            "rows into a table: CREATE TABLE … AS SELECT * FROM the view."
        )


def table_state(path: str) -> list[object]:
    """Returns what is another when a table is: its path, rows, bytes and time of change."""
    table = _look_up(path)
    return [path, table.numRows, table.numBytes, table.lastModifiedTime]


def table_size(path: str) -> int:
    """Returns the bytes of a table before compression."""
    return _look_up(path).numBytes or 0


def _look_up(path: str) -> Any:
    """What BigQuery says of a table."""
    table = _reference(path)
    client = BigQueryWrapper.from_pipeline_options(look_up_options())
    return client.get_table(table.projectId, table.datasetId, table.tableId)


def _reference(path: str) -> Any:
    """The names of project, dataset and table."""
    with contextlib.suppress(ValueError):
        reference = parse_table_reference(path.removeprefix(_SCHEME))
        if reference.projectId:
            return reference
    raise InvalidInputError(
        f"a BigQuery table should be `{_SCHEME}project.dataset.table`. Received: {path}."
    )


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    held: list[pa.RecordBatch] = []
    for batch in batches:
        held.append(batch)
        if sum(each.num_rows for each in held) >= _ROWS:
            yield held
            held = []
    if held:
        yield held
