"""A gate stops what it is there to stop: a release whose regularizer was switched off."""

import copy
import json
import shutil

import pytest
from tiny_run import TINY, write_config

pytestmark = pytest.mark.slow

GATES = {
    "checks": [
        {
            "name": "no group far behind",
            "figure": "exposure_ratio",
            "of": "difference",
            "max": 0.35,
        },
        {"name": "darkest range", "figure": "exposure_ratio", "group": "range_4", "min": 0.8},
        {"name": "still relevant", "figure": "ndcg@20", "min": 0.02},
    ]
}


@pytest.fixture
def release(tiny, tmp_path, main, monkeypatch):
    """Runs the tiny job with gates and changed settings; returns exit code, errors and verdict."""
    # The session's run has done this check in the same models.
    monkeypatch.setattr("serving.check.check_in_fresh_process", lambda folder: None)
    out = tmp_path / "run"
    shutil.copytree(tiny.out, out)

    def run(command="run", gates=GATES, **fairness):
        content = copy.deepcopy(TINY) | {"gates": gates}
        content["fairness"] |= fairness
        code, _, errors = main(command, write_config(tmp_path, content), out)
        return code, errors, json.loads((out / "report" / "verdict.json").read_text())

    run.out = out
    return run


def test_the_regularized_model_passes_and_the_same_without_its_regularizer_fails(release):
    code, errors, verdict = release()
    assert (code, errors) == (0, "")
    assert verdict["passed"]
    assert [gate["status"] for gate in verdict["gates"]] == ["passed"] * 3
    assert json.loads((release.out / "report" / "report.json").read_text())["verdict"] == verdict

    code, errors, verdict = release(weight=0.0)
    assert code == 3
    assert "2 of 3 gates did not hold" in errors
    assert {gate["name"]: gate["status"] for gate in verdict["gates"]} == {
        "no group far behind": "failed",
        "darkest range": "failed",
        "still relevant": "passed",
    }
    # What is up to date is held against the gates all the same.
    assert release("report", weight=0.0)[0] == 3


def test_the_last_release_is_what_the_next_is_compared_with(release, tmp_path):
    before = tmp_path / "before.json"
    shutil.copy(release.out / "report" / "report.json", before)
    gate = {"figure": "exposure_ratio", "group": "range_4", "change": "absolute", "min": -0.05}
    gates = {"previous": "before.json", "checks": [gate]}
    code, _, verdict = release("report", gates)
    assert code == 0
    assert verdict["gates"][0]["found"] == pytest.approx(0)
    assert release("run", gates, weight=0.0)[0] == 3
