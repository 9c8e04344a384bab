"""The Beam pipeline from files to examples, end to end."""

import json
import pathlib
from collections import Counter

import apache_beam as beam
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from apache_beam.metrics.metric import MetricsFilter
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from small_log import (
    ITEMS,
    LOG,
    build,
    config,
    examples,
    pairs,
    records,
    rows,
    write_files,
    write_gzip,
)

from fairness_losses.errors import InvalidInputError
from pipelines.config import RunConfig
from pipelines.examples.inputs import plan_inputs
from pipelines.examples.pipeline import assemble
from pipelines.examples.steps import METRICS


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("small")
    build(config(write_files(folder)), folder / "out")
    return folder / "out"


def test_an_example_joins_both_tables(built):
    (first, *_) = examples(built, "train")
    assert first == {
        "user_id": ["u1"],
        "item_id": ["i1"],
        "timestamp": [100],
        "country": ["NO"],
        "slice.gender": ["F"],
        "slice.age": ["25–44"],
        "group": ["women"],
        "genres": ["a", "b"],
        "year": [1990.0],
        "title": ["One"],
    }


def test_missing_labels_are_unknown_and_missing_text_is_empty(built):
    (last,) = examples(built, "test")
    assert last["slice.gender"] == ["unknown"]
    (validation,) = examples(built, "validation")
    assert validation["group"] == ["unknown"]
    assert validation["title"] == [""]


def test_time_split_holds_out_the_latest(built):
    """Of five interactions, 20 % each: the last is for the test, the one before for validation."""
    assert pairs(built, "train") == [("u1", "i1"), ("u1", "i2"), ("u2", "i1")]
    assert pairs(built, "validation") == [("u2", "i3")]
    assert pairs(built, "test") == [("u3", "i2")]


def test_catalogue_and_users_hold_features_labels_and_training_frequency(built):
    assert rows(built / "catalogue.parquet") == [
        {"item_id": i, "group": g, "frequency": f, "genres": c, "year": y, "title": t}
        for i, g, f, c, y, t in [
            ("i1", "women", 2, ["a", "b"], 1990.0, "One"),
            ("i2", "men", 1, ["b"], 2000.0, "Two words"),
            ("i3", "unknown", 0, ["a"], 2010.0, ""),
        ]
    ]
    assert rows(built / "users.parquet")[2] == {
        "user_id": "u3",
        "country": "NO",
        "slice.gender": "unknown",
        "slice.age": "45+",
    }


def test_vocabularies_count_training_examples_most_frequent_first(built):
    """i1 (a, b) twice and i2 (b) once: b 3, a 2. u3 is in no training example."""
    vocabularies = {p.stem: rows(p) for p in (built / "vocabularies").iterdir()}
    counts = {n: [(r["value"], r["count"]) for r in v] for n, v in vocabularies.items()}
    assert counts == {
        "user_id": [("u1", 2), ("u2", 1)],
        "item_id": [("i1", 2), ("i2", 1)],
        "country": [("NO", 2), ("SE", 1)],
        "genres": [("b", 3), ("a", 2)],
    }


def test_positives_count_training_examples_per_slice_and_group(built):
    """u1, F and 30, chose i1 of women and i2 of men; u2, M and 24, chose i1."""

    def cell(users: int, men: int, women: int) -> dict:
        return {"users": users, "positives": {"men": men, "unknown": 0, "women": women}}

    assert json.loads((built / "positives.json").read_text()) == {
        "gender": {"F": cell(1, 1, 1), "M": cell(1, 0, 1), "unknown": cell(0, 0, 0)},
        "age": {"0–24": cell(1, 0, 1), "25–44": cell(1, 1, 1), "45+": cell(0, 0, 0)},
    }


def test_groups_say_their_shares_of_catalogue_and_training(built):
    groups = json.loads((built / "groups.json").read_text())
    assert groups["labels"] == ["men", "women", "unknown"]
    assert groups["catalogue_share"] == pytest.approx(dict.fromkeys(groups["labels"], 1 / 3))
    assert groups["train_share"] == pytest.approx({"men": 1 / 3, "women": 2 / 3, "unknown": 0})


