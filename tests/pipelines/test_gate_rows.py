"""Gates in words: what was looked at, what was asked for, what was found."""

import full_report
import pytest

from pipelines.report.gates import rows


def row(**changes):
    gate = full_report.gate("g", "exposure_ratio", None, "overall", status="failed")
    wanted = {"wanted": {"min": 0.8, "max": None}, "found": 0.7}
    (found,) = rows({"verdict": {"gates": [{**gate, **wanted, **changes}]}})
    return found


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "exposure ratio, all users"),
        ({"group": "new"}, "exposure ratio of new, all users"),
        ({"over": "age", "figure": "ndcg@20"}, "NDCG@20, by age"),
        ({"of": "difference"}, "exposure ratio, highest less lowest of the groups"),
        ({"of": "ratio", "over": "age"}, "exposure ratio, lowest over highest of age"),
        ({"end": "low"}, "the lower end of the interval of exposure ratio, all users"),
        ({"change": "absolute"}, "exposure ratio, all users, change from the previous release"),
    ],
)
def test_what_a_gate_looks_at(changes, text):
    assert row(**changes).what == text


@pytest.mark.parametrize(
    ("changes", "asked", "found"),
    [
        ({}, "at least 0.8", "0.7"),
        ({"wanted": {"min": None, "max": 1.25}}, "at most 1.25", "0.7"),
        ({"wanted": {"min": 0.8, "max": 1.25}, "found": None}, "0.8 to 1.25", "nothing"),
        (
            {"change": "relative", "wanted": {"min": -0.02, "max": None}, "found": -0.031},
            "at least −2.0\u00a0%",
            "−3.1\u00a0%",
        ),
    ],
)
def test_limits_and_what_was_found_are_written_alike(changes, asked, found):
    assert (row(**changes).wanted, row(**changes).found) == (asked, found)


def test_where_the_worst_is():
    at = {"slice": "age", "value": "45+", "group": "new"}
    assert row(at=at).where == "new, age 45+"
    assert row(at={"slice": None, "value": None, "group": "new"}).where == "new"
    assert row(reason="withheld everywhere").where == "withheld everywhere"


def test_what_did_not_pass_comes_first_and_without_gates_there_is_none():
    names = [each.name for each in rows({"verdict": full_report.VERDICT})]
    assert names == ["women’s films", "mixed", "quality"]
    assert rows({}) == rows({"verdict": None}) == []
