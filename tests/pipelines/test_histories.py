"""Histories: what every user chose in training, in order, the latest last."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_log import FEATURES, build, config, examples, rows, write_files

from fairness_losses.errors import InvalidInputError
from pipelines.config import RunConfig
from pipelines.examples import histories
from pipelines.examples.histories import history_column, last_choices
from pipelines.examples.inputs import TIMESTAMP
from pipelines.examples.splits import ITEM_ROW, ORIGIN, USER_ROW


def log(users: list[int], items: list[int], **columns: list[int]) -> pa.Table:
    table = {USER_ROW: pa.array(users, pa.int32()), ITEM_ROW: pa.array(items, pa.int32())}
    return pa.table({**table, ORIGIN: list(range(len(users))), **columns})


def pairs(table: pa.Table) -> list[tuple[int, int]]:
    return list(zip(table[USER_ROW].to_pylist(), table[ITEM_ROW].to_pylist(), strict=True))


class TestLastChoices:
    def test_the_last_of_every_user_are_kept_in_order(self):
        """User 3 chose 7, 5, 9 and 5 again; user 4 chose 1."""
        train = log([3, 3, 3, 3, 4], [7, 5, 9, 5, 1], **{TIMESTAMP: [10, 20, 30, 40, 5]})
        assert pairs(last_choices(train, 2)) == [(3, 9), (3, 5), (4, 1)]
        assert pairs(last_choices(train, 9)) == [(3, 7), (3, 5), (3, 9), (3, 5), (4, 1)]

    def test_without_times_the_order_is_that_of_the_files(self):
        """The log comes ordered by user and item; in the files it was 9, 5, 7 of user 3."""
        train = log([3, 3, 3, 4], [5, 7, 9, 1], **{ORIGIN: [11, 12, 8, 9]})
        assert pairs(last_choices(train, 2)) == [(3, 5), (3, 7), (4, 1)]

    def test_nothing_is_kept_where_there_is_no_history_feature(self):
        assert last_choices(log([1, 1], [2, 3]), 0).num_rows == 0

    def test_a_shard_without_training_examples_has_none(self):
        assert pairs(last_choices(log([], []), 5)) == []


class TestHistoryColumn:
    IDS = pa.array(["a", "b", "c"])

    def test_users_of_all_shards_are_brought_into_the_order_of_their_table(self):
        shards = [log([2, 2], [1, 0]), log([], []), log([0, 3], [2, 1])]
        column = history_column(shards, 5, self.IDS)
        assert column.to_pylist() == [["c"], [], ["b", "a"], ["b"], []]

    @pytest.mark.parametrize("users_per_chunk", [1, 2, 3])
    def test_long_columns_come_in_several_arrays(self, users_per_chunk, monkeypatch):
        monkeypatch.setattr(histories, "_USERS_PER_CHUNK", users_per_chunk)
        column = history_column([log([0, 2, 2, 4], [0, 1, 2, 0])], 5, self.IDS)
        assert column.to_pylist() == [["a"], [], ["b", "c"], [], ["a"]]
        assert column.num_chunks == -(-5 // users_per_chunk)

    def test_without_shards_and_users_it_is_a_column_of_lists_all_the_same(self):
        assert history_column([], 0, self.IDS).type == pa.list_(pa.string())
        assert history_column([], 2, self.IDS).to_pylist() == [[], []]


HISTORY = {"kind": "history", "max_items": 2}


def with_history(folder, **changes) -> RunConfig:
    features = {
        **FEATURES,
        "query": [*FEATURES["query"], {**HISTORY, **changes.pop("history", {})}],
    }
    return config(folder, features=features, **changes)


def test_users_have_their_training_interactions_and_examples_have_none(tmp_path):
    """The fifth interaction is for the test, the fourth, of u2 with i3, for validation."""
    build(with_history(write_files(tmp_path)), tmp_path / "out")
    users = rows(tmp_path / "out" / "users.parquet")
    assert {u["user_id"]: u["history"] for u in users} == {
        "u1": ["i1", "i2"],
        "u2": ["i1"],
        "u3": [],
    }
    assert all("history" not in e for e in examples(tmp_path / "out", "train"))


def test_without_the_feature_users_have_no_such_column(tmp_path):
    build(config(write_files(tmp_path)), tmp_path / "out")
    assert "history" not in pq.read_schema(tmp_path / "out" / "users.parquet").names


def random_log(path, rng: np.random.Generator, shuffled: bool) -> None:
    lines = [f"u{i % 3 + 1},i{(i * i + i // 7) % 3 + 1},{i * 37 % 50}" for i in range(40)]
    if shuffled:
        rng.shuffle(lines)
    path.write_text("\n".join(["who,what,when", *lines]) + "\n")


def test_neither_the_order_of_rows_nor_of_bundles_matters(tmp_path, monkeypatch):
    """Times tell the order; the same log shuffled and in seven shards gives the same histories."""
    found = []
    for number in range(2):
        folder = write_files(tmp_path / str(number))
        random_log(folder / "log.csv", np.random.default_rng(number), shuffled=bool(number))
        if number:
            monkeypatch.setattr("pipelines.examples.pipeline._num_shards", lambda log: 7)
        run = with_history(folder, split={"by": "last_n", "n": 1}, history={"max_items": 4})
        build(run, tmp_path / f"out{number}")
        found.append(rows(tmp_path / f"out{number}" / "users.parquet"))
    assert found[0] == found[1]
    assert [len(user["history"]) for user in found[0]] == [4, 4, 4]


def test_items_are_numbered_even_if_the_candidate_tower_does_not_see_their_ids(tmp_path):
    features = {
        "query": [{**HISTORY, "share_embedding": False, "column": "chosen"}],
        "candidate": [{"kind": "numeric", "column": "year"}],
    }
    build(config(write_files(tmp_path), features=features), tmp_path / "out")
    vocabulary = rows(tmp_path / "out" / "vocabularies" / "item_id.parquet")
    assert vocabulary == [{"value": "i1", "count": 2}, {"value": "i2", "count": 1}]
    assert rows(tmp_path / "out" / "users.parquet")[0]["chosen"] == ["i1", "i2"]


def test_hashed_features_have_no_vocabulary(tmp_path):
    features = {
        "query": [{"kind": "id", "column": "user_id", "bins": 10}],
        "candidate": [
            {"kind": "id", "column": "item_id"},
            {"kind": "categorical", "column": "genres", "separator": "|", "bins": 10},
        ],
    }
    build(config(write_files(tmp_path), features=features), tmp_path / "out")
    names = [path.name for path in (tmp_path / "out" / "vocabularies").iterdir()]
    assert names == ["item_id.parquet"]


def test_a_history_needs_no_users_table(tmp_path):
    folder = write_files(tmp_path, "who,what,part\nu1,i2,train\nu1,i1,train\nu2,i1,test\n")
    source = {"path": str(folder / "log.csv"), "user": "who", "item": "what"}
    run = config(
        folder,
        data={"interactions": source, "users": None, "items": None},
        features={"query": [HISTORY]},
        groups=None,
        slices=[],
        split={"by": "column", "column": "part"},
    )
    build(run, tmp_path / "out")
    assert rows(tmp_path / "out" / "users.parquet") == [
        {"user_id": "u1", "history": ["i2", "i1"]},
        {"user_id": "u2", "history": []},
    ]


def test_a_name_that_is_taken_is_refused(tmp_path):
    run = with_history(write_files(tmp_path), history={"column": "timestamp"})
    with pytest.raises(InvalidInputError, match="`timestamp` cannot be the name of a feature"):
        build(run, tmp_path / "out")
