"""Training-serving skew: what requests have that examples have not, and the other way round."""

import json
import pathlib

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from small_log import build, config
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from pipelines.readers.chunks import Block
from pipelines.validation.comparators import distances, with_comparators
from pipelines.validation.contract import load_schema
from pipelines.validation.schema_checks import check_skew, described
from pipelines.validation.serving_data import as_examples
from pipelines.validation.statistics import load_statistics
from pipelines.validation.validate import AnomaliesError, validate_examples
from towers.config import CategoricalFeature, IdFeature, NumericFeature, VectorFeature

USERS, ITEMS, ROWS = 300, 60, 4000


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> tuple:
    """A run whose query tower sees the country, hobbies and the years somebody is a member."""
    folder = tmp_path_factory.mktemp("skew")
    rng = np.random.default_rng(0)
    users = {
        "id": range(USERS),
        "gender": np.resize(["F", "M"], USERS),
        "country": rng.choice(["NO", "SE", "DK"], USERS, p=[0.5, 0.3, 0.2]),
        "hobbies": rng.choice(["a", "a|b", "b|c"], USERS),
        "years": rng.gamma(2, 3, USERS).round(1),
    }
    log = {"who": rng.integers(0, USERS, ROWS), "what": rng.integers(0, ITEMS, ROWS)}
    items = {"id": range(ITEMS), "maker": np.resize(["women", "men"], ITEMS)}
    for name, table in (("log", log | {"when": 1}), ("users", users), ("items", items)):
        pd.DataFrame(table).to_csv(folder / f"{name}.csv", index=False)
    run = config(
        folder,
        features={
            "query": [
                {"kind": "categorical", "column": "country"},
                {"kind": "categorical", "column": "hobbies", "separator": "|"},
                {"kind": "numeric", "column": "years", "default": 0.0},
                {"kind": "history"},
            ],
        },
        slices=[{"column": "gender"}],
        split={"by": "hash", "test": 0.2},
    )
    build(run, folder / "examples")
    drawn = pd.DataFrame(users).iloc[rng.integers(0, USERS, 1500)].reset_index(drop=True)
    drawn["hobbies"] = drawn["hobbies"].str.split("|")
    requests = drawn[["country", "hobbies", "years"]].assign(history=[["1", "2"]] * len(drawn))
    return run, folder / "examples", requests


def found(shop, tmp_path: pathlib.Path, requests: pd.DataFrame, max_skew=0.1, form="jsonl"):
    """The anomalies that requests give, as feature and problem."""
    path = tmp_path / f"requests.{form}"
    if form == "parquet":
        requests.to_parquet(path)
    else:
        requests.to_json(path, orient="records", lines=True)
    return found_in(path, shop, tmp_path, max_skew)


def found_in(path: pathlib.Path, shop, tmp_path: pathlib.Path, max_skew=0.1):
    """The anomalies of a file."""
    run, examples, _ = shop
    settings = {"serving_path": str(path), "max_skew": max_skew}
    run = run.model_copy(update={"validation": run.validation.model_copy(update=settings)})
    out = tmp_path / "schema"
    out.mkdir()
    try:
        validate_examples(run, examples, out, None)
    except AnomaliesError as error:
        message = str(error)
    else:
        message = ""
    anomalies = json.loads((out / "anomalies.json").read_text())
    assert all(each["part"] == "serving" and each["problem"] in message for each in anomalies)
    assert bool(anomalies) == ("`validation.serving_path` are not like" in message)
    return {each["feature"]: each["problem"] for each in anomalies}


@pytest.mark.parametrize("form", ["jsonl", "parquet"])
def test_requests_like_the_training_examples_are_fine(shop, tmp_path, form):
    """With a history, which is in no example, an id and a time, which logs have."""
    requests = shop[2].assign(user_id="u", timestamp=1)
    assert found(shop, tmp_path, requests, form=form) == {}
    result = json.loads((tmp_path / "schema" / "validation.json").read_text())
    assert result["examples"]["serving"] == len(requests)
    compared = {each["feature"]: each for each in result["skew"]}
    assert compared.keys() == {"country", "hobbies", "years"}
    assert all(0 <= each["distance"] < 0.1 == each["limit"] for each in compared.values())


