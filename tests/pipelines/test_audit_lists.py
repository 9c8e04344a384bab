"""Audits of list files with Beam, beside the audit in memory."""

import json
import pathlib

import fake_audit
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairness_losses.bootstrap import percentile_interval
from fairness_losses.errors import InvalidInputError
from pipelines.audit.figures import audit, measure
from pipelines.audit.job import audit_files
from pipelines.audit.list_files import ListFiles
from pipelines.audit.meter import Meter
from pipelines.audit.poisson import poisson_counts
from pipelines.audit.read_lists import find_repeats
from pipelines.readers.chunks import with_origin

SERVED = {"policy": ["plain"], "model_version": ["1"]}


def with_strings(lists: pa.Table) -> pa.Table:
    return lists.set_column(3, "model_version", pa.array(["1"] * len(lists)))


def write_examples(folder: pathlib.Path, tables: dict) -> pathlib.Path:
    folder.mkdir()
    pq.write_table(tables["catalogue"], folder / "catalogue.parquet")
    pq.write_table(tables["users"], folder / "users.parquet")
    return folder


def audited(tmp_path, tables, files, config=None, positives=True, **options):
    """Counts and report of files of lists."""
    config = config or fake_audit.config()
    examples = write_examples(tmp_path / "examples", tables)
    (tmp_path / "lists").mkdir()
    (tmp_path / "out").mkdir()
    for number, table in enumerate(files):
        pq.write_table(table, tmp_path / "lists" / f"{number}.parquet", **options)
    pairs = None
    if positives:
        pairs = tmp_path / "positives.parquet"
        pq.write_table(tables["relevant"], pairs)
    found = ListFiles.find(str(tmp_path / "lists" / "*.parquet"), config.seed)
    counts = audit_files(config, found, examples, tmp_path / "out", "log", pairs)
    assert sum(kind["lists"] for kind in counts["served"]) == counts["audited"]
    counts = {name: counts[name] for name in ("read", "audited", "dead")}
    return counts, json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))