BAD_LOG = """\
who,what,when
u1,i1,100
,i1,100
u1,,100
u1,i2,yesterday
u1,i2
u9,i1,100
u1,i9,100
u1,i1,100
u1,i3,1600000000000
u2,i2,2020-01-01
u2,i1,2020-01-01T01:00:00+01:00
"""
BAD_USERS = """\
id,gender,age,country
u1,F,30,NO
,M,30,NO
u2,M,thirty,NO
u2,M,-5,NO
u1,M,30,SE
"""
BAD_ITEMS = """\
id,maker,genres,year,title
i1,women,a,1990,One
i2,men,,old,Two
i2,men,,2000,Two
i3,men,a,,Three
i3,men,a,inf,Three
i3,men,a,1991,"Three
lines, and a comma"
"""


def test_every_bad_row_is_a_dead_letter_with_its_place_and_reason(tmp_path):
    split = {"by": "hash", "test": 0.5}
    run = config(write_files(tmp_path, BAD_LOG, BAD_USERS, BAD_ITEMS), split=split)
    counts = build(run, tmp_path / "out")

    time = "`when` is neither seconds since 1970 nor an ISO 8601 date or time"
    year = "`year` is missing or not a finite number"
    ragged = "the row has another number of cells than the header"
    assert _dead(tmp_path / "out", "interactions") == [
        (2, "`who` is empty", None, "i1"),
        (3, "`what` is empty", "u1", None),
        (4, time, "u1", "i2"),
        (5, ragged, None, None),
        (6, "the user is not in the users table", "u9", "i1"),
        (7, "the item is not in the items table", "u1", "i9"),
        (9, time, "u1", "i3"),
    ]
    assert _dead(tmp_path / "out", "users") == [
        (2, "`id` is empty", None, None),
        (3, "`age` has bands but is not a number", "u2", None),
        (5, "duplicate id", "u1", None),
    ]
    assert _dead(tmp_path / "out", "items") == [
        (2, year, None, "i2"),
        (4, year, None, "i3"),
        (5, year, None, "i3"),
    ]
    assert counts["interactions"]["read"] == 11
    assert sum(counts["interactions"]["written"].values()) == 3
    assert counts["interactions"]["duplicates"] == 1
    assert counts["users"] == {
        "read": 5,
        "written": 2,
        "dead": {
            "`id` is empty": 1,
            "`age` has bands but is not a number": 1,
            "duplicate id": 1,
        },
        "duplicates": 0,
    }
    assert counts["items"]["written"] == 3
    catalogue = rows(tmp_path / "out" / "catalogue.parquet")
    assert catalogue[2]["title"] == "Three\nlines, and a comma"
    times = {
        (e["item_id"][0]): e["timestamp"][0]
        for part in ("train", "validation", "test")
        for e in examples(tmp_path / "out", part)
        if e["user_id"] == ["u2"]
    }
    assert times == {"i1": 1577836800, "i2": 1577836800}


def _dead(out: pathlib.Path, name: str) -> list[tuple]:
    lines = (out / "dead_letter" / f"{name}.jsonl").read_text().splitlines()
    letters = [json.loads(line) for line in lines]
    return [(d["row"], d["reason"], d.get("user_id"), d.get("item_id")) for d in letters]


def test_counters_of_the_pipeline_are_the_counts(tmp_path):
    """A repetition, a row without a user, one of an unknown item, and an item without an id."""
    log = LOG + "u1,i1,100\n,i1,100\nu1,i9,100\n"
    run = config(write_files(tmp_path, log, items=ITEMS + ",men,a,1999,\n"))
    (tmp_path / "out").mkdir()
    pipeline = beam.Pipeline(runner=FnApiRunner())
    assemble(pipeline, run, plan_inputs(run, None), tmp_path / "out")
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_namespace(METRICS))["counters"]
    found: Counter[str] = Counter()
    for each in counters:  # One per step: rows die where they are read, and where they are joined.
        found[each.key.metric.name] += each.committed
    assert found == {
        "interactions_read": 8,
        "interactions_dead": 2,
        "interactions_repeated": 1,
        "interactions_written_train": 3,
        "interactions_written_validation": 1,
        "interactions_written_test": 1,
        "users_read": 3,
        "users_dead": 0,
        "items_read": 4,
        "items_dead": 1,
    }


def test_dead_letters_hold_no_values_of_sensitive_columns(tmp_path):
    users = "id,gender,age,country\nu1,secret-gender,secret-age,NO\nu2,F,30,NO\nu3,F,30,NO\n"
    build(config(write_files(tmp_path, users=users)), tmp_path / "out")
    for file in (tmp_path / "out" / "dead_letter").iterdir():
        assert "secret" not in file.read_text()