def test_a_number_in_another_unit_is_named(shop, tmp_path):
    requests = shop[2].assign(years=shop[2]["years"] * 12)
    problems = found(shop, tmp_path, requests)
    assert problems.keys() == {"years"}
    assert problems["years"].startswith(
        "Jensen-Shannon divergence from the training examples is 0."
    )


def test_a_default_where_training_has_real_values_is_named(shop, tmp_path):
    requests = shop[2].assign(country="NO")
    (problem,) = found(shop, tmp_path, requests).values()
    assert "Largest difference of a value’s share from the training examples is 0.5" in problem
    assert "of NO; the limit is 0.1" in problem


def test_skew_without_a_limit_is_measured_and_never_an_anomaly(shop, tmp_path):
    requests = shop[2].assign(country="NO")
    assert found(shop, tmp_path, requests, max_skew=None) == {}
    result = json.loads((tmp_path / "schema" / "validation.json").read_text())
    (country,) = (each for each in result["skew"] if each["feature"] == "country")
    assert country["distance"] > 0.4
    assert country["limit"] is None


def test_missing_features_and_additional_ones_are_named(shop, tmp_path):
    """A sensitive attribute in the requests is one too many; its values are not told."""
    requests = shop[2].drop(columns="country").assign(gender="secret-gender")
    problems = found(shop, tmp_path, requests)
    assert problems.keys() == {"country", "gender"}
    assert problems["country"].startswith("Column dropped")
    assert problems["gender"].startswith("New column")
    texts = [
        p.read_text() for p in (tmp_path / "schema").iterdir() if p.suffix in (".json", ".html")
    ]
    assert not any("secret" in text for text in texts)


def test_a_feature_that_some_requests_lack_is_named_although_training_has_a_default(shop, tmp_path):
    requests = shop[2].copy()
    requests.loc[:99, "years"] = np.nan
    problems = found(shop, tmp_path, requests)
    assert problems.keys() == {"years"}
    assert "minimum fraction = 1" in problems["years"]


@pytest.mark.parametrize("broken", [0, 1])
def test_what_only_late_requests_have_is_seen(shop, tmp_path, broken):
    """The first thousand lines have no country and no gender; and a line is no object, or none."""
    requests = pd.concat([shop[2]] * 2, ignore_index=True).assign(gender="F")
    lines = requests.to_json(orient="records", lines=True).splitlines()
    for row in range(1000):
        line = json.loads(lines[row])
        del line["country"], line["gender"]
        lines[row] = json.dumps(line)
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(lines + ["no object"] * broken))
    problems = found_in(path, shop, tmp_path)
    assert problems["gender"].startswith("New column")
    statistics = load_statistics(tmp_path / "schema" / "serving.stats.pb")["All Examples"]
    (missing,) = (
        f.string_stats.common_stats.num_missing
        for f in statistics.features
        if f.path.step[0] == "country"
    )
    assert missing == 1000 + broken


def test_values_that_training_does_not_know_are_named(shop, tmp_path):
    requests = shop[2].copy()
    requests.loc[:299, "country"] = "Norway"
    problem = found(shop, tmp_path, requests)["country"]
    assert "Norway" in problem


def test_no_requests_are_an_anomaly(shop, tmp_path):
    assert found(shop, tmp_path, shop[2].iloc[:0], form="parquet") == {"": "there are no requests"}


def test_labels_and_features_of_items_are_not_expected_in_requests(shop, tmp_path):
    run, _, requests = shop
    found(shop, tmp_path, requests)
    schema = load_schema(tmp_path / "schema" / "schema.pbtxt")
    assert not schema.default_environment
    compared = with_comparators(schema, run)
    assert set(compared.default_environment) == {"TRAINING", "SERVING"}
    absent = {f.name for f in compared.feature if "SERVING" in f.not_in_environment}
    assert absent == {"user_id", "item_id", "group", "slice.gender", "timestamp"}
    limited = {f.name for f in compared.feature if f.HasField("skew_comparator")}
    assert limited == {"country", "hobbies", "years"}


