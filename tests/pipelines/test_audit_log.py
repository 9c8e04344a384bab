"""A serving log is audited as the same lists with the users' ids would be, without holding them."""

import json
import pathlib
import threading

import fake_audit
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairness_losses.errors import InvalidInputError
from pipelines.audit.job import audit_files
from pipelines.audit.list_files import ListFiles
from pipelines.audit.log_gaps import find_gaps
from pipelines.audit.pseudonyms import Pseudonyms
from pipelines.monitoring.watch import watch
from serving.log.answer import Answer
from serving.log.config import LogConfig
from serving.log.salts import kept_salts
from serving.log.writer import ListLog

DAY = 86_400
NOON = 1_714_564_800
SMALL = {"audit": {"ks": [10], "min_users": 5, "bootstrap_samples": 100}}


def config():
    monitoring = {"window": DAY, "bootstrap_samples": 100, "min_count": 1}
    return fake_audit.config(**SMALL, monitoring=monitoring)


def answers(lists: pa.Table, seconds: np.ndarray, at_once: int = 7):
    """The lists as a server answered them, some queries at once."""
    for start in range(0, len(lists), at_once):
        rows = lists.slice(start, at_once)
        ids = np.array([[i.encode() for i in row] for row in rows["candidate_ids"].to_pylist()])
        ids = ids.astype(object)
        users = np.array([u.encode() for u in rows["user_id"].to_pylist()], object)
        yield Answer(
            model="retriever",
            version=1,
            signature="serving_default",
            inputs={"user_id": users},
            outputs={
                "candidate_ids": ids,
                "scores": -np.ones(ids.shape).cumsum(axis=1),
                "groups": np.full(ids.shape, b"g", object),
                "policy": np.full(len(ids), b"plain", object),
                "model_version": np.full(len(ids), b"1", object),
            },
            arm="",
            unix_seconds=float(seconds[start]),
        )


