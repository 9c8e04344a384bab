"""Gates: what a report has to say, and what it means when it says nothing."""

import copy
import json

import pytest
from pydantic import ValidationError

from fairness_losses.errors import InvalidInputError
from pipelines.gates.config import GateConfig, GatesConfig
from pipelines.gates.evaluate import GateError, check_verdict, evaluate, sentence
from pipelines.gates.promotion import promotable


def figure(value, half=0.05, count=100):
    return {"value": value, "low": value - half, "high": value + half, "count": count}


def cell(female, ndcg):
    groups = {
        "female": {"exposure_ratio": figure(female), "exposure_share": figure(female / 4)},
        "unknown": {"exposure_ratio": None, "exposure_share": figure(0.01)},
    }
    return {"quality": {"ndcg@10": figure(ndcg)}, "groups": groups, "across_groups": {"awrf": None}}


def audit(variant="with", **changes):
    found = {
        "run": {"variant": variant, "model_version": ["retriever/3"]},
        "groups": {"female": {"target": 0.25}, "unknown": {"target": None}},
        "overall": cell(0.9, 0.4),
        "slices": {
            "gender": {"F": cell(1.0, 0.5), "M": cell(0.8, 0.3), "X": {"suppressed": True}},
            "age": {"old": {"suppressed": True}},
        },
        "disparities": {
            "groups": {"overall": {"exposure_ratio": {"difference": figure(0.2), "ratio": None}}},
            "slices": {
                "gender": {
                    "ndcg@10": {"difference": figure(0.2), "ratio": figure(0.6)},
                    "exposure_ratio[female]": {"difference": figure(0.2), "ratio": figure(0.8)},
                }
            },
        },
    }
    return {**found, **changes}


def report(*audits, **more):
    return {"title": "Shop", "runs": list(audits) or [audit("without"), audit()], **more}


def judged(gate, of=None, previous=None):
    gates = GatesConfig(checks=[gate], previous="earlier.json" if previous else None)
    verdict = evaluate(of or report(), gates, previous)
    (result,) = verdict["gates"]
    assert verdict["passed"] == (result["status"] == "passed")
    return result


RATIO = {"figure": "exposure_ratio"}
WORST = {**RATIO, "group": "female", "over": "gender"}


@pytest.mark.parametrize(
    ("gate", "status", "found"),
    [
        ({**RATIO, "min": 0.9}, "passed", 0.9),
        ({**RATIO, "min": 0.91}, "failed", 0.9),
        ({**RATIO, "max": 0.89}, "failed", 0.9),
        ({**RATIO, "min": 0.85, "end": "low"}, "passed", 0.85),
        ({**RATIO, "min": 0.9, "end": "low"}, "failed", 0.85),
        ({**RATIO, "max": 0.94, "end": "high"}, "failed", 0.95),
        ({**WORST, "min": 0.8}, "passed", 0.8),
        ({**WORST, "min": 0.81}, "failed", 0.8),
        ({**WORST, "max": 0.9}, "failed", 1.0),
        ({**WORST, "min": 0.7, "max": 1.05}, "passed", 1.0),
        ({**WORST, "value": "F", "min": 0.81}, "passed", 1.0),
        ({"figure": "ndcg@10", "min": 0.4}, "passed", 0.4),
        ({"figure": "ndcg@10", "over": "gender", "min": 0.4}, "failed", 0.3),
        ({"figure": "ndcg@10", "over": "gender", "of": "ratio", "min": 0.7}, "failed", 0.6),
        ({**RATIO, "over": "gender", "of": "difference", "max": 0.2}, "passed", 0.2),
        ({**RATIO, "of": "difference", "max": 0.1}, "failed", 0.2),
        ({"figure": "exposure_share", "group": "unknown", "max": 0.02}, "passed", 0.01),
    ],
)
def test_a_threshold_holds_for_the_worst_figure_or_fails(gate, status, found):
    result = judged(gate)
    assert result["status"] == status
    assert result["found"] == pytest.approx(found)