def test_too_many_dead_letters_stop_the_run_with_reasons_and_places(tmp_path):
    folder = write_files(tmp_path, BAD_LOG, BAD_USERS, BAD_ITEMS)
    run = config(folder, split={"by": "hash"}, data={"max_dead_letter_share": 0.5})
    with pytest.raises(InvalidInputError) as error:
        build(run, tmp_path / "out")
    assert "data.users: 3 of 5 rows (60.0%) could not be used" in str(error.value)
    assert f"duplicate id (1, first in {folder}/users.csv, row 5)" in str(error.value)


def test_result_depends_neither_on_the_number_of_files_nor_on_their_format(tmp_path):
    """The same rows in one CSV, three gzipped CSVs, or Parquet of two-row groups."""
    lines = [f"u{i % 3 + 1},i{(i * i + i // 7) % 3 + 1},{i * 37 % 50}" for i in range(40)]
    log = "\n".join(["who,what,when", *lines]) + "\n"
    whole = write_files(tmp_path / "whole", log)
    build(config(whole), tmp_path / "out_whole")

    parts = write_files(tmp_path / "parts", "x")
    for number, start in enumerate((0, 5, 25)):
        end = (5, 25, 40)[number]
        text = "\n".join(["when,who,what", *(_turn(line) for line in lines[start:end])])
        write_gzip(parts / f"log{number}.csv.gz", text + "\n")
    source = {"path": str(parts / "log?.csv.gz"), "user": "who", "item": "what"}
    run = config(parts, data={"interactions": {**source, "timestamp": "when"}})
    build(run, tmp_path / "out_parts")

    table = pa.table(list(zip(*(line.split(",") for line in lines), strict=True)), names=_NAMES)
    table = table.set_column(2, "when", table["when"].cast(pa.float64()))
    pq.write_table(table, parts / "log.parquet", row_group_size=2)
    source["path"] = str(parts / "log.parquet")
    run = config(parts, data={"interactions": {**source, "timestamp": "when"}})
    build(run, tmp_path / "out_parquet")

    for part in ("train", "validation", "test"):
        expected = records(tmp_path / "out_whole", part)
        assert expected
        assert records(tmp_path / "out_parts", part) == expected
        assert records(tmp_path / "out_parquet", part) == expected
    for file in ("catalogue.parquet", "users.parquet", "vocabularies/genres.parquet"):
        assert rows(tmp_path / "out_whole" / file) == rows(tmp_path / "out_parquet" / file)


_NAMES = ["who", "what", "when"]


def _turn(line: str) -> str:
    who, what, when = line.split(",")
    return f"{when},{who},{what}"


@pytest.mark.parametrize("ending", ["jsonl", "tfrecord"])
def test_json_lines_and_tfrecord_give_the_examples_of_csv(built, tmp_path, ending):
    """With numbers as numbers, and nothing for an empty cell."""
    write = {"jsonl": _write_json_lines, "tfrecord": _write_tfrecord}[ending]
    source = write_files(tmp_path / "csv")
    for name in ("log", "users", "items"):
        table = pd.read_csv(source / f"{name}.csv").astype(object)
        write(source / f"{name}.{ending}", table.where(table.notna(), None).to_dict("records"))
    run = config(source).model_dump()
    for name, file in (("interactions", "log"), ("users", "users"), ("items", "items")):
        run["data"][name]["path"] = str(source / f"{file}.{ending}")
    build(RunConfig.model_validate(run), tmp_path / "out")
    for part in ("train", "validation", "test"):
        assert records(tmp_path / "out", part) == records(built, part)
    for file in ("catalogue.parquet", "users.parquet", "vocabularies/genres.parquet"):
        assert rows(tmp_path / "out" / file) == rows(built / file)


def _write_json_lines(path: pathlib.Path, table: list[dict]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in table), encoding="utf-8")


def _write_tfrecord(path: pathlib.Path, table: list[dict]) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in table:
            example = tf.train.Example()
            for name, value in row.items():
                feature = example.features.feature[name]
                if isinstance(value, str):
                    feature.bytes_list.value.append(value.encode())
                elif value is not None:
                    feature.int64_list.value.append(value)
            writer.write(example.SerializeToString())


