"""A folder is watched while files arrive in it, renamed into place."""

import json
import pathlib
import threading
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.audit.list_files import ListFiles
from pipelines.audit.read_lists import DEAD
from pipelines.config import RunConfig
from pipelines.examples.arrow_ipc import from_bytes
from pipelines.monitoring.folder import LISTINGS, Arrival, FolderStream
from pipelines.monitoring.watch import ReadArrival, watch

DEADLINE = 60.0
"""Seconds after which something that should happen will not."""

START = 1_700_000_040  # The beginning of a minute.


def config() -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "watched",
            "data": {"dataset": "synthetic"},
            "groups": {"columns": ["group"]},
            "slices": [{"column": "gender"}],
            # At this level one user is enough for an alert.
            "audit": {"ks": [2], "min_users": 1, "confidence": 0.5},
            "monitoring": {
                "window": 60,
                "max_delay": 10,
                "allowed_lateness": 120,
                "bootstrap_samples": 100,
                "min_count": 1,
            },
        }
    )


class Watched:
    """A folder and the watch over it, in a thread."""

    def __init__(self, root: pathlib.Path) -> None:
        self.lists, self.out, self.examples = (root / n for n in ("lists", "out", "examples"))
        self.lists.mkdir()
        self.examples.mkdir()
        catalogue = pa.table({"item_id": list("abcd"), "group": ["f", "f", "m", "m"]})
        users = pa.table({"user_id": ["u1", "u2"], "slice.gender": ["F", "M"]})
        pq.write_table(catalogue, self.examples / "catalogue.parquet")
        pq.write_table(users, self.examples / "users.parquet")
        self.start()

    def start(self) -> None:
        self.stop, self.counts, self.error = threading.Event(), None, None
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        try:
            pattern = str(self.lists / "*.parquet")
            self.counts = watch(config(), pattern, self.examples, self.out, self.stop, poll=0.1)
        except BaseException as error:
            self.error = error

    def arrive(self, name: str, *lists: tuple, damaged: bool = False) -> None:
        """A file of lists: (id, user, seconds after the start, items)."""
        ids, users, seconds, items = zip(*lists, strict=True)
        columns = {
            "list_id": list(ids),
            "user_id": list(users),
            "timestamp": [START + s for s in seconds],
            "candidate_ids": pa.array([list(row) for row in items], pa.list_(pa.string())),
            "policy": ["plain"] * len(ids),
            "model_version": ["1"] * len(ids),
        }
        temporary = self.lists / f".{name}.tmp"
        pq.write_table(pa.table(columns), temporary, row_group_size=2)
        if damaged:
            overwrite_items(temporary)
        temporary.rename(self.lists / f"{name}.parquet")

    def lists_of(self, minute: int) -> int | None:
        """How many lists the report of a minute is of; None if there is no report."""
        reports = {
            json.loads(path.read_text())["window"]["start"]: path
            for path in (self.out / "windows").glob("[0-9]*.json")
        }
        start = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(START + 60 * minute))
        if start not in reports:
            return None
        return json.loads(reports[start].read_text())["overall"]["lists"]

    def until(self, happened) -> None:
        end = time.monotonic() + DEADLINE
        while not happened():
            assert self.error is None, self.error
            assert time.monotonic() < end, "it did not happen"
            time.sleep(0.02)

    def end(self) -> dict:
        self.stop.set()
        self.thread.join(DEADLINE)
        assert self.error is None
        return self.counts

    def lines(self, name: str) -> list[dict]:
        return [json.loads(line) for line in (self.out / name).read_text().splitlines()]


def overwrite_items(path: pathlib.Path) -> None:
    """Overwrites the items of the last row group; the footer and all other columns stay."""
    metadata = pq.ParquetFile(path).metadata
    last = metadata.row_group(metadata.num_row_groups - 1)
    chunks = [last.column(i) for i in range(last.num_columns)]
    (items,) = (c for c in chunks if c.path_in_schema.startswith("candidate_ids"))
    with path.open("r+b") as file:
        file.seek(items.dictionary_page_offset)
        file.write(b"\xff" * items.total_compressed_size)


