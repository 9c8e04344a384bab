"""The run configuration: what is refused, in which words, and what is made of paths."""

import os
import pathlib
import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fairness_losses.errors import InvalidInputError
from pipelines.config import RunConfig, fingerprint
from pipelines.config_file import load_config, load_settings
from pipelines.simulation.config import SimulationConfig

CONFIGS = pathlib.Path(__file__).resolve().parents[2] / "configs"

SYNTHETIC = {"name": "x", "data": {"dataset": "synthetic"}}
TIMED = {"dataset": "synthetic", "interactions": {"timestamp": "timestamp"}}


def _write(folder: pathlib.Path, content: object) -> pathlib.Path:
    path = folder / "run.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def _refusal(folder: pathlib.Path, content: object) -> str:
    """The message for a refused configuration, less the file's name at its beginning."""
    path = _write(folder, content)
    with pytest.raises(InvalidInputError) as error:
        load_config(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    "path", sorted({*CONFIGS.glob("*.yaml")} - {CONFIGS / "simulation.yaml"}), ids=lambda p: p.stem
)
def test_the_ready_configurations_are_valid(path):
    assert load_config(path).groups is not None


def test_the_ready_simulation_is_valid():
    config = load_settings(CONFIGS / "simulation.yaml", SimulationConfig)
    assert [arm.policy.kind for arm in config.arms.values()] == [
        "relevance",
        "relevance",
        "quota",
        "steered",
    ]


def test_a_wrong_key_under_a_name_of_ones_own_is_told_with_the_known_ones(tmp_path):
    path = _write(tmp_path, {"name": "Loop", "arms": {"mine": {"policy": {"knd": "quota"}}}})
    with pytest.raises(InvalidInputError) as caught:
        load_settings(path, SimulationConfig)
    assert str(caught.value) == (
        f"{path}: `arms.mine.policy.knd` is not a known key; did you mean `kind`?"
    )


def test_everything_but_the_name_and_the_data_has_a_default(tmp_path):
    config = load_config(_write(tmp_path, SYNTHETIC))
    assert config == RunConfig.model_validate(SYNTHETIC)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trainng": {}}, "`trainng` is not a known key; did you mean `training`?"),
        (
            {"training": {"epoch": 1}},
            "`training.epoch` is not a known key; did you mean `epochs`?",
        ),
        (
            {"fairness": {"target": {"includ_unknown": True}}},
            "`fairness.target.includ_unknown` is not a known key; did you mean `include_unknown`?",
        ),
        (
            {"slices": [{"column": "age"}, {"column": "age", "band": [1]}]},
            "`slices.1.band` is not a known key; did you mean `bands`?",
        ),
        (
            {"features": {"query": [{"kind": "text", "column": "a", "max_word": 3}]}},
            "`features.query.0.max_word` is not a known key; did you mean `max_words`?",
        ),
        (
            {"features": {"candidate": [{"kind": "numeric", "column": "a", "bins": 3}]}},
            "`features.candidate.0.bins` is not a known key; the known ones are `kind`, `column`, "
            "`default`.",
        ),
        (
            {"data": {**TIMED, "interactions": {"usr": "u"}}},
            "`data.interactions.usr` is not a known key; did you mean `user`?",
        ),
        (
            {"groups": {"zzz": 1, "columns": ["a"]}},
            "`groups.zzz` is not a known key; the known ones are `columns`, `unknown_values`.",
        ),
    ],
)
def test_an_unknown_key_is_named_with_the_nearest_known_one(tmp_path, change, message):
    assert _refusal(tmp_path, {**SYNTHETIC, **change}) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": {"dataset": "synthetic"}}, "`name` is needed."),
        ({"name": "x"}, "`data` is needed."),
        (
            {"name": "x", "data": {"items": {"path": "a.csv"}}},
            "`data.items.id` is needed.",
        ),
        (
            {**SYNTHETIC, "features": {"query": [{"kind": "id"}]}},
            "`features.query.0.column` is needed.",
        ),
        (
            {**SYNTHETIC, "features": {"query": [{"column": "user_id"}]}},
            "`features.query.0.kind` is needed.",
        ),
        (
            {"name": "x", "data": {}},
            "`data`: `data.interactions.path` is needed when `data.dataset` is `files`.",
        ),
    ],
)
def test_a_missing_key_is_named(tmp_path, content, message):
    assert _refusal(tmp_path, content) == message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 5}, "`name` should be a valid string. Received: 5."),
        (
            {"seed": -1},
            "`seed` should be greater than or equal to 0. Received: -1.",
        ),
        (
            {"split": {"by": "tme"}},
            "`split.by` should be 'hash', 'time', 'last_n' or 'column'. Received: 'tme'.",
        ),
        (
            {"features": {"query": [{"kind": "numric", "column": "a"}]}},
            "`features.query.0.kind` should be one of 'id', 'categorical', 'numeric', 'text', "
            "'vector', 'history'. Received: 'numric'.",
        ),
        ({"data": "foo"}, "`data` should be a mapping of keys to values. Received: 'foo'."),
        (
            {"audit": {"ks": [10, 0]}},
            "`audit.ks.1` should be greater than or equal to 1. Received: 0.",
        ),
        (
            {"fairness": {"target": {"kind": "explicit", "shares": {"a": "half"}}}},
            "`fairness.target.shares.a` should be a valid number, unable to parse string as a "
            "number. Received: 'half'.",
        ),
        ({1: 2}, "`1`: keys should be strings. Received: 1."),
    ],
)
def test_a_wrong_value_is_named_with_what_it_should_be(tmp_path, change, message):
    assert _refusal(tmp_path, {**SYNTHETIC, **change}) == message


