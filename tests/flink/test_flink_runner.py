"""Examples built on a Flink cluster are those that are built in one process, whatever happens."""

import concurrent.futures
import gzip
import pathlib
import subprocess
import sys
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from flink_cluster import FlinkCluster, wait_until

from fairness_losses.errors import InvalidInputError
from pipelines.config import RunConfig
from pipelines.config_file import load_config
from pipelines.datasets import generate
from pipelines.examples.pipeline import build_examples

pytestmark = pytest.mark.timeout(300)
ROOT = pathlib.Path(__file__).resolve().parents[2]
FAIRTOWERS = str(pathlib.Path(sys.executable).with_name("fairtowers"))
JOB_SECONDS = 240

LOG = ["who,what,when"] + [f"u{i % 7},i{(i * i + i // 7) % 5},{i * 37 % 500}" for i in range(200)]
BAD = [",i1,100", "u1,,100", "u1,i1,yesterday", "u1", "u9,i1,100", "u1,i9,100", "u0,i0,0"]
USERS = ["id,gender,age", *(f"u{i},{'FM'[i % 2]},{20 + i}" for i in range(7)), "u1,F,3", "u8,F,-1"]
ITEMS = ["id,maker,year", *(f"i{i},{'ab'[i % 2]},{1990 + i}" for i in range(6)), "i7,a,old"]
FILES = {
    "name": "files",
    "data": {
        "interactions": {"path": "log.csv", "user": "who", "item": "what", "timestamp": "when"},
        "users": {"path": "users.csv", "id": "id"},
        "items": {"path": "items.csv", "id": "id"},
        "max_dead_letter_share": 0.3,
    },
    "features": {
        "query": [
            {"kind": "id", "column": "user_id"},
            {"kind": "history", "max_items": 5},
        ],
        "candidate": [
            {"kind": "id", "column": "item_id"},
            {"kind": "numeric", "column": "year"},
        ],
    },
    "groups": {"columns": ["maker"]},
    "slices": [{"column": "gender"}, {"column": "age", "bands": [0, 25]}],
    "split": {"by": "time", "validation": 0.2, "test": 0.2},
}


@pytest.fixture
def files(tmp_path) -> pathlib.Path:
    for name, lines in {"log": LOG + BAD, "users": USERS, "items": ITEMS}.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize("max_broadcast_mb", [200, 0], ids=["broadcast", "shuffled"])
def test_the_command_writes_the_same(files, flink_args, max_broadcast_mb, monkeypatch):
    """With dead letters, repetitions, histories and a split by time.

    Paths are relative, as people type them; workers run in a folder of their own.
    """
    data = {**FILES["data"], "max_broadcast_mb": max_broadcast_mb}
    (files / "run.yaml").write_text(yaml.safe_dump({**FILES, "data": data}))
    monkeypatch.chdir(files)
    run_here(load_config(files / "run.yaml"), None, files / "here")

    options = [f"--beam={option}" for option in flink_args]
    command = [FAIRTOWERS, "examples", "--config", "run.yaml", "--out", "run", *options]
    subprocess.run(command, check=True, timeout=JOB_SECONDS)
    (files / "run" / "examples" / "stage.json").unlink()
    assert_same(files / "run" / "examples", files / "here")


def test_a_log_without_tables_gives_the_same(files, flink_args):
    config = log_alone(files / "log.csv")
    run_here(config, None, files / "here")
    (files / "there").mkdir()
    build_examples(config, None, files / "there", flink_args)
    assert_same(files / "there", files / "here")


@pytest.fixture(scope="session")
def million(tmp_path_factory) -> tuple[RunConfig, pathlib.Path, pathlib.Path]:
    """A million interactions of the marketplace: configuration, source and examples built here."""
    raw = yaml.safe_load((ROOT / "configs" / "synthetic.yaml").read_text(encoding="utf-8"))
    raw["data"]["synthetic"]["interactions"] = 1_000_000
    config = RunConfig.model_validate(raw)
    source, here = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("million") / "here"
    generate(config, source)
    run_here(config, source, here)
    return config, source, here


def test_a_million_interactions_give_the_same(tmp_path, million, flink_args):
    config, source, here = million
    build_examples(config, source, tmp_path, flink_args)
    assert_same(tmp_path, here)


def test_a_task_manager_killed_in_the_middle_changes_nothing(tmp_path, million, flink):
    """Once a shard is written, a task manager is killed that writes others."""
    config, source, here = million
    pool = concurrent.futures.ThreadPoolExecutor(1)
    job = pool.submit(build_examples, config, source, tmp_path, flink.beam_args())
    wait_until(lambda: job.done() or any(tmp_path.glob("*.gz")), "a shard", JOB_SECONDS)
    tasks = _tasks(flink, "Write shards")
    writers = [task["taskmanager-id"] for task in tasks if task["status"] == "RUNNING"]
    assert writers
    victim = writers[0]
    workers = psutil.Process(flink.pid(victim)).children(recursive=True)
    flink.kill(victim)
    try:
        job.result(timeout=JOB_SECONDS)
    finally:
        flink.start_task_manager(victim)
    assert max(task["attempt"] for task in _tasks(flink, "Write shards")) >= 1
    assert_same(tmp_path, here)
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert workers
    assert not alive


def test_an_input_that_cannot_be_used_is_told_as_in_this_process(files, flink_args):
    """A log whose end is missing, which a worker finds out."""
    whole = gzip.compress("\n".join(LOG * 500).encode())
    (files / "log.csv.gz").write_bytes(whole[: len(whole) // 2])
    config = log_alone(files / "log.csv.gz")
    with pytest.raises(InvalidInputError, match=r"log\.csv\.gz") as here:
        build_examples(config, None, files)
    with pytest.raises(InvalidInputError) as there:
        build_examples(config, None, files, flink_args)
    assert str(there.value) == str(here.value)


def log_alone(path: pathlib.Path) -> RunConfig:
    data = {
        "interactions": {**FILES["data"]["interactions"], "path": str(path)},
        "max_dead_letter_share": 0.3,
    }
    return RunConfig.model_validate({"name": "log", "data": data, "split": {"by": "hash"}})


def run_here(config: RunConfig, source: pathlib.Path | None, out: pathlib.Path) -> None:
    out.mkdir()
    build_examples(config, source, out)


def assert_same(found: pathlib.Path, expected: pathlib.Path) -> None:
    """Every file is there with the same content, and no other."""
    names = sorted(str(p.relative_to(expected)) for p in expected.rglob("*") if p.is_file())
    assert sorted(str(p.relative_to(found)) for p in found.rglob("*") if p.is_file()) == names
    for name in names:
        if name.endswith(".parquet"):
            assert pq.read_table(found / name).equals(pq.read_table(expected / name)), name
        else:
            assert (found / name).read_bytes() == (expected / name).read_bytes(), name


def _tasks(flink: FlinkCluster, step: str) -> list[dict[str, Any]]:
    """The tasks of a step of the newest job, as Flink's REST API describes them."""
    newest = max(flink.ask("jobs/overview")["jobs"], key=lambda job: job["start-time"])
    path = f"jobs/{newest['jid']}"
    (vertex,) = (v["id"] for v in flink.ask(path)["vertices"] if step in v["name"])
    return flink.ask(f"{path}/vertices/{vertex}")["subtasks"]
