"""Tables of BigQuery: Beam's reader and Google's clients run; only the service is ours."""

import datetime
import decimal
import json
import pathlib
from typing import Any

import apache_beam as beam
import pandas as pd
import pyarrow as pa
import pytest
from apache_beam.internal.gcp import auth
from apache_beam.options.pipeline_options import GoogleCloudOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from fake_bigquery import FakeBigQuery, running
from small_log import build, config, pairs, records, rows, write_files

from fairness_losses.errors import InvalidInputError
from pipelines.config import RunConfig
from pipelines.examples.inputs import inputs_fingerprint
from pipelines.file_systems import use_options
from pipelines.readers import bigquery
from pipelines.readers.bigquery import Page, ReadPages
from pipelines.readers.chunks import FILE, ROW
from pipelines.readers.files import check_columns, find_files, plan_chunks, read_chunk


@pytest.fixture
def service():
    with running(FakeBigQuery()) as fake:
        yield fake


_PAGES: list[Page] = []


def _keep(page: Page) -> None:
    """A function of the module, which Beam finds by its name: others, and lists, it copies."""
    _PAGES.append(page)


def _pages(path: str, columns: list[str]) -> list[Page]:
    """The elements that come out of the step that reads."""
    _PAGES.clear()
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | ReadPages(path, 3, columns) | beam.Map(_keep)
    return _PAGES


def _read(path: str, columns: list[str]) -> list[dict[str, Any]]:
    """All rows in order of their numbers."""
    blocks = [block for page in _pages(path, columns) for block in read_chunk(page, columns)]
    found = [row for block in blocks for row in block.table.to_pylist()]
    return sorted(found, key=lambda row: row[ROW])


def test_tables_are_looked_up_with_the_options_of_beam(service, monkeypatch):
    """Not with those of this process, which are its own."""
    service.tables["shop-eu.web.t"] = pa.table({"id": [1]})
    connect, asked = auth.get_service_credentials, []
    record = lambda options: (asked.append(options), connect(options))[1]  # noqa: E731
    monkeypatch.setattr(auth, "get_service_credentials", record)
    monkeypatch.setattr("sys.argv", ["fairtowers", "--impersonate_service_account=somebody"])
    for account in ("reader@shop-eu", None):
        use_options([f"--impersonate_service_account={account}"] if account else [])
        find_files("bigquery://shop-eu.web.t", "data.path")
        accounts = {o.view_as(GoogleCloudOptions).impersonate_service_account for o in asked}
        assert accounts == {account}
        asked.clear()


def test_rows_keep_their_values_and_are_dealt_out_to_the_streams(service):
    """Ten rows in two streams of five, two a message: 0 to 4 are rows 1, 3, 5, 7 and 9."""
    service.tables["shop-eu.web.t"] = pa.table({"id": range(10), "secret": ["x"] * 10})
    service.streams, service.batch_rows = 2, 2
    found = _read("bigquery://shop-eu.web.t", ["id"])
    ids = [0, 5, 1, 6, 2, 7, 3, 8, 4, 9]
    assert found == [{"id": i, FILE: 3, ROW: row} for row, i in enumerate(ids, 1)]
    (session,) = service.sessions
    assert session.table == "projects/shop-eu/datasets/web/tables/t"
    assert list(session.read_options.selected_fields) == ["id"]


def test_columns_have_the_types_of_the_table(service):
    utc = datetime.timezone.utc
    table = pa.table(
        {
            "number": pa.array([1.5, None]),
            "price": pa.array([decimal.Decimal("2.50"), None], pa.decimal128(38, 9)),
            "at": pa.array(
                [datetime.datetime(2024, 5, 1, tzinfo=utc), None], pa.timestamp("us", "UTC")
            ),
            "tags": pa.array([["a", "b"], []], pa.list_(pa.string())),
        }
    )
    service.tables["shop-eu.web.t"] = table
    found = _read("bigquery://shop-eu.web.t", table.column_names)
    assert [{k: row[k] for k in table.column_names} for row in found] == table.to_pylist()


def test_messages_are_put_together(service, monkeypatch):
    """Each step has a cost of its own per table that it is given."""
    monkeypatch.setattr(bigquery, "_ROWS", 4)
    service.tables["shop-eu.web.t"], service.batch_rows = pa.table({"id": range(10)}), 2
    sizes = [page.rows for page in _pages("bigquery://shop-eu.web.t", ["id"])]
    assert sorted(sizes) == [2, 4, 4]


