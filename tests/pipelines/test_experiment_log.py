"""Logs of experiments: every list and outcome is used, or counted under why it is not."""

import dataclasses
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from experiment_log import DAY, DEFINITION, END, EXPERIMENT, START, lists, outcomes

from fairness_losses.browsing import dcg_weights
from fairness_losses.errors import InvalidInputError
from pipelines.experiments.list_exposures import exposure_of
from pipelines.experiments.observe import observe
from serving.experiments.config import Experiment, ExposureConfig
from serving.log.config import LogConfig
from serving.log.salts import Salts, hash_ids

NOON = START + DAY // 2


@pytest.fixture
def read(tmp_path):
    """Writes tables to files and returns what is observed of them."""

    def observe_tables(served, followed=None, experiment=EXPERIMENT, genders=None, **more):
        folder = tmp_path / "log"
        folder.mkdir(exist_ok=True)
        for number, table in enumerate(served if isinstance(served, list) else [served]):
            pq.write_table(table, folder / f"{number}.parquet")
        followed = outcomes([], [], []) if followed is None else followed
        pq.write_table(followed, tmp_path / "outcomes.parquet")
        genders = genders or {}
        table = pa.table({"user_id": [*genders, "nobody"], "gender": [*genders.values(), "x"]})
        pq.write_table(table, tmp_path / "users.parquet")
        paths = {"users": tmp_path / "users.parquet", "salts": None, **more}
        return observe(
            experiment, str(folder / "*.parquet"), str(tmp_path / "outcomes.parquet"), **paths
        )

    return observe_tables


def adds_up(counts) -> bool:
    used = counts["used"] + counts.get("used_before", 0)
    return counts["read"] == used + sum(counts["left_out"].values())


def test_exposure_is_that_of_a_list_by_hand():
    config = ExposureConfig(targets={"female": 0.5, "male": 0.5}, depth=3)
    groups = pa.chunked_array([[["female", "male", "female", "male"], [], ["unknown"], None]])
    v = dcg_weights(3)
    np.testing.assert_allclose(
        exposure_of(groups, config, ""), [[v[0] + v[2], v[1]], [0, 0], [0, 0], [0, 0]]
    )


def test_a_user_has_the_sums_of_what_is_theirs(read):
    served = lists(["a", "a", "b"], [NOON, NOON + 2 * DAY, NOON])
    followed = outcomes(
        ["a", "a", "a", "b", "b"],
        [NOON + 5, NOON + 2 * DAY + 5, START - DAY, START - 8 * DAY, NOON + 1],
        [1, 2, 4, 8, 16],
    )
    seen, counts = read(served, followed, genders={"b": "f"})
    a, b = (int(np.flatnonzero(seen.totals["lists"] == n)[0]) for n in (2, 1))
    assert seen.totals["clicks"][[a, b]].tolist() == [3, 16]
    assert seen.totals["outcomes"][[a, b]].tolist() == [2, 1]
    # Eight days before the start is earlier than the seven of the covariate.
    assert seen.before["clicks"][[a, b]].tolist() == [4, 0]
    assert counts["outcomes"]["left_out"] == {"before the user's first list": 1}
    assert seen.daily["clicks"][a].tolist() == [1, 0, 2] + [0] * 11
    assert seen.slices["gender"][[a, b]].tolist() == ["unknown", "f"]
    assert seen.arrived.tolist() == [0, 0]
    assert seen.followed.tolist() == [2, 2]
    v = dcg_weights(4)
    np.testing.assert_allclose(seen.exposure[b], [v[1], v[0] + v[2]])
    np.testing.assert_allclose(seen.exposure[a], 2 * seen.exposure[b])


def test_every_list_that_cannot_be_used_is_counted_under_one_reason(read):
    users = [f"u{i}" for i in range(12)]
    table = lists(users, [NOON] * 12)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    columns["user_id"][0] = None
    columns["user_id"][1] = ""
    columns["arm"][2] = None
    columns["arm"][3] = "other:x"
    columns["arm"][4] = "fair-tower:purple"
    columns["timestamp"][5] = None
    columns["list_id"][6] = columns["list_id"][7]
    columns["user_id"][6] = columns["user_id"][7]
    columns["timestamp"][8] = columns["timestamp"][8].replace(year=2020)
    columns["timestamp"][9] = columns["timestamp"][9].replace(year=2030)
    columns["list_id"][10] = ""
    seen, counts = read(pa.table(columns, schema=table.schema))
    assert counts["lists"]["left_out"] == {
        "no user": 2,
        "not of the experiment": 2,
        "unknown arm": 1,
        "no time": 1,
        "no list id": 1,
        "repeats another list": 1,
        "before the start": 1,
        "after the end": 1,
    }
    assert counts["lists"]["used"] == len(seen.arm) == 2
    assert adds_up(counts["lists"])