class Logged:
    """The lists of 300 users, each served on two days, in a log and with the users' ids."""

    def __init__(self, root: pathlib.Path) -> None:
        tables = fake_audit.world(num_users=300, num_items=80, depth=10)
        self.root, self.examples = root, root / "examples"
        self.examples.mkdir()
        for name in ("catalogue", "users"):
            pq.write_table(tables[name], self.examples / f"{name}.parquet")
        twice = pa.concat_tables([tables["before"], tables["after"]])
        self.seconds = NOON + DAY * (np.arange(600) // 300)
        settings = LogConfig(directory=str(root / "log"), salts=str(root / "salts"))
        log = ListLog(settings)
        for number, one in enumerate(answers(twice, self.seconds, at_once=10)):
            assert log.append(one)
            if number % 20 == 19:
                assert log.flush(10)  # Three files of 200 lists.
        assert log.close().written == 600
        self.raw = pa.table(
            {
                "user_id": twice["user_id"],
                "list_id": [f"l{i}" for i in range(600)],
                "timestamp": self.seconds,
                "candidate_ids": twice["candidate_ids"],
                "policy": ["plain"] * 600,
                "model_version": ["1"] * 600,
            }
        )
        (root / "raw").mkdir()
        pq.write_table(self.raw, root / "raw" / "lists.parquet")

    @property
    def known(self) -> Pseudonyms:
        return Pseudonyms(self.root / "salts", self.examples / "users.parquet")

    def audit(self, name: str) -> tuple[dict, dict, str]:
        """Counts, report and dead letters of `log` or `raw`."""
        out = self.root / f"audit of {name}"
        out.mkdir()
        found = ListFiles.find(str(self.root / name / "*.parquet"), config().seed, self.known)
        counts = audit_files(config(), found, self.examples, out, "served")
        report = json.loads((out / "report.json").read_text())
        return counts, report, (out / "dead_letter" / "lists.jsonl").read_text()


@pytest.fixture
def logged(tmp_path):
    return Logged(tmp_path)


def test_the_audit_of_a_log_is_that_of_the_same_lists_with_ids(logged):
    """Also across a change of the salt: a user of two days is one user, resampled as one."""
    (counts, report, _), (expected_counts, expected, _) = map(logged.audit, ("log", "raw"))
    assert counts.pop("log") == {
        "processes": 1,
        "missing": 0,
        "periods_without_salt": [],
        "clock": {"backwards": 0, "ahead": 0, "without_time": 0},
        "without_arm": None,
    }
    assert counts == expected_counts
    assert expected["overall"]["users"] == 300
    assert set(expected["slices"]["gender"]) == {"F", "M", "unknown"}
    report["run"].pop("lists"), expected["run"].pop("lists")
    assert_close(report, expected)


def assert_close(value, expected):
    """Equal but for the order in which floats were added up."""
    if isinstance(expected, dict):
        assert value.keys() == expected.keys()
        for key, part in expected.items():
            assert_close(value[key], part)
    elif isinstance(expected, float):
        assert value == pytest.approx(expected, rel=1e-9)
    else:
        assert value == expected


def test_users_whose_salt_is_deleted_are_unknown_and_it_is_said(logged):
    first, second = kept_salts(logged.root / "salts")
    (logged.root / "salts" / f"{first}.salt").unlink()
    counts, report, _ = logged.audit("log")
    assert counts["log"]["periods_without_salt"] == [first]
    assert counts["audited"] == 600
    # 300 users whom nobody knows any more, and the 300 of the second day.
    assert report["overall"]["users"] == 600
    assert report["slices"]["gender"]["unknown"]["lists"] > 300
    assert report["slices"]["gender"]["F"]["lists"] < 150
    assert second - first == DAY


def test_dead_letters_of_a_log_name_no_user(logged):
    short = logged.raw.slice(0, 10).to_pylist()
    (path, *_) = sorted((logged.root / "log").glob("*.parquet"))
    table = pq.read_table(path)
    candidates = table["candidate_ids"].to_pylist()
    candidates[3] = ["no such item"]
    column = pa.array(candidates, table.schema.field("candidate_ids").type)
    place = table.column_names.index("candidate_ids")
    pq.write_table(table.set_column(place, "candidate_ids", column), path)
    counts, _, letters = logged.audit("log")
    assert counts["dead"] == {"an item is not in the catalogue": 1}
    assert json.loads(letters) == {
        "file": str(path),
        "row": 4,
        "reason": "an item is not in the catalogue",
    }
    assert short[3]["user_id"] not in letters


def test_a_log_without_salts_and_files_of_two_kinds_are_refused(logged):
    with pytest.raises(InvalidInputError, match=r"hashes of the users' ids\. Give `--salts`"):
        ListFiles.find(str(logged.root / "log" / "*.parquet"), 0)
    pq.write_table(logged.raw, logged.root / "log" / "raw.parquet")
    with pytest.raises(InvalidInputError, match=r"raw\.parquet: there is no column `user_hash`"):
        ListFiles.find(str(logged.root / "log" / "*.parquet"), 0, logged.known)


def test_missing_numbers_are_found_in_files_as_written_and_as_put_together(logged):
    paths = sorted(str(p) for p in (logged.root / "log").glob("*.parquet"))
    whole = pa.concat_tables([pq.read_table(path) for path in paths]).sort_by("sequence")
    other = whole.set_column(1, "process", pa.array(["other"] * 600))
    some = whole.filter(pa.array(np.isin(np.arange(600), [0, 5, 17, 599], invert=True)))
    both = str(logged.root / "both.parquet")
    pq.write_table(pa.concat_tables([some, other.slice(100, 50), other.slice(160, 40)]), both)
    found = find_gaps([both], logged.known)
    # Of the first process 5 and 17: what is before its first or after its last is not known.
    assert (found.processes, found.missing) == (2, 2 + 10)
    ends = [p for p in paths if pq.read_table(p)["sequence"][0].as_py() != 200]
    assert len(ends) == 2
    assert find_gaps(ends, logged.known).missing == 200


def test_a_watch_over_a_log_reports_the_windows_of_its_times(logged):
    out = logged.root / "monitoring"
    pattern = str(logged.root / "log" / "*.parquet")
    salts = logged.root / "salts"
    counts = watch(
        config(), pattern, logged.examples, out, threading.Event(), 0.2, poll=0.1, salts=salts
    )
    assert counts == {"read": 600, "audited": 600, "dead": 0}
    reports = [json.loads(p.read_text()) for p in sorted((out / "windows").glob("*.json"))]
    assert [r["overall"]["users"] for r in reports] == [300, 300]
    assert reports[0]["slices"]["gender"]["F"]["users"] > 50