def test_a_stream_that_breaks_is_read_on_from_where_it_broke(service):
    service.tables["shop-eu.web.t"] = pa.table({"id": range(10)})
    service.batch_rows, service.break_once_at = 2, 4
    assert [row["id"] for row in _read("bigquery://shop-eu.web.t", ["id"])] == list(range(10))
    assert service.break_once_at is None


def test_a_plan_knows_columns_and_rows_before_anything_is_read(service):
    service.tables["shop-eu.web.t"] = pa.table({"id": range(10), "when": range(10)})
    (path,) = find_files("bigquery://shop-eu.web.t", "data.users.path")
    assert [(c.path, c.rows) for c in plan_chunks([path])] == [("bigquery://shop-eu.web.t", 10)]
    check_columns([path], {"id": "data.users.id"})
    with pytest.raises(InvalidInputError, match=r"no column `idd`, .*nearest are `id`"):
        check_columns([path], {"idd": "data.users.id"})
    assert service.sessions == []


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("web.t", r"should be `bigquery://project.dataset.table`. Received: bigquery://web.t"),
        ("shop-eu.web.none", r"`data.users.path`: .*web.none cannot be looked up: .*404"),
        ("shop-eu.web.view", r"`data.users.path`: bigquery://shop-eu.web.view is a view"),
    ],
)
def test_what_is_no_table_is_refused_with_its_setting(service, table, message):
    service.tables["shop-eu.web.view"] = pa.table({"id": [1]})
    service.kinds["shop-eu.web.view"] = "VIEW"
    with pytest.raises(InvalidInputError, match=f"(?s){message}"):
        find_files(f"bigquery://{table}", "data.users.path")


def _in_bigquery(run: RunConfig, service: FakeBigQuery) -> RunConfig:
    """The same run, its inputs tables of BigQuery."""
    data = run.data.model_dump()
    for name in ("interactions", "users", "items"):
        path = pathlib.Path(data[name]["path"])
        service.tables[f"shop-eu.web.{path.stem}"] = pa.Table.from_pandas(pd.read_csv(path))
        data[name]["path"] = f"bigquery://shop-eu.web.{path.stem}"
    return RunConfig.model_validate({**run.model_dump(), "data": data})


def test_examples_from_tables_are_those_from_files(service, tmp_path):
    run = config(write_files(tmp_path))
    build(run, tmp_path / "files")
    service.streams, service.batch_rows = 2, 1
    build(_in_bigquery(run, service), tmp_path / "tables")
    for part in ("train", "validation", "test"):
        assert pairs(tmp_path / "tables", part)
        assert records(tmp_path / "tables", part) == records(tmp_path / "files", part)
    for file in ("catalogue.parquet", "users.parquet", "vocabularies/genres.parquet"):
        assert rows(tmp_path / "tables" / file) == rows(tmp_path / "files" / file)
    for name in ("counts.json", "shards.json"):
        files, tables = ((tmp_path / d / name).read_text() for d in ("files", "tables"))
        assert tables == files


def test_bad_rows_of_a_table_are_dead_letters(service, tmp_path):
    run = _in_bigquery(config(write_files(tmp_path)), service)
    log = {"who": ["u1", None, "u9"], "what": ["i1", "i1", "i2"], "when": [1, 2, 3]}
    service.tables["shop-eu.web.log"] = pa.table(log)
    with pytest.raises(InvalidInputError, match="no interaction is left"):
        build(run, tmp_path / "out")
    lines = (tmp_path / "out" / "dead_letter" / "interactions.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"file": "bigquery://shop-eu.web.log", "row": row, "reason": reason, **ids}
        for row, reason, ids in [
            (2, "`who` is empty", {"item_id": "i1"}),
            (3, "the user is not in the users table", {"user_id": "u9", "item_id": "i2"}),
        ]
    ]


def test_an_empty_table_is_refused_as_an_empty_file_is(service, tmp_path):
    run = _in_bigquery(config(write_files(tmp_path)), service)
    service.tables["shop-eu.web.items"] = service.tables["shop-eu.web.items"].slice(0, 0)
    with pytest.raises(InvalidInputError, match=r"data\.items: there are no rows"):
        build(run, tmp_path / "out")


def test_a_table_that_changes_is_noticed(service, tmp_path):
    run = _in_bigquery(config(write_files(tmp_path)), service)
    before = inputs_fingerprint(run)
    assert inputs_fingerprint(run) == before
    service.changed["shop-eu.web.log"] = 1_700_000_000_001
    assert inputs_fingerprint(run) != before