def test_a_bot_is_left_out_with_all_its_lists_and_outcomes(read):
    served = [
        lists(["bot"] * 10_000, NOON + np.arange(10_000)),
        lists(["bot", "a", "b"], [NOON + 3 * DAY] * 3),
    ]
    followed = outcomes(["bot", "a"], [NOON + 3 * DAY + 1] * 2, [100, 1])
    seen, counts = read(served, followed)
    assert counts["lists"]["left_out"] == {"user is a bot": 10_001}
    assert counts["lists"]["users_left_out"] == {"bots": 1, "in two arms": 0}
    assert counts["outcomes"]["left_out"] == {"of a user who was left out": 1}
    assert len(seen.arm) == 2
    assert seen.totals["clicks"].sum() == 1
    assert adds_up(counts["lists"])
    assert adds_up(counts["outcomes"])


def test_a_user_with_the_most_lists_that_are_allowed_is_none(read):
    served = lists(["a"] * 50 + ["b"] * 51, [NOON] * 101)
    seen, counts = read(served)
    assert seen.totals["lists"].tolist() == [50]
    assert counts["lists"]["users_left_out"]["bots"] == 1


def test_a_user_seen_in_two_arms_is_left_out(read):
    table = lists(["a", "a", "b"], [NOON, NOON + 1, NOON])
    arms = pa.array(["fair-tower:control", "fair-tower:treatment", "fair-tower:control"])
    table = table.set_column(table.column_names.index("arm"), "arm", arms)
    seen, counts = read(table)
    assert len(seen.arm) == 1
    assert counts["lists"]["left_out"] == {"user was in two arms": 2}
    assert counts["lists"]["users_left_out"] == {"bots": 0, "in two arms": 1}


def test_lists_of_other_versions_and_other_arms_than_assigned_count_and_are_counted(read):
    users = [f"u{i}" for i in range(100)]
    arms = pa.array(["fair-tower:control"] * 100)
    versions = pa.array(["retriever/1"] * 97 + ["retriever/9", "", None])
    seen, counts = read(lists(users, [NOON] * 100, arm=arms, model_version=versions))
    assert counts["lists"]["used"] == len(seen.arm) == 100
    assert counts["lists"]["other_version"] == 3
    treated = sum(n == 1 for n in _assigned(users))
    assert counts["lists"]["other_arm_than_assigned"] == treated
    assert counts["lists"]["versions"] == [
        {"arm": 0, "model_version": "retriever/1", "lists": 97},
        {"arm": 0, "model_version": "retriever/9", "lists": 1},
        {"arm": 0, "model_version": "unknown", "lists": 2},
    ]


def _assigned(users):
    from serving.experiments.assignment import Assigner

    return Assigner(EXPERIMENT).numbers(users)


def test_clocks_that_differ_by_a_minute_do_not_lose_an_outcome(read):
    followed = outcomes(["a", "a"], [NOON - 60, NOON - 61], [1, 2])
    seen, counts = read(lists(["a"], [NOON]), followed)
    assert seen.totals["clicks"].tolist() == [1]
    assert seen.daily["clicks"][0, 0] == 1
    assert counts["outcomes"]["left_out"] == {"before the user's first list": 1}


def test_every_outcome_that_cannot_be_used_is_counted_under_one_reason(read):
    table = outcomes(["a"] * 9, [NOON + 1] * 9, [1] * 9)
    columns = {name: table[name].to_pylist() for name in table.column_names}
    columns["user_id"][0] = None
    columns["timestamp"][1] = None
    columns["clicks"][2] = None
    columns["clicks"][3] = float("inf")
    columns["outcome_id"][4] = columns["outcome_id"][8] = "again"
    columns["user_id"][5] = "somebody"
    columns["timestamp"][6] = END
    columns["outcome_id"][7] = None
    seen, counts = read(lists(["a"], [NOON]), pa.table(columns, schema=table.schema))
    assert counts["outcomes"]["left_out"] == {
        "no user": 1,
        "no time": 1,
        "value is no number": 2,
        "repeats another outcome": 1,
        "of nobody who was served": 1,
        "after the end": 1,
    }
    assert seen.totals["clicks"].tolist() == [2]
    assert adds_up(counts["outcomes"])


def test_an_outcome_that_a_later_part_of_the_files_repeats_counts_once(tmp_path, read):
    pq.write_table(lists(["a"], [NOON]), tmp_path / "lists.parquet")
    for name in ("1", "2"):
        pq.write_table(outcomes(["a"], [NOON + 1], [5]), tmp_path / f"o{name}.parquet")
    experiment = EXPERIMENT.model_copy(update={"slices": []})
    seen, counts = observe(
        experiment, str(tmp_path / "lists.parquet"), str(tmp_path / "o*.parquet"), None, None
    )
    assert seen.totals["clicks"].tolist() == [5]
    assert counts["outcomes"]["left_out"] == {"repeats another outcome": 1}


