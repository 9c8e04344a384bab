"""The contract: statistics, schema, anomalies; and that nobody's attributes are told."""

import json
import pathlib
import shutil

import pytest
import tensorflow_data_validation as tfdv
from small_log import build, config, write_files

from fairness_losses.errors import InvalidInputError
from pipelines.config import SliceConfig
from pipelines.validation.coverage import NOT_KNOWN, short_of_positives, with_known_labels
from pipelines.validation.validate import (
    AnomaliesError,
    validate_examples,
)

MAKERS = ("women", "men", "")
GENDERS = ("F", "M")


def _log():
    pairs = [(u, i) for u in range(30) for i in range(9) if (u + i) % 3]
    return "who,what,when\n" + "".join(f"u{u},i{i},{u * 10 + i}\n" for u, i in pairs)


def _users(genders=GENDERS):
    rows = [f"u{u},{genders[u % len(genders)]},{20 + u},NO" for u in range(30)]
    return "\n".join(["id,gender,age,country", *rows]) + "\n"


def _items(makers=MAKERS, year="19{}0"):
    rows = [f"i{i},{makers[i % len(makers)]},a|b,{year.format(i)},T {i}" for i in range(9)]
    return "\n".join(["id,maker,genres,year,title", *rows]) + "\n"


def _build(folder, users=None, items=None, **changes):
    """Examples and their configuration."""
    write_files(folder, _log(), users or _users(), items or _items())
    audit = {"min_users": changes.pop("min_users", 2)}
    run = config(folder, split={"by": "hash", "test": 0.3}, audit=audit, **changes)
    build(run, folder / "examples")
    return run, folder / "examples"


def _validate(run, examples, previous=None):
    out = examples.parent / "schema"
    out.mkdir()
    return validate_examples(run, examples, out, previous), out


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """Examples, their inferred schema and the summary."""
    run, examples = _build(tmp_path_factory.mktemp("first"))
    summary, out = _validate(run, examples)
    return run, examples, out, summary


def _copy(first, tmp_path) -> tuple:
    run, examples, out, _ = first
    shutil.copytree(examples, tmp_path / "examples")
    return run, tmp_path / "examples", out / "schema.pbtxt"


def test_first_run_infers_a_schema_that_its_examples_fulfil(first):
    _, _, out, _ = first
    files = sorted(p.name for p in out.iterdir())
    assert files == [
        "anomalies.json",
        "positives.json",
        "schema.pbtxt",
        "summary.json",
        "test.stats.pb",
        "train.stats.pb",
        "validation.html",
        "validation.json",
        "validation.stats.pb",
    ]
    assert json.loads((out / "anomalies.json").read_text()) == []


def test_schema_tags_what_is_sensitive_and_frees_ids_and_texts(first):
    schema = tfdv.load_schema_text(str(first[2] / "schema.pbtxt"))
    features = {f.name: f for f in schema.feature}
    tagged = {n for n, f in features.items() if "sensitive" in f.annotation.tag}
    assert tagged == {"group", "slice.gender", "slice.age"}
    for free in ("user_id", "item_id", "title"):
        assert features[free].WhichOneof("domain_info") is None
    assert {f.presence.min_fraction for f in schema.feature} == {1.0}
    assert list(features["group"].string_domain.value) == ["men", "unknown", "women"]
    assert list(features["slice.age"].string_domain.value) == ["0–24", "25–44", "45+", "unknown"]
    assert {d.name for d in schema.string_domain} == {"country", "genres"}


def test_statistics_are_overall_and_per_slice_and_group(first):
    loaded = tfdv.load_stats_binary(str(first[2] / "train.stats.pb"))
    counts = {d.name: d.num_examples for d in loaded.datasets}
    assert set(counts) == {
        "All Examples",
        *(f"group_{g}" for g in ("women", "men", "unknown")),
        *(f"slice.gender_{g}" for g in GENDERS),
        *(f"slice.age_{band}" for band in ("0–24", "25–44", "45+")),
    }
    assert counts["All Examples"] == counts["slice.gender_F"] + counts["slice.gender_M"]