def test_a_result_says_what_was_wanted_and_where_the_worst_is():
    result = judged({**WORST, "min": 0.81, "name": "films by women"})
    assert result == {
        "name": "films by women",
        "run": "with",
        "figure": "exposure_ratio",
        "group": "female",
        "over": "gender",
        "of": "value",
        "end": "value",
        "change": None,
        "wanted": {"min": 0.81, "max": None},
        "found": 0.8,
        "interval": [pytest.approx(0.75), pytest.approx(0.85)],
        "count": 100,
        "at": {"slice": "gender", "value": "M", "group": "female"},
        "checked": 2,
        "withheld": 1,
        "status": "failed",
        "reason": None,
    }
    assert sentence(result) == "`films by women` failed with 0.8 (gender=M, female)"


@pytest.mark.parametrize(
    ("gate", "reason"),
    [
        ({**RATIO, "over": "age", "min": 0.1}, "withheld or undefined everywhere"),
        ({**RATIO, "over": "gender", "value": "X", "min": 0.1}, "withheld or undefined"),
        ({"figure": "awrf", "min": 0.1}, "withheld or undefined"),
        ({**RATIO, "group": "unknown", "min": 0.1}, "withheld or undefined"),
        ({**RATIO, "group": "mixed", "min": 0.1}, "no group `mixed`, only female, unknown"),
        ({**RATIO, "over": "city", "min": 0.1}, "no slice `city`, only gender, age"),
        ({**RATIO, "over": "gender", "value": "f", "min": 0.1}, "no value of `gender` `f`"),
        ({"figure": "ncdg@10", "min": 0.1}, "no figure `ncdg@10`, only ndcg@10, awrf"),
        ({"figure": "ndcg@10", "group": "female", "min": 0.1}, "is of no group"),
        ({**RATIO, "run": "other", "min": 0.1}, "no run `other`, only without, with"),
        ({"figure": "index_recall", "min": 0.9}, "nothing of an index"),
        ({"figure": "ndcg@10", "of": "ratio", "min": 0.5}, "no figure `ndcg@10`"),
    ],
)
def test_what_cannot_be_measured_does_not_pass(gate, reason):
    result = judged(gate)
    assert result["status"] == "not measured"
    assert reason in result["reason"]
    assert result["found"] is None


def test_a_report_whose_everything_is_suppressed_passes_no_gate():
    nothing = audit(overall={"suppressed": True}, slices={})
    assert judged({**RATIO, "min": 0.1}, report(nothing))["status"] == "not measured"


def test_the_last_run_is_judged_unless_another_is_named():
    worse = audit("without", overall=cell(0.5, 0.4))
    both = report(worse, audit())
    assert judged({**RATIO, "min": 0.8}, both)["status"] == "passed"
    assert judged({**RATIO, "min": 0.8, "run": "without"}, both)["status"] == "failed"


def test_the_report_of_audit_lists_is_judged_as_it_is():
    assert judged({**RATIO, "min": 0.8}, audit())["status"] == "passed"


def test_recall_of_the_index_is_that_of_the_worst_group():
    recalls = {"female": {"recall": figure(0.9)}, "male": {"recall": figure(0.97)}}
    result = judged(
        {"figure": "index_recall", "min": 0.95}, report(index={"with": {"groups": recalls}})
    )
    assert (result["status"], result["at"]["group"]) == ("failed", "female")


