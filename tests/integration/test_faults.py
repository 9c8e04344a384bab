"""When the machine or the data let a run down, it is said, and nothing is half there."""

import contextlib
import json
import os
import pathlib
import subprocess

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tiny_run import ROOT, command, environment

ROWS = 60_000
ROWS_PER_GROUP = 20_000


def write_log(path: pathlib.Path, seed: int = 0, bad_share: float = 0.0) -> None:
    """A log of 5,000 users and 2,000 items, of which a share has no item."""
    rng = np.random.default_rng(seed)
    items = np.array([f"i{n}" for n in rng.integers(0, 2_000, ROWS)], object)
    items[rng.permutation(ROWS)[: round(bad_share * ROWS)]] = None
    users = [f"u{n}" for n in rng.integers(0, 5_000, ROWS)]
    times = rng.integers(1_600_000_000, 1_700_000_000, ROWS)
    table = pa.table({"user": users, "item": pa.array(items), "at": times})
    pq.write_table(table, path, row_group_size=ROWS_PER_GROUP, compression="snappy")


def write_config(folder: pathlib.Path, path: str = "log*.parquet") -> pathlib.Path:
    source = {"path": path, "user": "user", "item": "item", "timestamp": "at"}
    config = folder / "run.yaml"
    config.write_text(yaml.safe_dump({"name": "Faults", "data": {"interactions": source}}))
    return config


def files(out: pathlib.Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (out / "examples").glob("*") if p.is_file()}


@pytest.fixture
def built(tmp_path, main):
    """A run whose examples are there, and its configuration."""
    write_log(tmp_path / "log-1.parquet")
    config, out = write_config(tmp_path), tmp_path / "run"
    assert main("examples", config, out)[0] == 0
    return config, out


def refused(main, config: pathlib.Path, out: pathlib.Path) -> str:
    """Runs the stage, which has to fail in one paragraph and leave what was there as it was."""
    before = files(out)
    code, _, errors = main("examples", config, out)
    assert code == 2
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert files(out) == before
    return errors.removeprefix("error: ")


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, megabytes: int):
    """A disk in memory."""
    folder.mkdir()
    size = f"size={megabytes}m"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"only root may mount a small disk: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(tmp_path):
    """The examples take more than a megabyte; with room the same command ends as usual."""
    write_log(tmp_path / "log.parquet")
    config = write_config(tmp_path)

    def run(out: pathlib.Path) -> subprocess.CompletedProcess:
        call = command("examples", config, out)
        return subprocess.run(call, cwd=ROOT, env=environment(), capture_output=True, text=True)

    with small_disk(tmp_path / "disk", megabytes=1) as disk:
        failed = run(disk / "run")
        assert failed.returncode == 2, failed.stderr
        assert failed.stderr.startswith("error: there is no space left on a disk")
        assert "Traceback" not in failed.stderr
        assert not (disk / "run" / "examples").exists()
        subprocess.run(["mount", "-o", "remount,size=200m", str(disk)], check=True)
        assert run(disk / "run").returncode == 0
        assert run(tmp_path / "run").returncode == 0
        assert files(disk / "run")["shards.json"] == files(tmp_path / "run")["shards.json"]


def test_a_file_that_disappears_after_it_was_listed(built, main, monkeypatch):
    from pipelines.examples import pipeline

    config, out = built
    second = config.parent / "log-2.parquet"
    write_log(second, seed=1)
    plan = pipeline.plan_inputs

    def plan_and_lose(*arguments):
        inputs = plan(*arguments)
        second.unlink()
        return inputs

    monkeypatch.setattr(pipeline, "plan_inputs", plan_and_lose)
    assert refused(main, config, out).startswith(
        f"{second}: the file was there when the run began and is gone. "
    )


def test_a_row_group_that_is_damaged_is_named(built, main):
    """A byte within the second row group, so that all others can still be read."""
    config, out = built
    path = config.parent / "log-2.parquet"
    write_log(path, seed=1)
    metadata = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = metadata.dictionary_page_offset or metadata.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 64] = os.urandom(64)
    path.write_bytes(content)
    assert refused(main, config, out).startswith(
        f"{path}, row groups 0 to 2 (the first is 0): the file is damaged"
    )


def test_a_second_file_without_a_column_is_refused_before_anything_is_read(built, main):
    config, out = built
    path = config.parent / "log-2.parquet"
    pq.write_table(pa.table({"user": ["u1"], "product": ["i1"], "at": [1]}), path)
    message = refused(main, config, out)
    assert message.startswith(f"{path}: there is no column `item`")


def test_a_second_file_whose_column_cannot_be_an_id_is_refused(built, main):
    config, out = built
    path = config.parent / "log-2.parquet"
    pq.write_table(pa.table({"user": ["u1"], "item": [["i1", "i2"]], "at": [1]}), path)
    message = refused(main, config, out)
    assert message.startswith("data.interactions, column `item`: should hold strings or numbers")


def test_a_second_file_may_write_the_same_ids_and_times_in_other_types(tmp_path, main):
    """Ids as numbers and times as text are the same rows: all of them are repetitions."""
    for number, kind in ((1, int), (2, str)):
        log = pd.DataFrame({"user": [7, 7, 8], "item": [1, 2, 1], "at": [10, 20, 30]})
        log.astype({"user": kind, "item": kind, "at": kind}).to_parquet(
            tmp_path / f"log-{number}.parquet"
        )
    config = write_config(tmp_path)
    content = yaml.safe_load(config.read_text())
    config.write_text(yaml.safe_dump({**content, "split": {"by": "last_n", "n": 1}}))
    assert main("examples", config, tmp_path / "run")[0] == 2  # A part is left empty by so few.
    log["at"] = log["at"] + 1
    log.to_parquet(tmp_path / "log-3.parquet")
    code, _, errors = main("examples", config, tmp_path / "run")
    assert (code, errors) == (0, "")
    counts = json.loads((tmp_path / "run" / "examples" / "counts.json").read_text())
    assert counts["interactions"]["read"] == 9
    assert counts["interactions"]["duplicates"] == 3


@pytest.mark.parametrize(("bad_share", "code"), [(0.01, 0), (0.6, 2)])
def test_bad_rows_are_dead_letters_and_too_many_of_them_stop_the_run(
    bad_share, code, tmp_path, main
):
    write_log(tmp_path / "log.parquet", bad_share=bad_share)
    found, _, errors = main("examples", write_config(tmp_path), tmp_path / "run")
    assert found == code
    if code:
        assert "data.interactions: 36,000 of 60,000 rows (60.0%) could not be used" in errors
        assert "`item` is empty (36,000, first in" in errors
        assert not (tmp_path / "run" / "examples").exists()
        return
    folder = tmp_path / "run" / "examples"
    counts = json.loads((folder / "counts.json").read_text())["interactions"]
    assert counts["dead"] == {"`item` is empty": 600}
    letters = (folder / "dead_letter" / "interactions.jsonl").read_text().splitlines()
    rows = [json.loads(letter)["row"] for letter in letters]
    items = pq.read_table(tmp_path / "log.parquet")["item"].to_pandas()
    assert rows == (np.flatnonzero(items.isna()) + 1).tolist()
    kept = sum(counts["written"].values())
    assert kept + 600 + counts["duplicates"] == counts["read"] == ROWS