def letters(tmp_path) -> list[dict]:
    lines = (tmp_path / "out" / "dead_letter" / "lists.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in lines.splitlines()]


def leaves(value, path=()):
    if not isinstance(value, dict):
        yield path, value
        return
    for key, inner in value.items():
        yield from leaves(inner, (*path, key))


class TestTheSameListsInMemory:
    """2,400 lists in three files of several row groups, and all at once."""

    @pytest.fixture(scope="class")
    def reports(self, tmp_path_factory):
        tables, config = fake_audit.world(), fake_audit.config()
        shared = [tables[name] for name in ("catalogue", "users", "relevant")]
        expected = audit(measure(tables["before"], *shared, config, {"variant": "log"}), config)
        lists = with_strings(tables["before"])
        files = [lists.slice(start, 800) for start in (0, 800, 1600)]
        counts, report = audited(
            tmp_path_factory.mktemp("same"), tables, files, config, row_group_size=300
        )
        return expected, counts, report

    def test_every_list_is_audited(self, reports):
        assert reports[1] == {"read": 2400, "audited": 2400, "dead": {}}

    def test_the_report_has_the_same_shape_and_figures(self, reports):
        expected, _, report = reports
        pattern = report["run"].pop("lists")
        assert pattern.endswith("*.parquet")
        assert report["run"].pop("model_version") == ["1"]
        expected["run"].pop("model_version")
        found = dict(leaves(report))
        assert list(found) == [path for path, _ in leaves(expected)]
        for path, value in leaves(expected):
            if path[-1] not in ("low", "high"):
                assert found[path] == (
                    pytest.approx(value, rel=1e-9, abs=1e-12) if isinstance(value, float) else value
                ), path

    def test_intervals_agree_with_those_of_the_multinomial_bootstrap(self, reports):
        """Ends are quantiles of 1,000 draws: they differ by chance, not in one direction."""
        expected, _, report = reports
        apart = []
        for (path, was), (_, now) in zip(leaves(expected), leaves(report), strict=True):
            if path[-1] in ("low", "high") and path[-2] == "exposure_ratio":
                width = _at(expected, path[:-1])["high"] - _at(expected, path[:-1])["low"]
                apart.append((now - was) / width)
        assert len(apart) > 80
        assert abs(np.mean(apart)) < 0.02
        assert np.abs(apart).max() < 0.2

    def test_intervals_are_as_wide_as_those_of_the_multinomial_bootstrap(self, reports):
        expected, _, report = reports
        ratios = []
        for path, was in leaves(expected):
            if path[-1] == "high" and "groups" in path:
                now, low = _at(report, path[:-1]), _at(expected, path[:-1])["low"]
                ratios.append((now["high"] - now["low"]) / (was - low))
        assert np.mean(ratios) == pytest.approx(1.0, abs=0.02)


def _at(report, path):
    for step in path:
        report = report[step]
    return report


def small_tables() -> tuple[dict, pa.Table]:
    """60 users with three lists each, of ids of their own."""
    tables = fake_audit.world(num_users=60, num_items=50, depth=10)
    lists = pa.concat_tables([with_strings(tables[n]) for n in ("before", "after", "before")])
    ids = [f"l{i}" for i in range(180)]
    return tables, lists.append_column("list_id", pa.array(ids))


def small_config(**changes):
    raw = {"audit": {"ks": [10], "bootstrap_samples": 100, "min_users": 20}, **changes}
    return fake_audit.config(**raw)


def test_a_user_may_have_several_lists_with_ids_of_their_own(tmp_path):
    tables, lists = small_tables()
    counts, report = audited(tmp_path, tables, [lists], small_config())
    assert counts == {"read": 180, "audited": 180, "dead": {}}
    assert (report["overall"]["users"], report["overall"]["lists"]) == (60, 180)


def test_many_lists_of_few_users_are_suppressed_all_the_same(tmp_path):
    """19 users with three lists each are 57 lists, and still 19 people."""
    tables, lists = small_tables()
    few = lists.filter(pa.array(np.isin(lists["user_id"].to_numpy(), [f"u{i}" for i in range(19)])))
    counts, report = audited(tmp_path, tables, [few], small_config())
    assert counts["audited"] == 57
    assert report["overall"] == {"suppressed": True}


def test_ndkl_of_many_lists_of_few_users_is_withheld(tmp_path):
    """One user's 25 lists hold an item of a group, those of 19 others none: one person's NDKL."""
    users, ids = ["u0"] * 25 + [f"u{i}" for i in range(1, 20)], [f"l{i}" for i in range(44)]
    items = [["a"]] * 25 + [["x"]] * 19
    served = {name: value * 44 for name, value in SERVED.items()}
    lists = pa.table({"user_id": users, "list_id": ids, "candidate_ids": items, **served})
    tables = {
        "catalogue": pa.table({"item_id": ["a", "b", "x"], "group": ["f", "m", "unknown"]}),
        "users": pa.table({"user_id": users[24:], "slice.gender": ["F"] * 20}),
    }
    raw = {"audit": {"ks": [1], "bootstrap_samples": 100, "min_users": 20}}
    config = fake_audit.config(**raw, slices=[{"column": "gender"}])
    _, report = audited(tmp_path, tables, [lists], config, positives=False)
    for cell in (report["overall"], report["slices"]["gender"]["F"]):
        assert (cell["users"], cell["lists"]) == (20, 44)
        assert cell["across_groups"]["ndkl"] is None
        assert cell["across_groups"]["diversity"]["count"] == 44


def test_positives_whose_ids_are_numbers_are_found(tmp_path):
    """The user 5 chose the item 0, which stands second: strings in the list, numbers here."""
    catalogue = pa.table({"item_id": ["0", "1"], "group": ["male", "female"]})
    users = pa.table({"user_id": ["5"], "slice.gender": ["F"], "slice.age": ["45+"]})
    one = pa.table({"user_id": ["5"], "candidate_ids": [["1", "0"]], **SERVED})
    tables = {"catalogue": catalogue, "users": users}
    tables["relevant"] = pa.table({"user_id": [5], "item_id": [0]})
    config = small_config(audit={"ks": [2], "min_users": 1})
    _, report = audited(tmp_path, tables, [one], config)
    assert report["overall"]["quality"]["mrr@2"]["value"] == 0.5


def test_without_positives_quality_is_not_measured(tmp_path):
    tables, lists = small_tables()
    _, report = audited(tmp_path, tables, [lists], small_config(), positives=False)
    assert set(report["overall"]["quality"].values()) == {None}
    assert report["overall"]["users_with_positives"] is None
    assert report["overall"]["groups"]["male"]["exposure_ratio"] is not None


def test_lists_that_cannot_be_audited_are_dead_letters(tmp_path):
    tables, lists = small_tables()
    bad = lists.slice(0, 6).to_pylist()
    bad[0]["candidate_ids"] = ["i1", "i2", "i1"]
    bad[1]["candidate_ids"] = ["i1", "i0", "nowhere"]
    bad[2]["candidate_ids"] = []
    bad[3]["candidate_ids"] = None
    bad[4]["user_id"] = None
    bad[5]["candidate_ids"] = ["i1", None]
    for number, row in enumerate(bad):
        row["list_id"] = f"bad{number}"
    files = [lists, pa.concat_tables([pa.Table.from_pylist(bad, lists.schema), lists.slice(7, 2)])]
    config = small_config(data={"dataset": "synthetic", "max_dead_letter_share": 0.1})
    counts, report = audited(tmp_path, tables, files, config)
    assert counts == {
        "read": 188,
        "audited": 180,
        "dead": {
            "an item is not in the catalogue": 2,
            "the list is empty": 2,
            "another list has the same `user_id` and `list_id`": 2,
            "an item is listed twice": 1,
            "`user_id` is empty": 1,
        },
    }
    assert report["overall"]["lists"] == 180
    dead = letters(tmp_path)
    assert [(row["row"], row["reason"]) for row in dead] == [
        (1, "an item is listed twice"),
        (2, "an item is not in the catalogue"),
        (3, "the list is empty"),
        (4, "the list is empty"),
        (5, "`user_id` is empty"),
        (6, "an item is not in the catalogue"),
        (7, "another list has the same `user_id` and `list_id`"),
        (8, "another list has the same `user_id` and `list_id`"),
    ]
    assert {pathlib.Path(row["file"]).name for row in dead} == {"1.parquet"}


@pytest.mark.parametrize("ids", [["user_id"], ["user_id", "list_id"]])
def test_lists_without_an_id_do_not_repeat_one_another(tmp_path, ids):
    """Of two files without the last id in their first two rows each."""
    tables, lists = small_tables()
    lists = lists.slice(0, 60)
    if "list_id" not in ids:
        lists = lists.drop(["list_id"])
    rows = lists.to_pylist()
    for row in (*rows[:2], *rows[30:32]):
        row[ids[-1]] = None
        row["user_id"] = row["user_id"] and "u0"  # Of one user, if of any.
    nameless = pa.Table.from_pylist(rows, lists.schema)
    config = small_config(data={"dataset": "synthetic", "max_dead_letter_share": 0.1})
    files = [nameless.slice(0, 30), nameless.slice(30)]
    counts, _ = audited(tmp_path, tables, files, config)
    assert counts == {"read": 60, "audited": 56, "dead": {f"`{ids[-1]}` is empty": 4}}


def test_too_many_dead_letters_stop_the_audit(tmp_path):
    tables, lists = small_tables()
    with pytest.raises(InvalidInputError) as error:
        audited(tmp_path, tables, [lists, lists.slice(0, 20)], small_config())
    message = str(error.value)
    assert "20 of 200 lists (10.0%)" in message
    assert "`data.max_dead_letter_share` is 5.0%" in message
    assert "1.parquet, row 1" in message


def test_without_ids_every_user_has_one_list(tmp_path):
    """The first file's stays, wherever it is read; in one file the first row's."""
    tables, _ = small_tables()
    first, second = (with_strings(tables[name]) for name in ("before", "after"))
    config = small_config(data={"dataset": "synthetic", "max_dead_letter_share": 0.7})
    counts, report = audited(tmp_path, tables, [pa.concat_tables([first, second]), second], config)
    assert counts["audited"] == 60
    assert counts["dead"] == {"another list has the same `user_id`": 120}
    shared = [tables[name] for name in ("catalogue", "users", "relevant")]
    expected = audit(measure(first, *shared, config, {}), config)
    value = report["overall"]["groups"]["male"]["exposure_ratio"]["value"]
    assert value == pytest.approx(
        expected["overall"]["groups"]["male"]["exposure_ratio"]["value"], rel=1e-9
    )


def test_repeats_are_found_whatever_the_order_of_the_parts():
    """Chunks (0, 0), (0, 50) and (1, 0): the later one of two with the same id is told."""

    def part(file, row, *hashes):
        return file, row, np.array(hashes, np.uint64).tobytes()

    parts = [part(0, 0, 1, 2, 3), part(0, 50, 3, 4), part(1, 0, 1, 4, 5)]
    expected = {(0, 50): [3], (1, 0): [1, 4]}
    for ids in (parts, parts[::-1]):
        found = {
            chunk: np.frombuffer(hashes, np.uint64).tolist()
            for chunk, hashes in find_repeats((7, ids))
        }
        assert found == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(["policy"]), "there is no column `policy`"),
        (
            lambda t: t.drop(["candidate_ids"]).append_column(
                "candidate_ids", pa.array([[1]] * len(t))
            ),
            "`candidate_ids` should be a list of strings",
        ),
    ],
)
def test_files_of_another_kind_are_refused(tmp_path, change, message):
    tables, lists = small_tables()
    with pytest.raises(InvalidInputError, match=message):
        audited(tmp_path, tables, [change(lists)], small_config())


