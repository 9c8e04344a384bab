"""Earlier releases: which files are read, and what the trend needs of them."""

import json

import full_report
import pytest

from fairness_losses.errors import InvalidInputError
from pipelines.config_file import load_config
from pipelines.report.build import write_report
from pipelines.report.releases import find_reports, read_release
from pipelines.report.sentences import worst_slice
from pipelines.report.trend import trend
from pipelines.report.trend_plot import trend_plot


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Reports of a run called `first`, and of one that has but its folder's name, `second`."""
    root = tmp_path_factory.mktemp("releases")
    report = full_report.full_report()
    write_report({**report, "release": "first"}, root / "1" / "report")
    write_report({**report, "release": None, "verdict": None}, root / "second" / "report")
    return root


def test_the_figures_are_those_of_the_last_run_of_the_report(folder):
    report = full_report.full_report()
    release = read_release(folder / "1" / "report" / "report.json")
    last = report["runs"][-1]
    assert release["release"] == "first"
    assert release["depth"] == 100
    assert release["passed"] is False
    assert list(release["groups"]) == ["female", "male", "mixed"]  # unknown has no target
    ratio = last["overall"]["groups"]["female"]["exposure_ratio"]
    assert release["groups"]["female"] == ratio
    assert release["quality"]["ndcg@100"] == last["overall"]["quality"]["ndcg@100"]
    assert tuple(release["worst"].values()) == worst_slice(last)


def test_a_release_without_a_name_has_that_of_its_run_folder(folder):
    release = read_release(folder / "second" / "report" / "report.json")
    assert (release["release"], release["passed"]) == ("second", None)


def test_files_are_found_by_path_and_glob_in_the_order_given(folder):
    second = folder / "second" / "report" / "report.json"
    found = find_reports([str(second), str(folder / "*" / "report" / "report.json")])
    assert found == [second, folder / "1" / "report" / "report.json"]


def test_a_file_that_is_not_there_is_named(folder):
    with pytest.raises(InvalidInputError, match=r"`report.previous`: there is no file .*nowhere"):
        find_reports([str(folder / "nowhere.json")])


@pytest.mark.parametrize("text", ["{", "{}", '{"runs": []}', '{"runs": [{"depth": 3}]}', "[1]"])
def test_a_file_that_is_no_report_is_named_with_what_to_do(tmp_path, text):
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=r"is no `report.json` of a report .*Name the file"):
        read_release(path)


def test_paths_are_relative_to_the_yaml(tmp_path):
    data = {"interactions": {"path": "log.csv"}}
    raw = {"name": "x", "data": data, "report": {"previous": ["old/report.json"]}}
    (tmp_path / "run.yaml").write_text(json.dumps(raw))
    previous = load_config(tmp_path / "run.yaml").report.previous
    assert previous == [str(tmp_path / "old" / "report.json")]


def test_a_group_that_is_new_has_no_past():
    report = full_report.full_report()
    releases = [{**each, "groups": {}} for each in report["releases"]]
    found = trend({**report, "releases": releases})
    assert [each["release"] for each in found.releases][-1] == "November"
    assert list(found.plots) == found.groups == ["female", "male", "mixed"]
    assert trend({**report, "releases": []}) is None


def test_names_of_releases_stay_apart_however_many_there_are():
    estimate = {"value": 0.9, "low": 0.8, "high": 1.0}
    svg = trend_plot("t", "Trend", "", [(f"2026-{i:02}", estimate) for i in range(1, 25)], (0, 1.1))
    shown = [f"2026-{i:02}" for i in range(1, 25) if f">2026-{i:02}</text>" in svg]
    assert shown == ["2026-06", "2026-12", "2026-18", "2026-24"]
