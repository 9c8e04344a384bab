"""The shuffled join gives what the broadcast join gives, whatever is in the log and the tables."""

import json
import pathlib

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from small_log import build, config, examples, records, write_files

from fairness_losses.errors import InvalidInputError
from pipelines.examples import pipeline
from pipelines.examples.checks import PARTS

FEATURES = {
    "query": [
        {"kind": "id", "column": "user_id"},
        {"kind": "categorical", "column": "country"},
        {"kind": "history", "column": "seen", "max_items": 3},
    ],
    "candidate": [
        {"kind": "id", "column": "item_id"},
        {"kind": "categorical", "column": "genres", "separator": "|"},
        {"kind": "numeric", "column": "year", "default": 0},
    ],
}
SLICES = [
    {"column": "gender"},
    {"column": "age", "bands": [0, 25, 45]},
    {"cross": ["gender", "age"]},
]
IDS = {
    "query": [{"kind": "id", "column": "user_id"}],
    "candidate": [{"kind": "id", "column": "item_id"}],
}


def write_log(folder: pathlib.Path) -> pathlib.Path:
    """300 rows of 40 users and 30 items, with repetitions, strangers, bad and repeated ids."""
    rng = np.random.default_rng(0)
    log = pd.DataFrame(
        {
            "who": [f"u{n}" for n in rng.integers(0, 43, 300)],
            "what": [f"i{n}" for n in rng.integers(0, 32, 300)],
            "when": rng.integers(100, 160, 300).astype(str),
        }
    )
    log.loc[5, "when"] = "yesterday"
    log.loc[9, "what"] = ""
    users = pd.DataFrame(
        {
            "id": [f"u{n}" for n in [*range(40), 7, 7]],
            "gender": rng.choice(["F", "M", ""], 42),
            "age": [*rng.integers(10, 70, 40).astype(str), "old", "30"],
            "country": rng.choice(["NO", "SE"], 42),
        }
    )
    items = pd.DataFrame(
        {
            "id": [f"i{n}" for n in [*range(30), 4, ""]],
            "maker": rng.choice(["women", "men", ""], 32),
            "genres": rng.choice(["a|b", "b", ""], 32),
            "year": rng.integers(1990, 2020, 32),
            "title": "x",
        }
    )
    tables = (table.to_csv(index=False) for table in (log, users, items))
    return write_files(folder, *tables)


def build_both(
    folder: pathlib.Path, monkeypatch, rows_per_shard: int = 40, **changes
) -> tuple[pathlib.Path, pathlib.Path]:
    monkeypatch.setattr(pipeline, "ROWS_PER_SHARD", rows_per_shard)
    for name, limit in (("broadcast", 256), ("shuffled", 0)):
        data = {**changes.get("data", {}), "max_broadcast_mb": limit}
        build(config(folder, **{**changes, "data": data}), folder / name)
    return folder / "broadcast", folder / "shuffled"


def in_order(path: pathlib.Path) -> list[dict]:
    table = pq.read_table(path)
    return table.sort_by(table.column_names[0]).to_pylist()


def assert_same(broadcast: pathlib.Path, shuffled: pathlib.Path) -> None:
    for name in ("shards.json", "counts.json", "groups.json", "positives.json"):
        assert (shuffled / name).read_text() == (broadcast / name).read_text(), name
    assert all(records(shuffled, part) == records(broadcast, part) for part in PARTS)
    for name in ("users", "catalogue"):
        assert (broadcast / f"{name}.parquet").is_file()
        assert (shuffled / f"{name}.parquet").is_dir()
        assert in_order(shuffled / f"{name}.parquet") == in_order(broadcast / f"{name}.parquet")
    for folder in ("vocabularies", "dead_letter"):
        names = sorted(path.name for path in (broadcast / folder).iterdir())
        assert names == sorted(path.name for path in (shuffled / folder).iterdir())
        for name in names:
            ours, theirs = (out / folder / name for out in (shuffled, broadcast))
            assert ours.read_bytes() == theirs.read_bytes(), name