def test_all_problems_are_named_at_once(tmp_path):
    message = _refusal(tmp_path, {"data": {"dataset": "synthetic"}, "sed": 1, "audit": {"ks": []}})
    assert "`name` is needed. " in message
    assert "did you mean `seed`?" in message
    assert "`audit.ks`" in message


GROUPED = {"groups": {"columns": ["maker"]}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {**GROUPED, "features": {"candidate": [{"kind": "categorical", "column": "maker"}]}},
            "`maker` is sensitive (it is listed, or makes a group or slice) and is also a feature.",
        ),
        (
            {
                "slices": [{"column": "age", "bands": [0, 30]}],
                "features": {"query": [{"kind": "numeric", "column": "age"}]},
            },
            "`age` is sensitive",
        ),
        (
            {
                "sensitive": ["religion"],
                "features": {"query": [{"kind": "text", "column": "religion"}]},
            },
            "`religion` is sensitive",
        ),
    ],
)
def test_a_sensitive_column_is_no_feature_unless_that_is_said_in_so_many_words(
    tmp_path, change, message
):
    assert message in _refusal(tmp_path, {**SYNTHETIC, **change})
    change["features"]["allow_sensitive"] = True
    load_config(_write(tmp_path, {**SYNTHETIC, **change}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slices": [{}]}, "`slices.0`: a slice should have either `column` or `cross`."),
        (
            {"slices": [{"column": "a", "cross": ["a", "b"]}]},
            "`slices.0`: a slice should have either `column` or `cross`.",
        ),
        (
            {"slices": [{"cross": ["a", "b"], "bands": [1]}]},
            "`slices.0`: `bands` belong to a `column`, not to a `cross`.",
        ),
        (
            {"slices": [{"column": "a", "bands": [3, 1]}]},
            "`slices.0`: `bands` should increase. Received: [3.0, 1.0].",
        ),
        (
            {"slices": [{"column": "a"}, {"cross": ["a", "b"]}]},
            "The slice `a × b` crosses `b`, which is not sliced on its own: add `- column: b` to "
            "`slices`.",
        ),
        (
            {"data": {"interactions": {"path": "a.csv"}}, **GROUPED},
            "`groups` are columns of the items table: give `data.items`.",
        ),
        (
            {"data": {"interactions": {"path": "a.csv"}}, "slices": [{"column": "a"}]},
            "`slices` are columns of the users table: give `data.users`.",
        ),
        (
            {"split": {"by": "time"}},
            "`split.by: time` needs `data.interactions.timestamp`, the column of the time. "
            "Without times use `split.by: hash`.",
        ),
        (
            {"split": {"validation": 0.5, "test": 0.5}},
            "`split.validation` and `split.test` should sum to less than 1.",
        ),
        (
            {**GROUPED, "training": {"catalogue_sample": 0}},
            "`training.catalogue_sample: 0` leaves the regularizer without candidates: give 1024, "
            "say, or set `fairness.weight: 0`.",
        ),
        (
            {"validation": {"max_skew": 0.1}},
            "`validation.max_skew` needs `validation.serving_path`: give both.",
        ),
        (
            {"validation": {"serving_path": "a"}, "features": {"query": [{"kind": "history"}]}},
            "`validation.serving_path` needs a feature in `features.query` that examples have, "
            "too; a history is in none. Remove the setting.",
        ),
        (
            {"serving": {"k": 50}},
            "`audit.ks` goes to 100 but `serving.k` is 50: raise `serving.k` or audit fewer.",
        ),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path, change, message):
    assert _refusal(tmp_path, {**SYNTHETIC, **change}) == message


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match=r"no\.yaml: there is no such configuration file"):
        load_config(tmp_path / "no.yaml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"serving": {"policy": {"kind": "quota"}}},
            "`serving.policy.kind: quota` needs `groups`: give them.",
        ),
        (
            {
                "groups": {"columns": ["skin_tone"]},
                "slices": [{"column": "gender"}],
                "serving": {
                    "policy": {
                        "kind": "quota",
                        "by_slice": {"slice": "age", "values": {"0–34": {"tolerance": 0.1}}},
                    }
                },
            },
            "`serving.policy.by_slice.slice` should be one of `slices`: gender. Received: 'age'.",
        ),
    ],
)
def test_a_policy_has_to_fit_groups_and_slices(tmp_path, change, message):
    assert _refusal(tmp_path, {**SYNTHETIC, **change}) == message