def test_summary_counts_positives_per_slice_and_group_and_missing_values(first):
    _, examples, out, summary = first
    assert json.loads((out / "summary.json").read_text()) == summary
    written = json.loads((examples / "counts.json").read_text())["interactions"]["written"]
    assert summary["rows"] == written
    by_gender = summary["positives"]["gender"]
    assert sum(n for groups in by_gender.values() for n in groups.values()) == written["train"]
    unknown = sum(groups["unknown"] for groups in by_gender.values())
    assert summary["missing"]["group"] == unknown > 0
    assert summary["missing"]["title"] == 0


def test_a_group_that_a_slice_has_too_few_examples_of_stops_the_run(tmp_path):
    """Of the five users of 45 and more there are about 6 examples of each group, of men 20."""
    run, examples = _build(tmp_path, validation={"min_positives": 10})
    with pytest.raises(AnomaliesError) as error:
        _validate(run, examples)
    assert "45+: fewer than 10 examples of group women" in str(error.value)
    assert "45+: fewer than 10 examples of group men" in str(error.value)
    assert "group unknown" not in str(error.value)
    assert "M: fewer" not in str(error.value)
    found = json.loads((tmp_path / "schema" / "anomalies.json").read_text())
    assert {(a["feature"], a["part"]) for a in found} == {("slice.age", "train")}


def test_enough_examples_are_no_anomaly_and_unknown_may_have_any_number():
    def cells(women: int) -> dict:
        return {"users": 5, "positives": {"women": women, "unknown": 0}}

    positives = {
        "gender": {"F": cells(3), "unknown": cells(0)},
        "gender × age": {"F × 0–24": cells(2), "unknown × 0–24": cells(0)},
    }
    assert list(short_of_positives(positives, 2)) == []
    (found,) = short_of_positives(positives, 3)
    assert found == {
        "feature": "slice.gender × age",
        "part": "train",
        "problem": "F × 0–24: fewer than 3 examples of group women",
    }
    assert list(short_of_positives(positives, 0)) == []


def test_slices_of_few_users_are_not_shown(tmp_path):
    """Users of 45 and older are ages 45 to 49: five of the thirty."""
    run, examples = _build(tmp_path, min_users=6)
    summary, out = _validate(run, examples)
    assert summary["positives"]["age"]["45+"] is None
    assert summary["positives"]["age"]["25–44"]
    names = {d.name for d in tfdv.load_stats_binary(str(out / "train.stats.pb")).datasets}
    assert "slice.age_45+" not in names
    assert "slice.age_25–44" in names


def test_statistics_look_at_no_more_rows_than_asked(first, tmp_path):
    run, examples, previous = _copy(first, tmp_path)
    run = run.model_copy(update={"validation": run.validation.model_copy(update={"max_rows": 20})})
    summary, _ = _validate(run, examples, previous)
    assert summary["rows"]["train"] == 20


def test_later_run_keeps_the_schema_as_it_is(first, tmp_path):
    run, examples, previous = _copy(first, tmp_path)
    text = previous.read_text() + "# A comment that a person wrote.\n"
    (tmp_path / "kept.pbtxt").write_text(text)
    _, out = _validate(run, examples, tmp_path / "kept.pbtxt")
    assert (out / "schema.pbtxt").read_text() == text


def test_new_group_or_slice_is_an_anomaly_that_is_counted_but_not_told(first, tmp_path, caplog):
    previous = first[2] / "schema.pbtxt"
    items = _items(("women", "men", "secret-group"))
    run, examples = _build(tmp_path, _users(("F", "M", "secret-gender")), items)
    with pytest.raises(AnomaliesError) as error:
        _validate(run, examples, previous)
    message = str(error.value)
    lines = [line.split() for line in message.splitlines()]
    assert ["group", "train"] in [line[:2] for line in lines]
    assert ["slice.gender", "test"] in [line[:2] for line in lines]
    assert "Unexpected string values: 1 value that the schema does not know in" in message
    anomalies = (tmp_path / "schema" / "anomalies.json").read_text()
    assert "secret" not in message + anomalies + caplog.text


def test_new_group_without_any_interaction_is_an_anomaly(first, tmp_path):
    items = _items() + "i10,somebody-new,a,1990,T\n"
    run, examples = _build(tmp_path, items=items)
    with pytest.raises(AnomaliesError) as error:
        _validate(run, examples, first[2] / "schema.pbtxt")
    (line,) = [x for x in str(error.value).splitlines() if x.startswith("  group")]
    assert line.split()[:2] == ["group", "catalogue"]
    assert "somebody-new" not in str(error.value)