@pytest.fixture
def watched(tmp_path):
    watched = Watched(tmp_path)
    yield watched
    watched.stop.set()
    watched.thread.join(DEADLINE)


def test_files_are_reported_corrected_and_left_out_as_they_arrive(watched):
    watched.arrive("1", ("l1", "u1", 5, "ab"), ("l2", "u2", 50, "ab"))
    watched.arrive("2", ("l3", "u1", 75, "ac"))
    watched.until(lambda: watched.lists_of(0) == 2)
    # One list of the first minute comes late; one comes again.
    watched.arrive("3", ("l4", "u2", 20, "ca"), ("l1", "u1", 5, "ab"))
    watched.until(lambda: watched.lists_of(0) == 3)
    assert watched.lists_of(1) is None
    # Four minutes later the first one is over; the last list is in no catalogue.
    watched.arrive("4", ("l5", "u1", 400, "ac"))
    watched.until(lambda: watched.lists_of(1) == 1)
    watched.arrive("5", ("l6", "u1", 30, "ac"), ("l7", "u1", 401, "xy"))
    watched.until(lambda: len(watched.lines("dead_letter/lists.jsonl")) == 3)
    assert watched.end() == {"read": 8, "audited": 5, "dead": 3}
    assert watched.lists_of(0) == 3
    assert watched.lists_of(6) == 1
    letters = {
        (pathlib.Path(row["file"]).name, row["row"]): row["reason"]
        for row in watched.lines("dead_letter/lists.jsonl")
    }
    assert letters == {
        ("3.parquet", 2): "another list has the same `user_id` and `list_id`",
        ("5.parquet", 1): "the list comes later than `monitoring.allowed_lateness`",
        ("5.parquet", 2): "an item is not in the catalogue",
    }
    told = [
        (a["event"], a["withdrawn"])
        for a in watched.lines("alerts.jsonl")
        if (a["group"], a["slice_value"]) == ("f", "F")
    ]
    # u1 saw f alone in the first minute, and both groups alike in the second.
    assert told == [("raised", False), ("resolved", False)]


def test_ids_may_be_numbers(watched):
    """As `fairtowers audit-lists` has them."""
    watched.arrive("1", (1, 7, 5, "ab"), (2, 7, 6, "ab"), (1, 7, 5, "ab"))
    watched.until(lambda: _exists(watched) and len(watched.lines("files.jsonl")) == 1)
    assert watched.end() == {"read": 3, "audited": 2, "dead": 1}


def test_times_are_handed_on_as_seconds_and_what_is_none_is_told(watched):
    watched.end()
    watched.arrive("1", ("l1", "u1", 5, "ab"), ("l2", "u1", 6, "ab"))
    path = watched.lists / "1.parquet"
    table = pq.read_table(path)
    times = pa.array(["2023-11-14T22:14:05Z", "yesterday"])
    pq.write_table(
        table.set_column(table.column_names.index("timestamp"), "timestamp", times), path
    )
    files = ListFiles.find(str(path), 0)
    (found,) = ReadArrival(config()).process(Arrival(files, files.chunks[0], 0.0))
    assert from_bytes(found)["timestamp"].to_pylist() == [START + 5, None]
    watched.start()
    watched.until(lambda: watched.lines("files.jsonl"))
    assert watched.end() == {"read": 2, "audited": 1, "dead": 1}
    (letter,) = watched.lines("dead_letter/lists.jsonl")
    assert letter["reason"].startswith("`timestamp` is neither seconds")


def test_a_broken_file_is_told_and_the_others_are_read(watched):
    (watched.lists / "0.parquet").write_bytes(b"PAR1 but nothing else")
    watched.arrive("1", ("l1", "u1", 5, "ab"))
    watched.until(lambda: _exists(watched) and len(watched.lines("files.jsonl")) == 2)
    assert watched.end() == {"read": 1, "audited": 1, "dead": 0}
    broken, good = watched.lines("files.jsonl")
    assert "damaged" in broken["problem"]
    assert good["problem"] is None
    assert watched.lists_of(0) == 1