def test_files_that_only_partly_have_ids_are_refused(tmp_path):
    tables, lists = small_tables()
    with pytest.raises(InvalidInputError, match="no column `list_id`, which other files have"):
        audited(tmp_path, tables, [lists, lists.drop(["list_id"])], small_config())


def test_a_truncated_file_is_said_to_be_damaged(tmp_path):
    _, lists = small_tables()
    pq.write_table(lists, tmp_path / "whole.parquet")
    data = (tmp_path / "whole.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidInputError, match="damaged or cut short"):
        ListFiles.find(str(tmp_path / "cut.parquet"), 0)


def test_the_result_does_not_depend_on_how_lists_are_divided():
    """One list at a time, or all at once, plain or dictionary-encoded."""
    tables, lists = small_tables()
    config = small_config()
    meter = Meter.of(tables["catalogue"], tables["users"], tables["relevant"], config, 50)
    lists = with_origin(lists, 0, np.arange(len(lists)))
    whole, dead = meter.measure(lists)
    assert not len(dead)
    total = meter.empty()
    for row in np.random.default_rng(0).permutation(len(lists)):
        part = lists.slice(int(row), 1)
        items = part["candidate_ids"].combine_chunks()
        encoded = pa.ListArray.from_arrays(
            pa.array([0, len(items.flatten())], pa.int32()), items.flatten().dictionary_encode()
        )
        total += meter.measure(part.set_column(1, "candidate_ids", encoded))[0]
    np.testing.assert_array_equal(total.lists, whole.lists)
    np.testing.assert_allclose(total.resampled, whole.resampled, rtol=1e-12, atol=1e-12)
    report = meter.report(total, config, {})
    expected = dict(leaves(meter.report(whole, config, {})))
    for path, value in leaves(report):
        assert value == (pytest.approx(expected[path]) if isinstance(value, float) else value)


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say():
    """600 samples of 200 users from one population: a nominal 95 % covers 93 to 97 %.

    Users have one to four lists, which resemble one another, so that lists drawn one by one would
    give intervals that are far too narrow.
    """
    rng = np.random.default_rng(5)
    truth, rounds = 0.3, 600
    covered = {"user": 0, "list": 0}
    for turn in range(rounds):
        user = np.repeat(np.arange(200), rng.integers(1, 5, 200))
        taste = rng.beta(3, 7, 200)
        sums = np.column_stack([rng.binomial(100, taste[user]), np.full(len(user), 100)])
        hashes = {"user": random_hashes(rng, 200)[user], "list": random_hashes(rng, len(user))}
        for unit, drawn_together in hashes.items():
            drawn = poisson_counts(drawn_together, 400, turn).T @ sums
            low, high = percentile_interval(drawn[:, 0] / drawn[:, 1], 0.95)
            covered[unit] += low <= truth <= high
    assert 0.93 <= covered["user"] / rounds <= 0.97
    assert covered["list"] / rounds < 0.9


def test_notes_of_parts_add_up_to_those_of_all():
    """The users of the sample have all their lists, however the lists were divided."""
    tables, lists = small_tables()
    config = small_config(audit={"ks": [10], "test_users": 7, "bootstrap_samples": 100})
    meter = Meter.of(tables["catalogue"], tables["users"], None, config, 20)
    lists = with_origin(lists, 0, np.arange(len(lists)))
    whole = meter.measure(lists)[0].notes
    parts = [meter.measure(lists.slice(start, 13))[0] for start in range(0, len(lists), 13)]
    total = meter.empty()
    for part in reversed(parts):
        total += part
    assert len(total.notes.sample.users) == 7
    np.testing.assert_array_equal(total.notes.sample.users, whole.sample.users)
    np.testing.assert_allclose(total.notes.sample.sums, whole.sample.sums)
    np.testing.assert_array_equal(total.notes.shown, whole.shown)
    assert total.notes.served == whole.served == {("plain", "1"): 180}


def random_hashes(rng, number):
    return rng.integers(0, 2**63, number).astype(np.uint64)
