"""`fairtowers gate` and `promote --verdict`: exit codes, and what is written."""

import json

import fake_audit
import pytest
import yaml

from pipelines import cli


@pytest.fixture(scope="module")
def report():
    settings = fake_audit.config(audit={"bootstrap_samples": 100, "permutations": 0})
    return fake_audit.report(settings, num_users=400)


@pytest.fixture
def call(tmp_path, monkeypatch, capsys, report):
    """Runs a command in a folder with a report; returns exit code, output and errors."""
    (tmp_path / "report.json").write_text(json.dumps(report), encoding="utf-8")
    monkeypatch.chdir(tmp_path)

    def run(*arguments, gates=None):
        raw = {"name": "x", "data": {"dataset": "synthetic"}, "gates": gates or {}}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
        monkeypatch.setattr("sys.argv", ["fairtowers", *arguments])
        try:
            cli.main()
            code = 0
        except SystemExit as end:
            code = end.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    run.folder = tmp_path
    return run


GATE = ("gate", "report.json", "--config", "run.yaml")
FEMALE = {"figure": "exposure_ratio", "group": "female"}


@pytest.mark.parametrize(("least", "code"), [(0.2, 0), (1.5, 3)])
def test_the_exit_code_says_whether_all_gates_held(call, least, code):
    found, printed, errors = call(*GATE, gates={"checks": [{**FEMALE, "min": least}]})
    assert found == code
    assert "all users, female" in printed
    verdict = json.loads((call.folder / "verdict.json").read_text())
    assert verdict["passed"] == (code == 0)
    assert ("1 of 1 gates did not hold" in errors) == (code == 3)


def test_the_last_release_may_be_given(call, report):
    earlier = json.loads(json.dumps(report))
    earlier["runs"][-1]["overall"]["quality"]["ndcg@100"]["value"] *= 2
    (call.folder / "earlier.json").write_text(json.dumps(earlier))
    gate = {"figure": "ndcg@100", "change": "relative", "min": -0.1}
    gates = {"checks": [gate], "previous": "report.json"}
    assert call(*GATE, gates=gates)[0] == 0
    assert call(*GATE, "--previous", "earlier.json", "--out", "v.json", gates=gates)[0] == 3
    verdict = json.loads((call.folder / "v.json").read_text())
    assert verdict["gates"][0]["found"] == pytest.approx(-0.5)


@pytest.mark.parametrize("text", ["{", "[]", '{"title": "another file"}'])
def test_what_is_no_report_is_refused(call, text):
    (call.folder / "report.json").write_text(text)
    code, _, errors = call(*GATE, gates={"checks": [{**FEMALE, "min": 0}]})
    assert code == 2
    assert "report.json" in errors


def test_without_gates_there_is_nothing_to_hold(call):
    code, _, errors = call(*GATE)
    assert code == 2
    assert "there are no gates" in errors


def test_a_verdict_that_did_not_pass_promotes_nothing(call):
    assert call(*GATE, gates={"checks": [{**FEMALE, "min": 1.5}]})[0] == 3
    (call.folder / "retriever").mkdir()
    code, _, errors = call("promote", "retriever", "--verdict", "verdict.json")
    assert code == 3
    assert "did not hold" in errors
    assert list((call.folder / "retriever").iterdir()) == []