@pytest.mark.parametrize(
    "split",
    [
        {"by": "time", "validation": 0.2, "test": 0.2},
        {"by": "hash", "validation": 0.2, "test": 0.2},
        {"by": "last_n", "n": 1},
    ],
    ids=lambda split: split["by"],
)
def test_every_output_is_the_same(split, tmp_path, monkeypatch):
    folder = write_log(tmp_path)
    outs = build_both(folder, monkeypatch, features=FEATURES, slices=SLICES, split=split)
    assert_same(*outs)
    counts = json.loads((outs[1] / "counts.json").read_text())
    assert counts["interactions"]["duplicates"] > 0
    assert counts["users"]["dead"] == {"`age` has bands but is not a number": 1, "duplicate id": 1}
    shards = json.loads((outs[1] / "shards.json").read_text())
    assert len(shards) == 3 * 3  # Three shards of three parts.


def test_without_tables_the_ids_of_the_log_are_all_there_is(tmp_path, monkeypatch):
    folder = write_log(tmp_path)
    bare = {"features": IDS, "groups": None, "slices": []}
    assert_same(*build_both(folder, monkeypatch, data={"users": None, "items": None}, **bare))


def test_columns_of_several_types_are_brought_to_one_across_files(tmp_path, monkeypatch):
    """A column of whole numbers in one file and of words in the other holds words in both."""
    folder = write_log(tmp_path)
    users = pd.read_csv(folder / "users.csv").head(40)
    users["country"] = [*range(20), *users["country"][20:]]
    users[:20].astype({"country": int}).to_parquet(folder / "users-1.parquet")
    users[20:].to_parquet(folder / "users-2.parquet")
    table = {"users": {"path": str(folder / "users-*.parquet"), "id": "id"}}
    broadcast, shuffled = build_both(folder, monkeypatch, data=table)
    assert_same(broadcast, shuffled)
    countries = {example["country"][0] for example in examples(shuffled, "train")}
    assert {"3", "NO"} <= countries


def test_vectors_have_the_usual_length_of_the_whole_table(tmp_path, monkeypatch):
    """Three vectors of two numbers in one file outvote the two of three numbers in the other."""
    folder = write_log(tmp_path)
    items = pd.read_csv(folder / "items.csv").head(5)
    items["vector"] = [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]
    items[:3].to_parquet(folder / "items-1.parquet")
    items[3:].to_parquet(folder / "items-2.parquet")
    features = {**IDS, "candidate": [*IDS["candidate"], {"kind": "vector", "column": "vector"}]}
    table = {"items": {"path": str(folder / "items-*.parquet"), "id": "id"}}
    broadcast, shuffled = build_both(folder, monkeypatch, data=table, features=features)
    assert_same(broadcast, shuffled)
    assert [row["item_id"] for row in in_order(shuffled / "catalogue.parquet")] == [
        "i0",
        "i1",
        "i2",
    ]


@pytest.mark.parametrize("empty", ["log", "users", "items"])
def test_empty_parquet_files_are_said_as_before(empty, tmp_path, monkeypatch):
    folder = write_log(tmp_path)
    path = folder / f"{empty}.parquet"
    pd.read_csv(folder / f"{empty}.csv", dtype=str).head(0).to_parquet(path)
    name = "interactions" if empty == "log" else empty
    source = config(folder).data.model_dump()[name]
    changes = {"data": {name: {**source, "path": str(path)}}}
    messages = []
    for limit in (256, 0):
        changes["data"]["max_broadcast_mb"] = limit
        with pytest.raises(InvalidInputError) as error:
            build(config(folder, **changes), folder / f"out-{limit}")
        messages.append(str(error.value))
    assert messages[0] == messages[1]
    assert messages[0].startswith(f"data.{name}: there are no rows")


def test_an_empty_log_is_said_when_it_alone_says_what_items_there_are(tmp_path):
    folder = write_log(tmp_path)
    path = folder / "log.parquet"
    pd.read_csv(folder / "log.csv", dtype=str).head(0).to_parquet(path)
    log = {**config(folder).data.interactions.model_dump(), "path": str(path)}
    data = {"interactions": log, "items": None, "max_broadcast_mb": 0}
    with pytest.raises(InvalidInputError, match=r"data.interactions: there are no rows"):
        build(config(folder, data=data, features=IDS, groups=None), folder / "out")
