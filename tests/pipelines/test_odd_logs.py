"""Logs as they come: repeated answers, clocks, programs, missing arms, broken files."""

import json

import fake_audit
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairness_losses.errors import InvalidInputError
from pipelines.audit.job import audit_files
from pipelines.audit.list_files import ListFiles
from pipelines.audit.log_oddities import find_oddities
from pipelines.audit.read_lists import BY_PROGRAM, find_programs
from serving.log.lists import SCHEMA

NOON = 1_714_564_800


def config(**audit):
    small = {"ks": [10], "bootstrap_samples": 100, "min_users": 20, **audit}
    return fake_audit.config(audit=small)


class Lists:
    """One list of each of 60 users, and what else a test puts there."""

    def __init__(self, folder):
        self.folder, self.world = folder, fake_audit.world(num_users=60, num_items=50, depth=10)
        for name in ("examples", "lists", "out"):
            (folder / name).mkdir()
        for name in ("catalogue", "users"):
            pq.write_table(self.world[name], folder / "examples" / f"{name}.parquet")
        lists = self.world["before"].select(["user_id", "candidate_ids", "policy"])
        lists = lists.append_column("model_version", pa.array(["1"] * 60))
        self.table = lists.append_column("list_id", pa.array([f"l{i}" for i in range(60)]))

    def write(self, *tables):
        for number, table in enumerate(tables):
            pq.write_table(table, self.folder / "lists" / f"{number}.parquet", row_group_size=1000)

    def audit(self, settings=None):
        settings = settings or config()
        files = ListFiles.find(str(self.folder / "lists" / "*.parquet"), settings.seed)
        out = self.folder / "out"
        counts = audit_files(settings, files, self.folder / "examples", out, "log")
        return counts, json.loads((out / "report.json").read_text())

    def of_user(self, user, number):
        """So many further lists of a user."""
        row = self.table.slice(int(user[1:]), 1)
        many = pa.concat_tables([row] * number).drop(["list_id"])
        return many.append_column("list_id", pa.array([f"{user}-{i}" for i in range(number)]))


@pytest.fixture
def lists(tmp_path):
    return Lists(tmp_path)


class TestPrograms:
    """10,000 requests of the user u0, in two files, beside 60 lists of as many users."""

    def test_a_programs_lists_are_counted_and_left_out(self, lists):
        bot = lists.of_user("u0", 10_000)
        lists.write(pa.concat_tables([lists.table, bot.slice(0, 4000)]), bot.slice(4000))
        counts, report = lists.audit()
        assert counts["left_out"] == {BY_PROGRAM: 10_001}
        assert (counts["read"], counts["audited"], counts["dead"]) == (10_060, 59, {})
        assert (report["overall"]["users"], report["overall"]["lists"]) == (59, 59)
        letters = (lists.folder / "out" / "dead_letter" / "lists.jsonl").read_text()
        assert letters.count(BY_PROGRAM) == 10_001

    def test_without_a_limit_they_are_audited(self, lists):
        lists.write(pa.concat_tables([lists.table, lists.of_user("u0", 1500)]))
        counts, report = lists.audit(config(max_lists_per_user=None))
        assert (counts["audited"], counts["left_out"]) == (1560, {})
        assert report["overall"]["users"] == 60

    def test_as_many_as_one_may_have_are_audited(self, lists):
        lists.write(pa.concat_tables([lists.table, lists.of_user("u0", 4)]))
        assert lists.audit(config(max_lists_per_user=5))[0]["audited"] == 64

    def test_lists_of_all_chunks_are_added_up(self):
        """User 7 has 3 lists in one chunk and 2 in another; user 9 has 4."""
        chunks = [([7, 9], [3, 4]), ([7, 8], [2, 1])]
        packed = [
            (np.array(u, np.uint64).tobytes(), np.array(n, np.int64).tobytes()) for u, n in chunks
        ]
        (found,) = find_programs((0, packed), 4)
        assert np.frombuffer(found, np.uint64).tolist() == [7]
        assert list(find_programs((0, packed), 5)) == []
        assert list(find_programs((0, packed), None)) == []


