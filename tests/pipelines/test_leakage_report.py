import pytest

from pipelines.report.leakage import Probed, findings, probed

SPACE = "\u00a0"


def probe(low: float, value: float, high: float) -> dict:
    figure = {"value": value, "low": low, "high": high, "count": 500}
    return {
        "side": "users",
        "attribute": "gender",
        "balanced_accuracy": figure,
        "balanced_baseline": 0.5,
    }


def report(*runs: dict) -> dict:
    return {"runs": [{"leakage": [run]} for run in runs]}


WITHHELD = {"side": "users", "attribute": "gender", "suppressed": True}


def test_columns_are_named_in_words():
    named = probe(0.7, 0.72, 0.74) | {"attribute": "director_gender"}
    (found,) = probed(report(named, named))
    assert (found.attribute, found.before) == ("director gender", named)


def test_attributes_of_both_runs_stand_side_by_side():
    before, after = probe(0.7, 0.72, 0.74), probe(0.6, 0.62, 0.64)
    assert probed(report(before, after)) == [Probed("users", "gender", before, after)]
    assert probed(report(after)) == [Probed("users", "gender", None, after)]
    assert probed({"runs": [{}]}) == []


def test_a_finding_names_the_guess_and_the_run_before():
    assert list(findings(report(probe(0.7, 0.72, 0.74), probe(0.6, 0.62, 0.64)))) == [
        "The vectors of users give gender away: with every label counted alike, a classifier that "
        f"sees nothing else is right in 62.0{SPACE}% (60.0–64.0{SPACE}%) of cases, a guess in "
        f"50.0{SPACE}%; without the regularizer 72.0{SPACE}%."
    ]


@pytest.mark.parametrize("low", [0.5, 0.45])
def test_a_finding_claims_nothing_that_may_be_chance(low):
    (sentence,) = findings(report(probe(low, 0.52, 0.55)))
    assert sentence.startswith("The vectors of users do not clearly give gender away")
    assert sentence.endswith(f"a guess in 50.0{SPACE}%.")


def test_withheld_attributes_have_no_finding():
    assert list(findings(report(WITHHELD, WITHHELD))) == []