@pytest.mark.parametrize("text", ["name: [", "a: b: c", "\tname: x"])
def test_what_is_not_yaml_is_refused_with_its_place(tmp_path, text):
    path = _write(tmp_path, text)
    with pytest.raises(InvalidInputError) as error:
        load_config(path)
    assert str(error.value).startswith(f"{path}: not a YAML file: ")
    assert "line 1" in str(error.value)


def test_a_binary_file_is_refused(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_bytes(b"PAR1\xff\xfe\x00")
    with pytest.raises(InvalidInputError, match="not a YAML file"):
        load_config(path)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words\n"])
def test_yaml_that_is_no_mapping_is_refused(tmp_path, text):
    assert _refusal(tmp_path, text) == "should be a YAML mapping of keys to values."


FILES = {
    "name": "x",
    "data": {
        "interactions": {"path": "log-*.csv"},
        "users": {"path": "/elsewhere/users.csv", "id": "id"},
        "items": {"path": "gs://bucket/items.parquet", "id": "id"},
    },
}


def test_relative_paths_start_from_the_folder_of_the_yaml(tmp_path):
    data = load_config(_write(tmp_path, FILES)).data
    assert data.interactions.path == str(tmp_path / "log-*.csv")
    assert data.users.path == "/elsewhere/users.csv"
    assert data.items.path == "gs://bucket/items.parquet"


def test_the_directory_of_the_data_is_relative_to_the_yaml_and_data_paths_to_it(tmp_path):
    raw = {**FILES, "data": {**FILES["data"], "directory": "logs"}}
    data = load_config(_write(tmp_path, raw)).data
    assert data.interactions.path == str(tmp_path / "logs" / "log-*.csv")


def test_data_from_the_command_line_is_relative_to_where_it_was_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs").mkdir()
    raw = {**FILES, "data": {**FILES["data"], "directory": "logs"}}
    data = load_config(_write(tmp_path / "configs", raw), "typed").data
    assert data.directory == str(tmp_path / "typed")
    assert data.interactions.path == str(tmp_path / "typed" / "log-*.csv")
    movielens = {"name": "x", "data": {"dataset": "movielens_1m"}}
    path = _write(tmp_path / "configs", movielens)
    assert load_config(path, "typed").data.directory == str(tmp_path / "typed")


def test_a_configuration_is_the_same_from_wherever_it_is_read(tmp_path, monkeypatch):
    """Otherwise nothing would be up to date in another folder."""
    path = _write(tmp_path, FILES)
    monkeypatch.chdir(tmp_path)
    assert load_config("run.yaml") == load_config(path)


def test_a_curated_schema_and_requests_are_relative_to_the_yaml(tmp_path):
    raw = {**SYNTHETIC, "validation": {"schema_path": "s.pbtxt", "serving_path": "log/*.jsonl"}}
    config = load_config(_write(tmp_path, raw))
    assert config.validation.schema_path == str(tmp_path / "s.pbtxt")
    assert config.validation.serving_path == str(tmp_path / "log/*.jsonl")
    raw["validation"]["serving_path"] = "gs://bucket/*.jsonl"
    assert load_config(_write(tmp_path, raw)).validation.serving_path == "gs://bucket/*.jsonl"


def test_fingerprints_are_the_same_in_every_process(tmp_path):
    """Hash seeds change the order of sets; a stage would then never be up to date."""
    path = CONFIGS / "synthetic.yaml"
    code = (
        "import sys; from pipelines.config import fingerprint; "
        "from pipelines.config_file import load_config; "
        "c = load_config(sys.argv[1]); print(fingerprint(c, [c.features, 'é'], {'b': 1, 'a': 2}))"
    )
    config = load_config(path)
    found = {fingerprint(config, [config.features, "é"], {"a": 2, "b": 1})}
    for seed in ("1", "2"):
        result = subprocess.run(
            [sys.executable, "-c", code, str(path)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=CONFIGS.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(result.stdout.strip())
    assert len(found) == 1


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_fingerprints_differ_if_and_only_if_settings_do(a, b):
    one, other = (RunConfig.model_validate({**SYNTHETIC, "seed": s}) for s in (a, b))
    assert (fingerprint(one) == fingerprint(other)) == (a == b)


def test_a_fingerprint_refuses_what_has_no_stable_form():
    with pytest.raises(TypeError, match="cannot hold a set"):
        fingerprint({"a"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"slices": [{"column": "age"}, {"column": "age", "bands": [0, 30]}]},
            "`age` is there twice",
        ),
        ({"fairness": {"regularizer": "exposure_partiy"}}, "should be one of absolute_correlation"),
        ({"serving": {"name": ".."}}, "serving.name"),
    ],
)
def test_what_would_fail_late_is_refused_at_once(tmp_path, change, message):
    base = {"name": "x", "data": {"dataset": "synthetic"}}
    assert message in _refusal(tmp_path, {**base, **change})


def test_an_id_that_is_sensitive_under_its_own_name_is_no_feature(tmp_path):
    data = {"interactions": {"path": "log.csv", "user": "member", "item": "sku"}}
    message = _refusal(tmp_path, {"name": "x", "data": data, "sensitive": ["member"]})
    assert "`member` is sensitive" in message