def test_an_answer_that_was_logged_twice_counts_once(lists):
    """A client that tries again gets a list of its own; the same list twice is one list."""
    lists.write(lists.table, lists.table.slice(0, 3))
    counts, report = lists.audit()
    assert counts["dead"] == {"another list has the same `user_id` and `list_id`": 3}
    assert report["overall"]["lists"] == 60


def test_lists_of_versions_that_nobody_knows_are_audited_and_counted_by_version(lists):
    versions = pa.array(["1"] * 50 + ["retriever/99"] * 7 + [None] * 3)
    lists.write(lists.table.set_column(3, "model_version", versions))
    counts, report = lists.audit()
    assert counts["served"] == [
        {"policy": "plain", "model_version": "1", "lists": 50},
        {"policy": "plain", "model_version": "retriever/99", "lists": 7},
        {"policy": "plain", "model_version": None, "lists": 3},
    ]
    assert report["run"]["model_version"] == ["1", None, "retriever/99"]


@pytest.mark.parametrize("place", ["footer", "pages"])
def test_a_truncated_file_stops_the_audit_and_is_named(lists, place):
    lists.write(lists.table, lists.of_user("u1", 400))
    path = lists.folder / "lists" / "1.parquet"
    data = path.read_bytes()
    if place == "footer":
        path.write_bytes(data[: len(data) // 2])
    else:  # As long as it was, with a hole.
        path.write_bytes(data[:100] + bytes(len(data) // 2) + data[100 + len(data) // 2 :])
    with pytest.raises(InvalidInputError, match=r"1\.parquet: .*damaged or cut short"):
        lists.audit()
    assert not (lists.folder / "out" / "report.json").exists()


def logged(seconds, arms, process="a", first=0):
    """A log of lists, of which nothing else is said."""
    number = len(seconds)
    columns = {
        "process": [process] * number,
        "sequence": range(first, first + number),
        "timestamp": [None if s is None else int(s * 1e6) for s in seconds],
        "arm": arms,
    }
    table = pa.table({n: pa.array(v, SCHEMA.field(n).type) for n, v in columns.items()})
    others = [f for f in SCHEMA if f.name not in columns]
    for field in others:
        table = table.append_column(field, pa.nulls(number, field.type))
    return table.select(SCHEMA.names)


class TestOddities:
    def found(self, tmp_path, *tables, now=NOON + 3600):
        paths = []
        for number, table in enumerate(tables):
            paths.append(str(tmp_path / f"{number}.parquet"))
            pq.write_table(table, paths[-1], row_group_size=3)
        return find_oddities(paths, now)

    def test_clocks_that_go_back_by_more_than_a_minute(self, tmp_path):
        """Of process a, the third list is 100 s before the second, the fourth 59 s."""
        times = [NOON, NOON + 200, NOON + 100, NOON + 141, NOON + 201]
        found = self.found(tmp_path, logged(times, ["x"] * 5))
        assert found["clock"] == {"backwards": 1, "ahead": 0, "without_time": 0}

    def test_the_order_is_that_of_the_numbers_not_of_the_files(self, tmp_path):
        later = logged([NOON + 500, NOON + 600], ["x"] * 2, first=2)
        earlier = logged([NOON, NOON + 100], ["x"] * 2)
        assert self.found(tmp_path, later, earlier)["clock"]["backwards"] == 0

    def test_every_process_has_a_clock_of_its_own(self, tmp_path):
        one, other = logged([NOON + 900], ["x"]), logged([NOON, NOON + 1], ["x"] * 2, "b")
        assert self.found(tmp_path, one, other)["clock"]["backwards"] == 0

    def test_times_after_now_and_no_times(self, tmp_path):
        times = [NOON, None, NOON + 3661, NOON + 3659]
        found = self.found(tmp_path, logged(times, ["x"] * 4))
        assert found["clock"] == {"backwards": 0, "ahead": 1, "without_time": 1}

    def test_lists_without_an_arm(self, tmp_path):
        found = self.found(tmp_path, logged([NOON] * 4, ["x", "", None, "y"]))
        assert found["without_arm"] == 2

    def test_where_no_list_has_an_arm_there_was_no_experiment(self, tmp_path):
        assert self.found(tmp_path, logged([NOON] * 2, ["", None]))["without_arm"] is None