def test_limits_of_a_curated_schema_hold_unless_a_setting_goes_before_them(shop):
    run = shop[0]
    schema = schema_pb2.Schema()
    schema.feature.add(name="years", type=schema_pb2.FLOAT)
    curated = schema.feature[0].drift_comparator.jensen_shannon_divergence
    curated.threshold = 0.05

    def threshold(max_drift: float | None) -> float:
        validation = run.validation.model_copy(update={"max_drift": max_drift})
        (years,) = with_comparators(
            schema, run.model_copy(update={"validation": validation})
        ).feature
        return years.drift_comparator.jensen_shannon_divergence.threshold

    assert (threshold(None), threshold(0.3)) == (0.05, 0.3)
    schema.feature[0].ClearField("drift_comparator")
    assert threshold(None) > 1  # Measured, and never too large.
    curated.threshold = 1.0
    assert threshold(None) == threshold(1.0) > 1


def histogram(first: float, counts: np.ndarray) -> statistics_pb2.DatasetFeatureStatistics:
    """Statistics of `years` with buckets from a first value on."""
    rows = int(counts.sum())
    whole = statistics_pb2.DatasetFeatureStatistics(num_examples=rows)
    years = whole.features.add(type=statistics_pb2.FeatureNameStatistics.FLOAT)
    years.path.step.append("years")
    years.num_stats.common_stats.num_non_missing = rows
    years.num_stats.common_stats.tot_num_values = rows
    buckets = years.num_stats.histograms.add().buckets
    for low, count in enumerate(counts, start=first):
        buckets.add(low_value=low, high_value=low + 1, sample_count=count)
    return whole


@pytest.mark.parametrize("max_skew", [None, 1.0])
def test_numbers_that_have_nothing_in_common_are_no_anomaly_without_a_limit(shop, max_skew):
    """TFDV finds a divergence of 1.0000000000000002 between some of these."""
    validation = shop[0].validation.model_copy(update={"max_skew": max_skew})
    run = shop[0].model_copy(update={"validation": validation})
    schema = schema_pb2.Schema()
    schema.feature.add(name="years", type=schema_pb2.FLOAT)
    compared, largest = with_comparators(schema, run), 0.0
    rng = np.random.default_rng(1)
    for _ in range(100):
        here, there = (histogram(first, 100 * rng.dirichlet(np.ones(10))) for first in (0, 100))
        checked = check_skew(here, there, compared)
        assert described(checked, "serving", here, compared, run) == ([], [])
        (measured,) = distances(checked, "serving")
        assert (measured["distance"], measured["limit"]) == (1.0, None)
        largest = max(largest, checked.drift_skew_info[0].skew_measurements[0].value)
    assert largest > 1


def test_requests_have_the_types_of_examples():
    table = pa.table(
        {
            "user_id": [7, 8, None],
            "years": ["1.5", "many", "2"],
            "tags": [["a", "b"], None, []],
            "style": [[1.0, 2.0], [1.0, 2.0], [3.0]],
        }
    )
    features = [
        IdFeature(kind="id", column="user_id"),
        NumericFeature(kind="numeric", column="years", default=9.0),
        CategoricalFeature(kind="categorical", column="tags"),
        VectorFeature(kind="vector", column="style"),
        NumericFeature(kind="numeric", column="gone"),
    ]
    batch = as_examples(Block(table, unreadable=np.array([4])), features)
    assert batch.to_pydict() == {
        "user_id": [[b"7"], [b"8"], None, None],
        "years": [[1.5], None, [2.0], None],
        "tags": [[b"a", b"b"], None, [b""], None],
        "style": [[1.0, 2.0], [1.0, 2.0], None, None],
        "gone": [None] * 4,
    }
    kinds = {"user_id": pa.large_binary(), "tags": pa.large_binary()}
    for name in batch.schema.names:
        kind = pa.large_list(kinds.get(name, pa.float32()))
        assert batch.schema.field(name).type == kind