def test_without_tables_users_and_items_are_those_of_the_log(tmp_path):
    log = 'who,what,part\nb b,2,train\nb b,10,train\n"a,\nå",2,train\nb b,2,train\nb b,3,test\n'
    folder = write_files(tmp_path, log)
    source = {"path": str(folder / "log.csv"), "user": "who", "item": "what"}
    run = config(
        folder,
        data={"interactions": source, "users": None, "items": None},
        features={},
        groups=None,
        slices=[],
        split={"by": "column", "column": "part"},
    )
    counts = build(run, tmp_path / "out")
    assert pairs(tmp_path / "out", "train") == [("a,\nå", "2"), ("b b", "10"), ("b b", "2")]
    assert rows(tmp_path / "out" / "catalogue.parquet") == [
        {"item_id": "10", "group": "unknown", "frequency": 1},
        {"item_id": "2", "group": "unknown", "frequency": 2},
        {"item_id": "3", "group": "unknown", "frequency": 0},
    ]
    assert counts["interactions"]["duplicates"] == 1
    assert counts["users"] == {"read": 2, "written": 2, "dead": {}, "duplicates": 0}


def test_built_in_data_sets_are_read_from_the_source_folder(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    log = {"user_id": [1, 2, 3], "item_id": [7, 7, 8], "timestamp": [1.0, 2.0, 3.0]}
    pq.write_table(pa.table(log), source / "interactions.parquet")
    pq.write_table(pa.table({"user_id": [1, 2, 3]}), source / "users.parquet")
    pq.write_table(pa.table({"item_id": [7, 8, 9]}), source / "items.parquet")
    run = config(tmp_path, data={"dataset": "synthetic"}, features={}, groups=None, slices=[])
    build(run, tmp_path / "out", source)
    assert pairs(tmp_path / "out", "test") == [("3", "8")]
    assert [r["item_id"] for r in rows(tmp_path / "out" / "catalogue.parquet")] == ["7", "8", "9"]


def test_every_shard_of_every_part_is_there_even_if_it_is_empty(tmp_path, monkeypatch):
    monkeypatch.setattr("pipelines.examples.pipeline.ROWS_PER_SHARD", 1)
    build(config(write_files(tmp_path)), tmp_path / "out")
    files = sorted(p.name for p in (tmp_path / "out").glob("*.tfrecord.gz"))
    (count,) = {name.split("-of-")[1].split(".")[0] for name in files}
    assert len(files) == 3 * int(count) > 3
    assert not list((tmp_path / "out").glob(".*"))
    assert len(records(tmp_path / "out", "train")) == 3


def test_a_damaged_file_is_named(tmp_path):
    """The error comes from a worker, as text; it should reach the person as if it did not."""
    folder = write_files(tmp_path)
    log = "who,what,when\n" + "".join(f"u{i},i{i},{i}\n" for i in range(20_000))
    write_gzip(folder / "log.csv.gz", log, keep=0.5)
    source = {"path": str(folder / "log.csv.gz"), "user": "who", "item": "what"}
    with pytest.raises(InvalidInputError) as error:
        build(
            config(folder, data={"interactions": {**source, "timestamp": "when"}}), tmp_path / "o"
        )
    assert str(error.value).startswith(f"{folder}/log.csv.gz: the file is damaged or cut short")
    assert "while running" not in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"log": "who,what,when\n"}, "data.interactions: there are no rows in the files"),
        ({"items": "id,maker,genres,year,title\n"}, "data.items: there are no rows in the files"),
        ({"users": "id,gender,age,country"}, "data.users: there are no rows in the files"),
        ({"log": "who,what,when\nu8,i1,1\n"}, "data.interactions: 1 of 1 rows (100.0%)"),
        (
            {"log": "who,what,when\nu1,i1,1\nu2,i1,1\nu3,i1,1\n"},
            "no interaction is left for training: 0 train, 0 validation, 3 test",
        ),
        (
            {"log": "who,what,when\nu1,i1,1\n"},
            "no interaction is left for the test: 1 train, 0 validation, 0 test",
        ),
    ],
)
def test_input_that_leaves_nothing_to_train_on_is_refused(tmp_path, files, message):
    with pytest.raises(InvalidInputError) as error:
        build(config(write_files(tmp_path, **files)), tmp_path / "out")
    assert message in str(error.value)


def test_the_dask_runner_is_refused(tmp_path):
    from pipelines.examples.pipeline import build_examples

    run = config(write_files(tmp_path))
    with pytest.raises(InvalidInputError, match="DaskRunner mixes up the outputs"):
        build_examples(run, None, tmp_path, ["--runner=DaskRunner"])
