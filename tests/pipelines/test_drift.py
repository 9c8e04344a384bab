"""Day two: what changed since the first is found and named; what chance changed is not."""

import json
import pathlib
import re

import numpy as np
import pandas as pd
import pytest
from small_log import build, config

from pipelines.validation.drift import changed_shares
from pipelines.validation.validate import AnomaliesError, validate_examples

USERS, ITEMS, ROWS = 400, 90, 4000


def _write(folder: pathlib.Path, seed: int, women: float = 0.3, ages: float = 1.0, genre="c"):
    """A day's log: `women` of the choices are of items by women, the first 27."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    by_women = rng.random(ROWS) < women
    items = np.where(by_women, rng.integers(0, 27, ROWS), rng.integers(27, ITEMS, ROWS))
    log = {"who": rng.integers(0, USERS, ROWS), "what": items, "when": rng.integers(0, 10**6, ROWS)}
    users = {
        "id": range(USERS),
        "gender": np.resize(["F", "M"], USERS),
        "age": (18 + np.arange(USERS) % 50) * ages,
        "country": np.resize(["NO", "SE", "DK"], USERS),
    }
    makers = np.where(np.arange(ITEMS) < 27, "women", "men")
    catalogue = {
        "id": range(ITEMS),
        "maker": makers,
        "genres": np.resize(["a", "b", genre], ITEMS),
        "year": 1990 + np.arange(ITEMS) % 30,
        "title": "t",
    }
    for name, table in (("log", log), ("users", users), ("items", catalogue)):
        pd.DataFrame(table).to_csv(folder / f"{name}.csv", index=False)
    settings = {"max_drift": 0.1, "max_share_ratio": 1.3}
    run = config(folder, split={"by": "hash", "test": 0.2}, validation=settings)
    build(run, folder / "examples")
    return run


@pytest.fixture(scope="module")
def first_day(tmp_path_factory) -> pathlib.Path:
    """The folder of a validation."""
    folder = tmp_path_factory.mktemp("days") / "first"
    run = _write(folder, seed=1)
    (folder / "schema").mkdir()
    validate_examples(run, folder / "examples", folder / "schema", None)
    return folder / "schema"


def _second_day(folder: pathlib.Path, first_day: pathlib.Path, **changed) -> list[dict[str, str]]:
    """The anomalies of a day that changed."""
    run = _write(folder / "day", seed=2, **changed)
    out = folder / "schema"
    out.mkdir()
    before = first_day / "schema.pbtxt"
    if not changed:
        validate_examples(run, folder / "day" / "examples", out, before)
        return []
    with pytest.raises(AnomaliesError) as error:
        validate_examples(run, folder / "day" / "examples", out, before)
    found = json.loads((out / "anomalies.json").read_text())
    assert all(each["problem"] in str(error.value) for each in found)
    return found


def test_another_day_like_the_first_has_no_anomaly(first_day, tmp_path):
    assert _second_day(tmp_path, first_day) == []


def test_a_group_of_which_half_is_gone_is_named_with_its_shares(first_day, tmp_path):
    found = _second_day(tmp_path, first_day, women=0.15)
    (of_all,) = (a["problem"] for a in found if a["feature"] == "group")
    assert re.fullmatch(r"women: 1[45]\.\d% of the examples, (29|30)\.\d% before", of_all)
    assert {a["feature"] for a in found} >= {"group in gender=F", "group in gender=M"}


def test_ages_in_months_are_named_by_their_slice(first_day, tmp_path):
    found = _second_day(tmp_path, first_day, ages=12.0)
    named = {a["problem"].split(":")[0] for a in found if a["feature"] == "age"}
    assert named == {"0–24", "25–44", "45+"}


def test_a_new_category_is_an_anomaly_of_its_feature(first_day, tmp_path):
    found = _second_day(tmp_path, first_day, genre="new")
    assert {a["feature"] for a in found} == {"genres"}
    assert "new" in found[0]["problem"]


def cells(**counts: tuple[int, int]) -> dict:
    """A division of the users: by value, examples of women and of men, of 50 users."""
    return {
        "gender": {
            value: {"users": 50, "positives": {"women": women, "men": men}}
            for value, (women, men) in counts.items()
        }
    }


def changes(now: dict, before: dict, max_ratio: float = 1.5, min_users: int = 20) -> list[str]:
    found = changed_shares(now, before, max_ratio, min_users)
    return [f"{a['feature']}: {a['problem']}" for a in found]


def test_shares_by_hand():
    """Women's share of all is 600 of 2,000 and then 300; of F it stays."""
    before = cells(F=(300, 700), M=(300, 700))
    assert changes(cells(F=(290, 710), M=(10, 990)), before) == [
        "group: women: 15.0% of the examples, 30.0% before",
        "group in gender=M: women: 1.0% of the examples, 30.0% before",
    ]


def test_a_slice_that_grew():
    before = cells(F=(300, 700), M=(300, 700))
    assert changes(cells(F=(600, 1400), M=(150, 350)), before, max_ratio=1.3) == [
        "gender: F: 80.0% of the examples, 50.0% before",
        "gender: M: 20.0% of the examples, 50.0% before",
    ]


def test_a_change_that_is_allowed_or_chance_is_none():
    before = cells(F=(300, 700), M=(300, 700))
    assert changes(cells(F=(400, 600), M=(400, 600)), before) == []
    assert changes(cells(F=(3, 7), M=(9, 1)), cells(F=(3, 7), M=(3, 7))) == []


def test_nothing_is_told_of_few_users_nor_of_what_was_not_there():
    before = cells(F=(300, 700), M=(300, 700))
    before["gender"]["M"]["users"] = 5
    assert not any("M" in each for each in changes(cells(F=(300, 700), M=(10, 990)), before))
    assert changes(cells(F=(300, 700)), {}) == []
