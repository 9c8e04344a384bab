"""The serving log: accepted lists are written, dropped ones counted, and nothing waits for it."""

import json
import logging
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from log_answers import NOON, answer, settings

from fairness_losses.errors import InvalidInputError
from serving import whole_files
from serving.log import writer
from serving.log.config import LogConfig
from serving.log.counts import LogCounts
from serving.log.lists import SCHEMA
from serving.log.writer import ListLog

ROOT = pathlib.Path(__file__).resolve().parents[2]


def read(folder: pathlib.Path) -> pa.Table:
    """All lists of a log, in the order of their numbers within a process."""
    paths = sorted((folder / "log").glob("*.parquet"))
    return pa.concat_tables([SCHEMA.empty_table(), *map(pq.read_table, paths)]).sort_by(
        [("process", "ascending"), ("sequence", "ascending")]
    )


@pytest.fixture
def no_space(monkeypatch):
    """A disk that is full while the event is set."""
    is_full = threading.Event()
    write_table = whole_files.write_table

    def write(table, path):
        if is_full.is_set():
            raise OSError(28, "No space left on device")
        write_table(table, path)

    monkeypatch.setattr(writer, "write_table", write)
    monkeypatch.setattr(writer, "_RETRY", 0.01)
    return is_full


def test_a_row_per_list_says_what_was_served_and_nothing_else_of_the_request(tmp_path):
    log = ListLog(settings(tmp_path))
    inputs = {
        "policy_key": np.array([b"k1", b""], object),
        "control_groups": np.array([[b"a secret"], [b"a secret"]], object),
        "gender": np.array([b"a secret", b"a secret"], object),
    }
    assert log.append(answer(["u1", "ü"], k=2, inputs=inputs))
    assert log.close() == LogCounts(accepted=2, written=2, failed=0, dropped=0)
    (path,) = (tmp_path / "log").glob("*.parquet")
    lists = pq.read_table(path)
    assert lists.schema.equals(SCHEMA)
    rows = lists.to_pydict()
    process = rows["process"][0]
    assert rows["list_id"] == [f"{process}-0", f"{process}-1"]
    assert rows["sequence"] == [0, 1]
    assert rows["candidate_ids"] == [["u1-0", "u1-1"], ["ü-0", "ü-1"]]
    assert rows["scores"] == [[2.0, 1.0]] * 2
    assert rows["groups"] == [["a", "a"]] * 2
    assert rows["policy_key"] == ["k1", ""]
    assert {r.timestamp() for r in rows["timestamp"]} == {NOON}
    assert [rows[n][0] for n in ("policy", "model_version", "model", "signature", "arm")] == [
        "quota", "retriever/4", "retriever", "controlled", "",
    ]  # fmt: skip
    assert b"secret" not in path.read_bytes()


def test_no_raw_user_id_is_in_the_log_and_one_that_is_not_sent_is_null(tmp_path):
    log = ListLog(settings(tmp_path))
    anonymous = answer(["x"], k=1)
    anonymous.inputs.pop("user_id")
    ids = np.array([[b"i1"]], object)
    assert log.append(answer(["a-user-of-ours"], k=1, candidate_ids=ids))
    assert log.append(anonymous)
    log.close()
    (path,) = (tmp_path / "log").glob("*.parquet")
    assert b"a-user-of-ours" not in path.read_bytes()
    named, unnamed = read(tmp_path)["user_hash"].to_pylist()
    assert len(bytes.fromhex(named)) == 16
    assert unnamed is None


def test_short_lists_are_logged_without_their_padding(tmp_path):
    log = ListLog(settings(tmp_path))
    short = {
        "candidate_ids": np.array([[b"i1", b""], [b"i2", b"i3"]], object),
        "scores": np.array([[1.0, -np.inf], [2.0, 1.0]]),
    }
    log.append(answer(["u1", "u2"], k=2, **short))
    log.append(answer(["u3"], k=5))  # Of another model: another k in the same file.
    log.close()
    assert read(tmp_path)["candidate_ids"].to_pylist() == [
        ["i1"],
        ["i2", "i3"],
        [f"u3-{i}" for i in range(5)],
    ]
    assert [len(scores) for scores in read(tmp_path)["scores"].to_pylist()] == [1, 2, 5]


def test_an_answer_of_vectors_is_not_logged(tmp_path):
    log = ListLog(settings(tmp_path))
    vectors = answer(["u1"])
    vectors.outputs.clear()
    vectors.outputs["embedding"] = np.zeros((1, 4))
    assert log.append(vectors)
    assert log.close().accepted == 0
    assert not list((tmp_path / "log").glob("*.parquet"))


