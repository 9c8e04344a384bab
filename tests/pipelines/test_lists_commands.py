"""`fairtowers audit-lists` and `fairtowers watch`, as a person calls them."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import fake_audit
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from apache_beam.options.pipeline_options import S3Options
from fake_file_system import FakeFileSystem
from typer.testing import CliRunner

from pipelines import cli, cli_app
from pipelines.config_file import load_config

ROOT = pathlib.Path(__file__).resolve().parents[2]
SETTINGS = {
    "name": "commands",
    "data": {"interactions": {"path": "log.csv"}, "items": {"path": "i.csv", "id": "i"}},
    "groups": {"columns": ["director_gender"]},
    "audit": {"ks": [10], "bootstrap_samples": 100},
    "monitoring": {"window": 60, "max_delay": 0, "bootstrap_samples": 100},
}


@pytest.fixture
def run(tmp_path):
    """A run directory whose examples are there, a configuration, and lists of 60 users."""
    tables = fake_audit.world(num_users=60, num_items=50, depth=10)
    examples = tmp_path / "run" / "examples"
    examples.mkdir(parents=True)
    for name in ("catalogue", "users"):
        pq.write_table(tables[name], examples / f"{name}.parquet")
    record = {"stage": "examples", "fingerprint": "x", "inputs": {}, "result": {}, "seconds": 0.0}
    (examples / "stage.json").write_text(json.dumps({**record, "versions": {}}))
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(SETTINGS))
    lists = tables["before"].append_column("list_id", pa.array([f"l{i}" for i in range(60)]))
    return tmp_path, lists.append_column(
        "timestamp", pa.array([1_700_000_040 + i for i in range(60)])
    )


def command(name: str, folder: pathlib.Path, *more: str) -> list[str]:
    common = ["-c", str(folder / "run.yaml"), "-o", str(folder / "run")]
    return [name, *common, "--lists", str(folder / "lists" / "*.parquet"), *more]


def arrive(folder: pathlib.Path, name: str, lists: pa.Table) -> None:
    (folder / "lists").mkdir(exist_ok=True)
    pq.write_table(lists, folder / "lists" / f".{name}")
    (folder / "lists" / f".{name}").rename(folder / "lists" / f"{name}.parquet")


def test_an_audit_of_lists_is_skipped_until_a_file_comes(run):
    folder, lists = run
    arrive(folder, "1", lists.slice(0, 30))
    arguments = command("audit-lists", folder, "--name", "monday")
    first, again = (CliRunner().invoke(cli.app, arguments) for _ in range(2))
    assert first.exit_code == 0, first.output
    assert "audits/monday" in first.output
    assert "up to date" in again.output
    report = folder / "run" / "audits" / "monday" / "report.json"
    assert json.loads(report.read_text())["overall"]["users"] == 30
    arrive(folder, "2", lists.slice(30))
    assert CliRunner().invoke(cli.app, arguments).exit_code == 0
    assert json.loads(report.read_text())["overall"]["users"] == 60


def test_an_audit_of_lists_has_a_page_and_a_trend(run):
    """Its report is that of a run with one model; where the lists lie is not told."""
    folder, lists = run
    arrive(folder, "1", lists)
    first = CliRunner().invoke(cli.app, command("audit-lists", folder, "--name", "monday"))
    assert first.exit_code == 0, first.output
    monday = folder / "run" / "audits" / "monday"
    assert "audits/monday/report/report.html" in first.output.replace("\n", "")
    report = json.loads((monday / "report" / "report.json").read_text())
    (audited,) = report["runs"]
    assert audited["overall"] == json.loads((monday / "report.json").read_text())["overall"]
    assert report["counts"] == json.loads((monday / "counts.json").read_text())
    page = (monday / "report" / "report.html").read_text(encoding="utf-8")
    assert "60</span> lists read" in page
    assert 'id="trend"' not in page
    assert str(folder) not in page + json.dumps(report)

    earlier = {"previous": ["run/audits/monday/report/report.json"], "release": "now"}
    (folder / "run.yaml").write_text(yaml.safe_dump({**SETTINGS, "report": earlier}))
    second = CliRunner().invoke(cli.app, command("audit-lists", folder, "--name", "tuesday"))
    assert second.exit_code == 0, second.output
    tuesday = folder / "run" / "audits" / "tuesday" / "report" / "report.html"
    assert '<th scope="row">monday</th>' in tuesday.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["../examples", "", "..", ".", ".hidden", "a/b", "monday/", "/a"])
def test_a_name_that_is_another_folder_is_refused(run, name):
    """The folder is replaced: that of the examples, or of all audits, should never be."""
    folder, lists = run
    arrive(folder, "1", lists)
    kept = folder / "run" / "audits" / "sunday"
    kept.mkdir(parents=True)
    error = CliRunner().invoke(cli.app, command("audit-lists", folder, "--name", name)).exception
    assert "`--name` should be a plain name" in str(error)
    assert (folder / "run" / "examples" / "users.parquet").is_file()
    assert kept.is_dir()


@pytest.mark.parametrize("name", ["audit-lists", "validate"])
def test_files_are_looked_up_with_the_options_of_beam(run, monkeypatch, name):
    """They say where a bucket is, and the look-up comes before the pipeline that takes them."""
    folder, _ = run
    asked = []

    def connect(_, pipeline_options):
        asked.append(pipeline_options)

    monkeypatch.setattr(FakeFileSystem, "__init__", connect)
    users = {"path": "u.csv", "id": "u"}
    settings = {
        **SETTINGS,
        "data": {**SETTINGS["data"], "users": users},
        "features": {"query": [{"kind": "categorical", "column": "country"}]},
        "validation": {"serving_path": "fake://nowhere/*.jsonl"},
    }
    (folder / "run.yaml").write_text(yaml.safe_dump(settings))
    common = ["-c", str(folder / "run.yaml"), "-o", str(folder / "run")]
    lists = ["--lists", "fake://nowhere/*.parquet"] if name == "audit-lists" else []
    option = "--beam=--s3_endpoint_url=http://storage.example"
    error = CliRunner().invoke(cli.app, [name, *common, *lists, option]).exception
    assert "there is no file fake://nowhere/*" in str(error)
    endpoints = {each.view_as(S3Options).s3_endpoint_url for each in asked}
    assert endpoints == {"http://storage.example"}


def test_without_examples_the_command_that_makes_them_is_named(run):
    folder, _ = run
    (folder / "run" / "examples" / "stage.json").unlink()
    for name in ("audit-lists", "watch"):
        error = CliRunner().invoke(cli.app, command(name, folder)).exception
        assert "Run `fairtowers examples` first." in str(error)


def test_a_group_that_is_not_there_cannot_be_watched(run):
    folder, _ = run
    changed = {**SETTINGS, "monitoring": {"groups": ["femal"]}}
    (folder / "run.yaml").write_text(yaml.safe_dump(changed))
    error = CliRunner().invoke(cli.app, command("watch", folder)).exception
    assert "`monitoring.groups` names `femal`, which is no group with a target" in str(error)
    assert "female" in str(error)


def test_a_watch_ends_when_it_is_terminated_and_reports_what_is_open(run):
    folder, lists = run
    arrive(folder, "1", lists)
    watched = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "pipelines.cli", *command("watch", folder)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        log, end = folder / "run" / "monitoring" / "files.jsonl", time.monotonic() + 90
        while not (log.is_file() and log.read_text()):
            assert watched.poll() is None, watched.communicate()
            assert time.monotonic() < end, "the file was not read"
            time.sleep(0.05)
        watched.send_signal(signal.SIGTERM)
        output, errors = watched.communicate(timeout=60)
    finally:
        watched.kill()
    assert watched.returncode == 0, errors
    assert "60 lists read, 60 in windows, 0 left out" in output
    (report,) = (folder / "run" / "monitoring" / "windows").glob("[0-9]*.json")
    assert json.loads(report.read_text())["overall"]["users"] == 60


def handlers() -> list:
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]


def test_a_watch_ends_when_nothing_comes(run, monkeypatch):
    """Interrupts are its own only while it watches, not while it loads and checks."""
    folder, lists = run
    arrive(folder, "1", lists)
    before, seen = handlers(), []

    def load(*arguments):
        seen.append(handlers())
        return load_config(*arguments)

    monkeypatch.setattr(cli_app, "load_config", load)
    result = CliRunner().invoke(cli.app, command("watch", folder, "--idle", "1"))
    assert result.exit_code == 0, result.output
    assert "60 lists read" in result.output
    assert seen == [before]
    assert handlers() == before
