"""`fairtowers versions`, `promote` and `rollback`, as a person calls them."""

import pathlib

import pytest
from typer.testing import CliRunner

from pipelines import cli
from serving import promotion
from serving.models_config import read_models_config
from serving.versions import add_version


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A model of two versions, in the current folder."""
    monkeypatch.setattr(promotion, "check_in_fresh_process", lambda version_dir: None)
    folder = tmp_path / "retriever"
    for version in (1, 2):
        (folder / str(version)).mkdir(parents=True)
        add_version(folder, version)
    monkeypatch.chdir(tmp_path)
    return folder


def call(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, list(arguments))
    assert result.exit_code == 0, result.output
    return result.output


def rows(output: str) -> dict[str, list[str]]:
    """Words of every version's row."""
    words = [line.split() for line in output.splitlines()]
    return {first: rest for first, *rest in filter(None, words) if first.isdecimal()}


def test_promotion_and_rollback_are_one_command_each(model):
    assert rows(call("versions", "retriever")) == {"1": ["stable", "yes"], "2": ["canary", "yes"]}
    promoted = rows(call("promote", "retriever", "--poll-seconds", "0"))
    assert promoted["2"] == ["canary,", "stable", "yes"]
    assert promoted["1"] == ["yes", "before"]
    back = rows(call("rollback", "retriever"))
    assert back == {"1": ["canary,", "stable", "yes"], "2": ["yes"]}
    assert dict(read_models_config(model).labels) == {"stable": 1, "canary": 1}


def test_a_version_that_may_not_be_loaded_yet_is_an_error_in_words(model):
    error = CliRunner().invoke(cli.app, ["promote", "retriever"]).exception
    assert "may not have loaded it" in str(error)
    assert pathlib.Path("retriever/models.config").read_text().count("value: 1") == 1