@pytest.mark.parametrize(
    "changed",
    [
        {"candidate_ids": np.array([[b"\xff", b"x", b"y"]], object)},
        {"scores": np.zeros((1, 2), np.float32)},
        {"policy": np.array([b"one", b"too many"], object)},
        {"seconds": float("nan")},
    ],
)
def test_a_malformed_answer_fails_alone_and_its_values_are_not_printed(changed, tmp_path, caplog):
    log = ListLog(settings(tmp_path))
    log.append(answer(["u1"]))
    log.append(answer(["u2"], **changed))
    log.append(answer(["u3"]))
    assert log.close() == LogCounts(accepted=3, written=2, failed=1, dropped=0)
    assert read(tmp_path)["sequence"].to_pylist() == [0, 2]
    assert "an answer could not be logged" in caplog.text
    assert "too many" not in caplog.text


def test_lists_beyond_the_bound_are_dropped_and_their_numbers_are_missing(tmp_path, no_space):
    no_space.set()
    log = ListLog(settings(tmp_path, max_pending=5, rotate_rows=5))
    assert [log.append(answer(["a", "b"])) for _ in range(4)] == [True, True, False, False]
    assert log.append(answer(["c"]))
    assert log.counts.pending == 5
    no_space.clear()
    assert log.flush(10)
    assert log.append(answer(["d"]))
    assert log.close() == LogCounts(accepted=6, written=6, failed=0, dropped=4)
    assert read(tmp_path)["sequence"].to_pylist() == [0, 1, 2, 3, 8, 9]


