"""Input as it really is: one clear paragraph, or dead letters whose counts add up."""

import gzip
import json
import pathlib
import subprocess
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml
from tiny_run import ROOT, command, environment, read_json

from fairness_losses.errors import InvalidInputError

NUM_USERS, NUM_ITEMS, NUM_ROWS = 20, 15, 200
GROUPS = ("red", "green", "blue")


class Shop:
    """Three tables in a folder, to be spoilt, and the settings that describe them."""

    def __init__(self, folder: pathlib.Path, main: Any) -> None:
        self.folder, self.main = folder, main
        self.out = folder / "run"
        rows = np.arange(NUM_ROWS)
        self.log = pd.DataFrame(
            {
                "user": [f"u{r % NUM_USERS}" for r in rows],
                "item": [f"i{(r * 7 + r // 20) % NUM_ITEMS}" for r in rows],
                "at": [f"2024-01-{1 + r // 10:02d}" for r in rows],
            }
        )
        users = np.arange(NUM_USERS)
        self.users = pd.DataFrame({"user": [f"u{u}" for u in users], "age": 20.0 + users})
        items = np.arange(NUM_ITEMS)
        self.items = pd.DataFrame(
            {
                "item": [f"i{i}" for i in items],
                "colour": [GROUPS[i % 3] for i in items],
                "price": 1.0 + items,
            }
        )
        self.settings: dict[str, Any] = {
            "name": "shop",
            "data": {
                "interactions": {
                    "path": "log.csv",
                    "user": "user",
                    "item": "item",
                    "timestamp": "at",
                },
                "users": {"path": "users.csv", "id": "user"},
                "items": {"path": "items.csv", "id": "item"},
                "max_dead_letter_share": 0.5,
            },
            "features": {
                "candidate": [
                    {"kind": "id", "column": "item_id"},
                    {"kind": "numeric", "column": "price"},
                ]
            },
            "groups": {"columns": ["colour"]},
            "slices": [{"column": "age", "bands": [0, 30]}],
        }

    def write(self) -> pathlib.Path:
        """Writes what has not been written by the test itself; returns the YAML."""
        for name in ("log", "users", "items"):
            path = self.folder / f"{name}.csv"
            if not path.exists():
                getattr(self, name).to_csv(path, index=False)
        config = self.folder / "shop.yaml"
        config.write_text(yaml.safe_dump(self.settings))
        return config

    def examples(self) -> dict[str, Any]:
        """Runs the stage, which has to succeed; returns its counts, which have to add up."""
        code, _, errors = self.main("examples", self.write(), self.out)
        assert (code, errors) == (0, "")
        counts = read_json(self.out / "examples" / "counts.json")
        for name, count in counts.items():
            written = count["written"]
            kept = sum(written.values()) if isinstance(written, dict) else written
            assert count["read"] == kept + sum(count["dead"].values()) + count["duplicates"]
            assert len(self.letters(name)) == sum(count["dead"].values())
        return counts

    def refusal(self) -> str:
        """Runs the stage, which has to fail in one paragraph and leave nothing behind."""
        code, _, errors = self.main("examples", self.write(), self.out)
        assert code == 2
        assert "Traceback" not in errors
        assert errors.startswith("error: ")
        assert errors.count("\n") == 1
        assert not (self.out / "examples").exists()
        return errors.removeprefix("error: ").rstrip("\n")

    def letters(self, name: str) -> list[dict[str, Any]]:
        path = self.out / "examples" / "dead_letter" / f"{name}.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def catalogue(self) -> pd.DataFrame:
        path = self.out / "examples" / "catalogue.parquet"
        return pq.read_table(path).to_pandas().set_index("item_id")


@pytest.fixture
def shop(tmp_path, main) -> Shop:
    return Shop(tmp_path, main)


def test_good_input_has_no_dead_letters(shop):
    counts = shop.examples()
    assert {n: c["dead"] for n, c in counts.items()} == {n: {} for n in counts}
    distinct = len(shop.log.drop_duplicates())
    assert sum(counts["interactions"]["written"].values()) == distinct == NUM_ROWS


@pytest.mark.parametrize("name", ["interactions", "users", "items"])
def test_a_missing_file_is_named_with_its_setting(shop, name):
    shop.settings["data"][name]["path"] = "missing.csv"
    expected = f"`data.{name}.path`: there is no file {shop.folder}/missing.csv."
    assert shop.refusal() == expected