def test_lists_of_a_damaged_file_are_dead_letters_and_the_others_are_read(watched):
    """The footer and the times can be read, and the items of the first four lists."""
    lists = [(f"l{i}", "u1", i, "ab") for i in range(5)]
    watched.arrive("1", *lists, damaged=True)
    watched.arrive("2", ("l9", "u2", 9, "ac"))
    watched.until(lambda: _exists(watched) and len(watched.lines("files.jsonl")) == 2)
    assert watched.end() == {"read": 6, "audited": 5, "dead": 1}
    (letter,) = watched.lines("dead_letter/lists.jsonl")
    assert (pathlib.Path(letter["file"]).name, letter["row"]) == ("1.parquet", 5)
    assert letter["reason"] == "the file is damaged, or was moved before it was read"


def test_lists_of_a_file_that_was_moved_away_are_dead_letters(watched):
    watched.end()
    watched.arrive("1", *[(f"l{i}", "u1", i, "ab") for i in range(3)])
    files = ListFiles.find(str(watched.lists / "1.parquet"), 0)
    (watched.lists / "1.parquet").unlink()
    (found,) = ReadArrival(config()).process(Arrival(files, files.chunks[0], 0.0))
    assert found.tag == DEAD
    assert from_bytes(found.value)["__row"].to_pylist() == [1, 2, 3]


def failing(monkeypatch, name: str, times: int) -> list[OSError]:
    """Makes a method of the folder fail so often; returns the errors that it will still raise."""
    works, left = getattr(FolderStream, name), [OSError(f"no route, {n}") for n in range(times)]

    def method(self, *arguments):
        if left:
            raise left.pop()
        return works(self, *arguments)

    monkeypatch.setattr(FolderStream, name, method)
    return left


def test_a_folder_that_cannot_be_listed_for_a_while_is_listed_again(watched, monkeypatch):
    left = failing(monkeypatch, "_files", LISTINGS - 1)
    watched.until(lambda: not left)
    watched.arrive("1", ("l1", "u1", 5, "ab"))
    watched.until(lambda: watched.lines("files.jsonl"))
    assert watched.end() == {"read": 1, "audited": 1, "dead": 0}


@pytest.mark.parametrize(("name", "times"), [("_files", LISTINGS), ("_arrivals", 1)])
def test_an_error_of_the_folder_ends_the_watch_as_one(watched, monkeypatch, name, times):
    """The runner takes it for the end of the stream; the watch should not."""
    failing(monkeypatch, name, times)
    watched.arrive("1", ("l1", "u1", 5, "ab"))
    watched.thread.join(DEADLINE)
    assert "no route, 0" in str(watched.error)
    assert watched.counts is None


def _exists(watched) -> bool:
    return (watched.out / "files.jsonl").is_file()


def test_a_watch_that_is_started_again_comes_to_the_same_reports(watched):
    watched.arrive("1", ("l1", "u1", 5, "ab"), ("l2", "u2", 50, "ab"))
    watched.arrive("2", ("l3", "u1", 75, "ac"))
    watched.until(lambda: watched.lists_of(0) == 2)
    watched.end()
    first = {p.name: p.read_text() for p in (watched.out / "windows").glob("[0-9]*")}
    alerts = watched.lines("alerts.jsonl")
    watched.start()
    watched.until(lambda: len(watched.lines("panes.jsonl")) == 1)
    assert watched.end() == {"read": 3, "audited": 3, "dead": 0}
    again = {p.name: p.read_text() for p in (watched.out / "windows").glob("[0-9]*")}
    assert again == first
    assert watched.lines("alerts.jsonl") == alerts


def test_a_clock_that_is_ahead_makes_no_other_list_late(watched):
    """A list of the year 2100 waits in its window; one of this hour, after it, still counts."""
    now = int(time.time()) - START
    watched.arrive("1", ("l1", "u1", 4_102_444_800 - START, "ab"))
    watched.until(lambda: _exists(watched) and len(watched.lines("files.jsonl")) == 1)
    watched.arrive("2", ("l2", "u2", now, "ac"))
    watched.until(lambda: len(watched.lines("files.jsonl")) == 2)
    assert watched.end() == {"read": 2, "audited": 2, "dead": 0}