def test_unknown_may_appear_later(tmp_path):
    run, examples = _build(tmp_path / "a", items=_items(("women", "men")))
    _, out = _validate(run, examples)
    run, examples = _build(tmp_path / "b")
    _validate(run, examples, out / "schema.pbtxt")


def test_lost_and_new_features_are_anomalies(first, tmp_path):
    features = {
        "query": [{"kind": "id", "column": "user_id"}],
        "candidate": [{"kind": "id", "column": "item_id"}, {"kind": "text", "column": "year"}],
    }
    run, examples = _build(tmp_path, features=features)
    with pytest.raises(AnomaliesError) as error:
        _validate(run, examples, first[2] / "schema.pbtxt")
    flagged = {tuple(line.split()[:2]) for line in str(error.value).splitlines()[1:-1]}
    parts = ("train", "validation", "test")
    gone = {(f, p) for f in ("country", "genres", "title", "year") for p in parts}
    assert gone < flagged
    assert "validation.schema_path" in str(error.value)


def test_curated_schema_goes_first_and_tags_hide_values(first, tmp_path):
    """A person tagged `country` as sensitive and allows Sweden only."""
    run, examples, previous = _copy(first, tmp_path)
    schema = tfdv.load_schema_text(str(previous))
    (country,) = [f for f in schema.feature if f.name == "country"]
    country.annotation.tag.append("sensitive")
    country.string_domain.value.append("SE")
    curated = tmp_path / "curated.pbtxt"
    tfdv.write_schema_text(schema, str(curated))
    validation = run.validation.model_copy(update={"schema_path": str(curated)})
    with pytest.raises(AnomaliesError) as error:
        _validate(run.model_copy(update={"validation": validation}), examples, previous)
    assert f"do not fulfil the schema {curated}" in str(error.value)
    assert "1 value that the schema does not know" in str(error.value)
    assert "NO" not in str(error.value)


@pytest.mark.parametrize("text", [None, "not a schema"])
def test_unreadable_schema_is_refused(first, tmp_path, text):
    run, examples, _ = _copy(first, tmp_path)
    path = tmp_path / "s.pbtxt"
    if text:
        path.write_text(text)
    with pytest.raises(InvalidInputError, match=r"s\.pbtxt: there is no readable schema"):
        _validate(run, examples, path)


def test_incomplete_or_damaged_examples_are_refused(first, tmp_path):
    run, examples, _ = _copy(first, tmp_path)
    shard: pathlib.Path = next(examples.glob("test-*.tfrecord.gz"))
    data = shard.read_bytes()
    shard.write_bytes(data[: len(data) // 2])
    with pytest.raises(InvalidInputError, match="the file is damaged"):
        _validate(run, examples)
    shard.unlink()
    (examples.parent / "schema").rmdir()
    with pytest.raises(InvalidInputError, match="0 of 1 files of test examples are there"):
        _validate(run, examples)


def test_labels_that_the_schema_does_not_know_are_counted_under_one_name(first):
    schema = tfdv.load_schema_text(str(first[2] / "schema.pbtxt"))

    def cells(**users: int) -> dict:
        return {
            value: {"users": n, "positives": {"women": n, "somebody": 2 * n, "else": n}}
            for value, n in users.items()
        }

    slices = [SliceConfig(column="gender"), SliceConfig(cross=["gender", "age"])]
    crossed = cells(**{"F × 0–24": 1, "who × 0–24": 2, "F × when": 3, "F": 4})
    positives = {"gender": cells(F=3, who=1, what=2), "gender × age": crossed}
    assert with_known_labels(positives, schema, slices) == {
        "gender": {
            "F": {"users": 3, "positives": {"women": 3, NOT_KNOWN: 9}},
            NOT_KNOWN: {"users": 3, "positives": {"women": 3, NOT_KNOWN: 9}},
        },
        "gender × age": {
            "F × 0–24": {"users": 1, "positives": {"women": 1, NOT_KNOWN: 3}},
            NOT_KNOWN: {"users": 9, "positives": {"women": 9, NOT_KNOWN: 27}},
        },
    }