@pytest.mark.parametrize(
    ("change", "limits", "status", "found"),
    [
        ("absolute", {"min": -0.05}, "passed", -0.05),
        ("absolute", {"min": -0.04}, "failed", -0.05),
        ("relative", {"min": -0.12}, "passed", -1 / 9),
        ("relative", {"min": -0.1}, "failed", -1 / 9),
        ("relative", {"max": 0.0}, "passed", -1 / 9),
    ],
)
def test_changes_are_from_the_release_before(change, limits, status, found):
    """NDCG was 0.45 and is 0.4."""
    before = report(audit(overall=cell(0.9, 0.45)))
    limits = {name: limit - 1e-9 * (name == "min") for name, limit in limits.items()}
    result = judged({"figure": "ndcg@10", "change": change, **limits}, previous=before)
    assert result["status"] == status
    assert result["found"] == pytest.approx(found)


def test_what_the_release_before_showed_and_this_one_does_not_is_no_pass():
    now = audit()
    now["slices"]["gender"]["M"] = {"suppressed": True}
    gate = {**WORST, "change": "absolute", "min": -0.5}
    assert judged(gate, report(now), previous=report())["status"] == "not measured"
    assert judged(gate, report(), previous=report(now))["status"] == "not measured"


def test_no_gates_no_verdict():
    assert evaluate(report(), GatesConfig()) is None
    check_verdict(None, "verdict.json")


@pytest.mark.parametrize(
    ("gate", "message"),
    [
        (RATIO, "`min` or `max`"),
        ({**RATIO, "min": 2, "max": 1}, "`min` should be at most `max`. Received: 2 and 1"),
        ({**RATIO, "min": 1, "value": "F"}, "give `over`"),
        ({"figure": "index_recall", "over": "gender", "min": 1}, "all users only: leave `over`"),
    ],
)
def test_gates_that_make_no_sense_are_refused(gate, message):
    with pytest.raises(ValidationError, match=message):
        GateConfig(**gate)


def test_a_change_needs_a_release_before():
    gate = {**RATIO, "min": 0, "change": "absolute"}
    with pytest.raises(ValidationError, match=r"gates\.previous"):
        GatesConfig(checks=[gate])


def test_two_gates_alike_need_names():
    with pytest.raises(ValidationError, match="there twice"):
        GatesConfig(checks=[{**RATIO, "min": 0.9}] * 2)


def test_the_error_names_the_gates_that_did_not_hold():
    gates = GatesConfig(checks=[{**RATIO, "min": 0.8}, {**RATIO, "min": 1.1}])
    with pytest.raises(GateError, match=r"1 of 2 gates did not hold.*0\.9 \(all users, female\)"):
        check_verdict(evaluate(report(), gates), "verdict.json")
    assert GateError.exit_code == 3


class TestPromotion:
    @pytest.fixture
    def verdict(self, tmp_path):
        def write(versions=("retriever/3",), least=0.8):
            audited = copy.deepcopy(audit())
            audited["run"]["model_version"] = list(versions)
            gates = GatesConfig(checks=[{**RATIO, "min": least}])
            path = tmp_path / "verdict.json"
            path.write_text(json.dumps(evaluate(report(audited), gates)))
            return path

        return write

    def test_the_version_is_that_of_the_verdict(self, verdict):
        assert promotable(verdict(), "retriever", None) == 3
        assert promotable(verdict(), "retriever", 3) == 3

    def test_gates_that_did_not_hold_let_nothing_through(self, verdict):
        with pytest.raises(GateError):
            promotable(verdict(least=0.95), "retriever", 3)

    @pytest.mark.parametrize(
        ("versions", "version"),
        [(["retriever/3"], 4), (["other/3"], None), (["retriever/3", "retriever/4"], 3), ([], 3)],
    )
    def test_a_verdict_on_something_else_is_none(self, verdict, versions, version):
        with pytest.raises(InvalidInputError, match="the verdict is about"):
            promotable(verdict(versions), "retriever", version)

    @pytest.mark.parametrize("text", ["", "[]", '{"passed": true}'])
    def test_another_file_is_none(self, tmp_path, text):
        path = tmp_path / "verdict.json"
        path.write_text(text)
        with pytest.raises(InvalidInputError, match=r"no JSON|no verdict"):
            promotable(path, "retriever", 3)