def test_a_missing_column_is_named_with_the_nearest_one(shop):
    shop.settings["groups"]["columns"] = ["color"]
    assert shop.refusal() == (
        f"{shop.folder}/items.csv: there is no column `color`, which `groups.columns` names. The "
        "nearest are `colour`."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "log.csv: the file is empty; it should begin with a header row."),
        ("user,item,at\n", "data.interactions: there are no rows in the files."),
    ],
    ids=["nothing", "header only"],
)
def test_an_empty_file_is_refused(shop, text, message):
    (shop.folder / "log.csv").write_text(text)
    assert shop.refusal().endswith(message)


def test_times_that_cannot_be_read_are_dead_letters(shop):
    shop.log.loc[[0, 5, 9], "at"] = ["yesterday", "31/12/2024", ""]
    counts = shop.examples()
    reason = "`at` is neither seconds since 1970 nor an ISO 8601 date or time"
    assert counts["interactions"]["dead"] == {reason: 3}
    assert [letter["row"] for letter in shop.letters("interactions")] == [1, 6, 10]


def test_too_many_dead_letters_are_refused_with_the_reason_and_the_first_place(shop):
    shop.log.loc[:150, "at"] = "soon"
    assert shop.refusal() == (
        "data.interactions: 151 of 200 rows (75.5%) could not be used; "
        "`data.max_dead_letter_share` is 50.0%. Most common: `at` is neither seconds since 1970 "
        f"nor an ISO 8601 date or time (151, first in {shop.folder}/log.csv, row 1). Correct the "
        "rows or the configuration."
    )


def test_repeated_rows_count_once(shop):
    shop.log = pd.concat([shop.log, shop.log.iloc[:30], shop.log.iloc[:10]])
    counts = shop.examples()["interactions"]
    assert counts["read"] == 240
    assert counts["duplicates"] == 40
    assert sum(counts["written"].values()) == 200


STRANGE = ["a b", "a,b", 'a"b', "a\nb", "naïve café", "日本語", "🙂", " leading", "007", "1e5"]


def test_strange_ids_survive(shop):
    names = dict(zip((f"i{i}" for i in range(len(STRANGE))), STRANGE, strict=True))
    shop.log["item"] = shop.log["item"].replace(names)
    shop.items["item"] = shop.items["item"].replace(names)
    assert shop.examples()["interactions"]["dead"] == {}
    assert set(STRANGE) <= set(shop.catalogue().index)
    train = [
        tf.train.Example.FromString(record).features.feature["item_id"].bytes_list.value[0].decode()
        for record in tf.data.TFRecordDataset(
            str(shop.out / "examples" / "train-00000-of-00001.tfrecord.gz"), "GZIP"
        ).as_numpy_iterator()
    ]
    assert set(STRANGE) <= set(train)
    frequency = shop.catalogue()["frequency"]
    assert {i: train.count(i) for i in STRANGE} == frequency[STRANGE].to_dict()


def test_a_number_that_is_missing_makes_a_dead_letter_and_one_of_each_of_its_interactions(shop):
    shop.items.loc[[2, 4, 6], "price"] = [np.nan, np.inf, -np.inf]
    counts = shop.examples()
    assert counts["items"]["dead"] == {"`price` is missing or not a finite number": 3}
    lost = int(shop.log["item"].isin(["i2", "i4", "i6"]).sum())
    assert counts["interactions"]["dead"] == {"the item is not in the items table": lost}


def test_a_number_that_is_missing_takes_the_default_if_there_is_one(shop):
    shop.items.loc[2, "price"] = np.nan
    shop.settings["features"]["candidate"][1]["default"] = 9.5
    assert shop.examples()["items"]["dead"] == {}
    assert shop.catalogue().loc["i2", "price"] == 9.5


def test_an_item_without_a_group_is_unknown_and_stays(shop):
    shop.items.loc[[3, 7], "colour"] = ["", np.nan]
    assert shop.examples()["items"]["dead"] == {}
    groups = shop.catalogue()["group"]
    assert groups[["i3", "i7"]].tolist() == ["unknown", "unknown"]
    shares = read_json(shop.out / "examples" / "groups.json")["catalogue_share"]
    assert shares["unknown"] == pytest.approx(2 / NUM_ITEMS)