def test_a_truncated_file_stops_the_analysis(tmp_path, read):
    whole = tmp_path / "whole.parquet"
    pq.write_table(lists(["a", "b"], [NOON] * 2), whole)
    (tmp_path / "cut.parquet").write_bytes(whole.read_bytes()[:-100])
    with pytest.raises(InvalidInputError, match=r"cut\.parquet.*damaged or cut short"):
        observe(EXPERIMENT, str(tmp_path / "*.parquet"), None, whole, None)


def test_ids_that_are_numbers_are_those_that_are_strings(read):
    served = lists(["7", "8"], [NOON] * 2)
    followed = outcomes(["7", "8"], [NOON + 1] * 2, [1, 2])
    numbers = followed.set_column(1, "user_id", pa.array([7.0, 8.0]))
    seen, _ = read(served, numbers)
    assert sorted(seen.totals["clicks"].tolist()) == [1, 2]


def test_a_serving_log_leads_back_to_its_users(tmp_path, read):
    """Of a day whose salt is gone, and of users who are in no table, lists are left out."""
    config = LogConfig(directory=str(tmp_path / "d"), salts=str(tmp_path / "salts"))
    salts = Salts(tmp_path / "salts", config.salt_period, config.keep_salts)
    users, seconds = ["a", "a", "b", "stranger"], [NOON, NOON + DAY, NOON, NOON]
    starts = [salts.start_of(second) for second in seconds]
    hashes = [hash_ids([u], salts.salt(s))[0] for u, s in zip(users, starts, strict=True)]
    plain = lists(users, seconds)
    logged = plain.drop(["user_id"]).append_column("user_hash", pa.array(hashes))
    logged = logged.append_column("salt", pa.array(starts, pa.int64()))
    seen, counts = read(logged, genders={"a": "f", "b": "m"}, salts=tmp_path / "salts")
    assert sorted(seen.totals["lists"].tolist()) == [1, 2]
    assert counts["lists"]["left_out"] == {"user or salt not known": 1}
    fewer = tmp_path / "fewer salts"
    shutil.copytree(tmp_path / "salts", fewer)
    (fewer / f"{starts[1]}.salt").unlink()
    _, counts = read(logged, genders={"a": "f", "b": "m"}, salts=fewer)
    assert counts["lists"]["left_out"] == {"user or salt not known": 2}
    with pytest.raises(InvalidInputError, match="Give `--salts`"):
        read(logged)


def test_a_log_from_before_is_replayed_whatever_its_arms(read):
    table = lists(["a", "b", "c"], [NOON] * 3).drop(["arm", "model_version"])
    with pytest.raises(InvalidInputError, match="there is no column `arm`"):
        read(table)
    seen, counts = read(table, replay=True)
    assert len(seen.arm) == 3
    assert sorted(seen.arm) == sorted(_assigned(["a", "b", "c"]))
    assert counts["lists"]["other_version"] == 0


def test_metrics_of_the_log_alone_need_no_outcomes(tmp_path, read):
    metrics = {"primary": {"kind": "mean", "name": "lists", "value": "lists"}}
    alone = Experiment.model_validate(
        {**DEFINITION, "metrics": metrics, "slices": [], "covariate_days": None}
    )
    pq.write_table(lists(["a", "a"], [NOON, NOON + DAY]), tmp_path / "lists.parquet")
    seen, _ = observe(alone, str(tmp_path / "lists.parquet"), None, None, None)
    assert seen.totals["lists"].tolist() == [2]
    assert seen.daily["lists"][0, :3].tolist() == [1, 1, 0]
    with pytest.raises(InvalidInputError, match=r"made of `clicks`. Give `--outcomes`"):
        observe(
            EXPERIMENT.model_copy(update={"slices": []}),
            str(tmp_path / "lists.parquet"), None, None, None,
        )  # fmt: skip


def test_columns_that_are_missing_are_named(read, tmp_path):
    with pytest.raises(InvalidInputError, match="`groups`: should hold lists of"):
        read(lists(["a"], [NOON], groups=["male"]))
    with pytest.raises(InvalidInputError, match="there is no column `groups`"):
        read(lists(["a"], [NOON]).drop(["groups"]))
    other = EXPERIMENT.model_copy(update={"slices": ["region"]})
    with pytest.raises(InvalidInputError, match=r"no column `region`. It has user_id, gender"):
        read(lists(["a"], [NOON]), experiment=other)


def test_observations_are_of_the_same_users_throughout(read):
    users = [f"u{i}" for i in range(50)]
    seen, _ = read(lists(users, START + 1000 * np.arange(50)))
    lengths = {len(v) for f in dataclasses.fields(seen) for v in _arrays(getattr(seen, f.name))}
    assert lengths == {50}


def _arrays(value):
    return value.values() if isinstance(value, dict) else [value]