def test_many_threads_lose_nothing_and_every_count_reconciles(tmp_path):
    log = ListLog(settings(tmp_path, max_pending=2_000, rotate_rows=100, rotate_seconds=0.05))
    accepted = np.zeros(8, int)

    def serve(thread: int) -> None:
        for turn in range(400):
            users = [f"{thread}-{turn}-{i}" for i in range(1 + turn % 3)]
            accepted[thread] += len(users) * log.append(answer(users, k=1))

    threads = [threading.Thread(target=serve, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = log.close()
    given = 8 * sum(1 + turn % 3 for turn in range(400))
    assert counts.accepted == accepted.sum() == counts.written
    assert counts.accepted + counts.dropped == given
    lists = read(tmp_path)
    assert len(lists) == counts.written
    assert len(set(lists["list_id"].to_pylist())) == len(lists)
    assert lists["sequence"].to_numpy().max() < given


def test_the_lists_of_an_answer_stay_in_order_and_belong_to_their_user(tmp_path):
    log = ListLog(settings(tmp_path))
    for turn in range(50):
        log.append(answer([f"u{turn}", "always"], k=2, seconds=NOON + turn))
    log.close()
    lists = read(tmp_path)
    firsts = [ids[0] for ids in lists["candidate_ids"].to_pylist()]
    assert firsts == [f"{user}-0" for turn in range(50) for user in (f"u{turn}", "always")]
    hashes = lists["user_hash"].to_pylist()
    assert len(set(hashes[1::2])) == 1
    assert len(set(hashes)) == 51


def test_files_rotate_by_rows_size_and_time(tmp_path):
    rows = ListLog(settings(tmp_path / "rows", rotate_rows=10))
    size = ListLog(settings(tmp_path / "size", rotate_mb=1e-6))
    age = ListLog(settings(tmp_path / "age", rotate_seconds=0.01))
    for log in (rows, size, age):
        for user in range(10):
            log.append(answer([user]))
    until = time.monotonic() + 10
    while any(log.counts.written < 10 for log in (rows, size, age)):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert {log.close().pending for log in (rows, size, age)} == {0}


def test_a_full_disk_is_reported_once_and_nothing_accepted_is_lost(tmp_path, no_space, caplog):
    log = ListLog(settings(tmp_path, rotate_seconds=0.01))
    no_space.set()
    log.append(answer(["u1"]))
    assert not log.flush(0.5)
    assert log.counts.pending == 1
    assert [r.levelno for r in caplog.records] == [logging.ERROR]
    assert "No space left on device" in caplog.text
    no_space.clear()
    assert log.flush(10)
    assert caplog.records[-1].message == "the serving log can be written again."
    assert log.close() == LogCounts(accepted=1, written=1, failed=0, dropped=0)


def test_lists_that_no_file_can_hold_fail_and_the_next_are_written(tmp_path, monkeypatch, caplog):
    log = ListLog(settings(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(writer, "write_table", lambda table, path: 1 / 0)
        log.append(answer(["u1"]))
        assert log.flush(10)
    log.append(answer(["u2"]))
    assert log.close() == LogCounts(accepted=2, written=1, failed=1, dropped=0)
    assert "1 lists could not be written" in caplog.text


def test_a_log_that_is_closed_while_the_disk_is_full_says_what_it_lost(tmp_path, no_space, caplog):
    log = ListLog(settings(tmp_path))
    no_space.set()
    log.append(answer(["u1", "u2"]))
    assert log.close(timeout=0.2) == LogCounts(accepted=2, written=0, failed=2, dropped=0)
    assert "closed with 2 lists that were not written" in caplog.text
    assert not log.append(answer(["u3"]))
    assert log.counts.dropped == 1


def test_a_disk_that_is_really_full(tmp_path):
    """A megabyte in memory: what does not fit waits, and is written when there is room."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"only root may mount a small disk: {mounted.stderr.strip()}")
    try:
        salts = str(tmp_path / "salts")
        log = ListLog(settings(tmp_path, directory=str(disk / "log"), salts=salts))
        rng = np.random.default_rng(0)
        for user in range(600):
            ids = np.array([[rng.bytes(300).hex().encode() for _ in range(10)]], object)
            log.append(answer([user], k=10, candidate_ids=ids))
        assert not log.flush(2)
        assert log.counts.pending == 600
        assert {p.suffix for p in (disk / "log").iterdir()} <= {".json"}
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        assert log.flush(20)
        assert log.close() == LogCounts(accepted=600, written=600, failed=0, dropped=0)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


KILLED = """
import sys, pathlib
sys.path.insert(0, {tests!r})
from log_answers import answer, settings
from serving.log.writer import ListLog
log = ListLog(settings(pathlib.Path({folder!r}), rotate_rows=50))
number = 0
while True:
    number += log.append(answer([number], k=20))
"""


def test_a_process_that_is_killed_leaves_whole_files_and_loses_the_end_only(tmp_path):
    code = KILLED.format(tests=str(pathlib.Path(__file__).parent), folder=str(tmp_path))
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
    until = time.monotonic() + 60
    while len(list((tmp_path / "log").glob("*.parquet"))) < 3:
        assert process.poll() is None
        assert time.monotonic() < until
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    lists = read(tmp_path)  # Every file can be read.
    counts = json.loads(next((tmp_path / "log").glob("*.json")).read_text())
    assert counts["closed"] is False
    assert counts["written"] <= len(lists)
    # Every list that was accepted, up to the last of the last file.
    firsts = [ids[0] for ids in lists["candidate_ids"].to_pylist()]
    assert firsts == [f"{n}-0" for n in range(len(lists))]


def test_what_a_killed_process_had_begun_to_write_is_removed_later(tmp_path):
    (tmp_path / "log").mkdir()
    old, new = (tmp_path / "log" / f".{n}.parquet.unfinished" for n in ("old", "new"))
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    ListLog(settings(tmp_path)).close()
    assert new.exists()
    assert not old.exists()


def test_the_counts_of_a_process_lie_beside_its_files(tmp_path):
    log = ListLog(settings(tmp_path))
    log.append(answer(["u1", "u2"]))
    log.close()
    log.append(answer(["u3"]))
    (path,) = (tmp_path / "log").glob("*.json")
    assert json.loads(path.read_text()) == {
        "accepted": 2, "written": 2, "failed": 0, "dropped": 0, "pending": 0, "closed": True,
    }  # fmt: skip
    (parquet,) = (tmp_path / "log").glob("*.parquet")
    assert parquet.name.startswith(path.stem)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"salts": None}, "belong together"),
        ({"salts": "log/salts", "directory": "log"}, "outside of `directory`"),
        ({"salts": "log", "directory": "log"}, "outside of `directory`"),
        ({"rotate_rows": 11, "max_pending": 10}, "at most `max_pending`"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        LogConfig(**{"directory": "a", "salts": "b", **changes})


def test_a_folder_that_cannot_be_used_is_refused(tmp_path):
    (tmp_path / "log").write_text("a file")
    with pytest.raises(InvalidInputError, match="cannot hold the serving log"):
        ListLog(settings(tmp_path))
    with pytest.raises(InvalidInputError, match="needs `directory`"):
        ListLog(LogConfig())