def test_a_user_who_is_not_in_the_users_table_is_a_dead_letter_by_name(shop):
    shop.users = shop.users.drop(index=[4])
    dead = shop.examples()["interactions"]["dead"]
    assert dead == {"the user is not in the users table": NUM_ROWS // NUM_USERS}
    assert {letter["user_id"] for letter in shop.letters("interactions")} == {"u4"}


def test_a_group_that_nobody_chose_from_is_in_the_catalogue_with_no_training_share(shop):
    extra = pd.DataFrame({"item": ["x1", "x2"], "colour": ["gold", "gold"], "price": [1.0, 2.0]})
    shop.items = pd.concat([shop.items, extra])
    shop.examples()
    shares = read_json(shop.out / "examples" / "groups.json")
    assert shares["train_share"]["gold"] == 0
    assert shares["catalogue_share"]["gold"] == pytest.approx(2 / (NUM_ITEMS + 2))


def test_a_truncated_gzip_is_named(shop):
    text = "user,item,at\n" + "".join(f"u{i},i{i},{i}\n" for i in range(5000))
    whole = gzip.compress(text.encode())
    (shop.folder / "log.csv.gz").write_bytes(whole[: len(whole) // 2])
    shop.settings["data"]["interactions"]["path"] = "log.csv.gz"
    message = shop.refusal()
    assert message.startswith(f"{shop.folder}/log.csv.gz: the file is damaged or cut short; ")


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_parquet_is_named(shop, keep):
    path = shop.folder / "log.parquet"
    pq.write_table(pa.Table.from_pandas(shop.log), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * keep)])
    shop.settings["data"]["interactions"]["path"] = "log.parquet"
    assert shop.refusal().startswith(f"{path}: the file is damaged or cut short; ")


def test_a_failed_stage_leaves_the_previous_examples_and_the_next_one_is_not_confused(shop):
    shop.examples()
    before = {p.name: p.read_bytes() for p in (shop.out / "examples").glob("*.gz")}
    log = shop.folder / "log.csv"
    good = log.read_text()
    log.write_text(good.replace("2024", "in the year 2024"))
    code, _, errors = shop.main("examples", shop.write(), shop.out)
    assert code == 2
    assert "could not be used" in errors
    assert {p.name: p.read_bytes() for p in (shop.out / "examples").glob("*.gz")} == before
    log.write_text(good)
    shop.examples()
    assert {p.name: p.read_bytes() for p in (shop.out / "examples").glob("*.gz")} == before
    assert [p.name for p in shop.out.glob(".*")] == [".lock"]


def test_examples_of_which_a_shard_is_lost_are_refused_with_what_to_do(shop):
    """Nothing is trained on half a log."""
    shop.examples()
    next((shop.out / "examples").glob("train-*")).unlink()
    code, _, errors = shop.main("validate", shop.write(), shop.out)
    assert code == 2
    assert "0 of 1 files of train examples are there" in errors
    assert "`fairtowers examples --force`" in errors


def test_a_regularizer_that_does_not_fit_is_refused_before_anything_is_trained(shop, main):
    shop.settings["fairness"] = {"regularizer": "worst_group"}
    shop.settings["audit"] = {"ks": [5]}
    code, _, errors = main("run", shop.write(), shop.out)
    assert code == 2
    assert errors.endswith(
        "`worst_group` compares slices of the users: name their columns in `fairness.slices`.\n"
    )
    assert (shop.out / "schema").is_dir()
    assert not (shop.out / "without_regularizer" / "model").exists()


@pytest.mark.parametrize(
    ("audited", "evaluated", "message"),
    [(5, 100, "training begins\n"), (20, 5, "nothing can be steered. Received: 20.\n")],
)
def test_the_regularizer_is_checked_with_the_depth_that_it_is_trained_with(
    shop, main, monkeypatch, audited, evaluated, message
):
    """Of 15 items, the first 5 can be steered, whatever is evaluated while it trains."""

    def begin(*_: Any, **__: Any) -> None:
        raise InvalidInputError("training begins")

    monkeypatch.setattr("towers.training.train", begin)
    shop.settings["audit"] = {"ks": [audited]}
    shop.settings["training"] = {"evaluate_at": [evaluated]}
    code, _, errors = main("run", shop.write(), shop.out)
    assert code == 2
    assert errors.endswith(message)


def test_everything_ends_the_same_way_in_a_process_of_its_own(shop):
    shop.settings["data"]["interactions"]["path"] = "missing.csv"
    result = subprocess.run(
        command("run", shop.write(), shop.out),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        f"error: `data.interactions.path`: there is no file {shop.folder}/missing.csv.\n"
    )
