"""The audit in sentences: what is said, what is left unsaid, and where each number stands."""

import re

import pytest

from pipelines.report.sentences import headline, verdict
from pipelines.report.trace import traced

SPACE = "\u00a0"


def figure(value: float, low: float, high: float) -> dict:
    return {"value": value, "low": low, "high": high, "count": 100}


def run(ratio: dict | None, ndcg: dict | None, slices: dict | None = None, target=0.1) -> dict:
    cell = {
        "quality": {"recall@10": ndcg, "ndcg@10": ndcg},
        "groups": {"new": {"exposure_ratio": ratio}, "unknown": {"exposure_ratio": None}},
    }
    return {
        "depth": 10,
        "min_users": 20,
        "groups": {"new": {"target": target}, "unknown": {"target": None}},
        "overall": cell,
        "slices": slices or {},
    }


def change(ratio: dict, relative: dict | None) -> dict:
    quality = {"ndcg@10": {"relative": relative}, "recall@10": {"relative": relative}}
    return {
        "overall": {"quality": quality, "groups": {"new": {"exposure_ratio": ratio}}},
        "slices": {},
    }


def report(*runs: dict, comparison: dict | None = None, kind: str = "catalogue") -> dict:
    settings = {"fairness": {"target": {"kind": kind}}}
    return {
        "runs": list(runs),
        "comparison": comparison,
        "settings": settings,
        "constraint": {},
    }


BEFORE = run(figure(0.41, 0.39, 0.43), figure(0.4, 0.39, 0.41))
AFTER = run(figure(0.93, 0.91, 0.95), figure(0.395, 0.385, 0.405))
CHANGE = change(figure(0.52, 0.5, 0.54), figure(-0.012, -0.019, -0.005))
PAIR = report(BEFORE, AFTER, comparison=CHANGE)


def test_headline_says_what_changed():
    assert headline(PAIR) == (
        "With the regularizer, exposure is closer to the target for every group; NDCG@10 changed "
        f"by −1.2{SPACE}% (−1.9 to −0.5{SPACE}%)."
    )


def test_headline_claims_no_change_that_may_be_chance():
    unclear = change(figure(0.5, 0.4, 0.6), figure(-0.002, -0.009, 0.005))
    assert "NDCG@10 shows no clear change" in headline(report(BEFORE, AFTER, comparison=unclear))


def test_headline_says_when_exposure_moved_away():
    moved = headline(report(AFTER, BEFORE, comparison=CHANGE))
    assert "exposure is closer to the target for no group;" in moved


def test_headline_names_the_groups_where_it_did_not_come_closer():
    def with_old(run: dict, ratio: float) -> dict:
        old = {"exposure_ratio": figure(ratio, ratio - 0.01, ratio + 0.01)}
        overall = run["overall"] | {"groups": run["overall"]["groups"] | {"old": old}}
        return run | {"overall": overall, "groups": run["groups"] | {"old": {"target": 0.9}}}

    runs = [with_old(BEFORE, 1.01), with_old(AFTER, 1.1)]
    assert "closer to the target for new, but not for old;" in headline(
        report(*runs, comparison=CHANGE)
    )


def test_headline_of_a_single_run():
    assert headline(report(AFTER)) == "NDCG@10 is 0.395 (0.385–0.405)."


def test_headline_where_there_is_nothing_to_say():
    assert "too few to report" in headline(report(AFTER | {"overall": {"suppressed": True}}))
    assert "held-out item" in headline(report(run(None, None)))


def test_verdict_says_what_each_group_gets():
    assert verdict(PAIR) == [
        f"Items of group new get 93{SPACE}% (91–95) of the exposure that their share of the "
        f"catalogue gives them, up from 41{SPACE}%."
    ]


def test_verdict_names_the_kind_of_target():
    assert "an equal share for every group" in verdict(report(AFTER, kind="uniform"))[0]
    assert "the target gives them" in verdict(report(AFTER, kind="explicit"))[0]


def test_verdict_claims_no_move_that_may_be_chance():
    unclear = change(figure(0.01, -0.01, 0.03), None)
    assert verdict(report(BEFORE, AFTER, comparison=unclear))[0].endswith(
        f"from 41{SPACE}% this is no clear change."
    )


def test_narrow_intervals_get_a_decimal():
    narrow = run(figure(0.991, 0.9886, 0.9934), None)
    assert f"99.1{SPACE}% (98.9–99.3)" in verdict(report(narrow))[0]


@pytest.mark.parametrize(
    ("unmet", "text"), [(0, "12 bands, all met"), (2, "of its 12 bands 2 are not met")]
)
def test_verdict_says_how_much_of_a_constraint_is_met(unmet, text):
    said = {"exposure_constraint": {"bands": 12, "unmet_bands": unmet}}
    assert text in verdict({**PAIR, "constraint": said})[-1]


def test_verdict_names_the_worst_slice_that_chance_does_not_explain():
    """F is further from 1, but its interval holds 1; T was withheld."""

    def cell(*ratio: float) -> dict:
        return {"groups": {"new": {"exposure_ratio": figure(*ratio)}}}

    gender = {"F": cell(0.2, 0.0, 1.4), "M": cell(0.7, 0.6, 0.8), "T": {"suppressed": True}}
    after = run(figure(0.93, 0.91, 0.95), None, slices={"gender": gender})
    assert verdict(report(after))[-1] == (
        "The slice furthest from the target is M (gender): there, items of group new get "
        f"70{SPACE}% (60–80) of what the target gives them."
    )


def test_numbers_in_sentences_say_where_they_stand():
    sentence = verdict(traced(PAIR))[0]
    assert (
        f'<span data-path="/runs/1/overall/groups/new/exposure_ratio">93{SPACE}% (91–95)</span>'
        in sentence
    )
    assert re.sub("<[^>]*>", "", sentence) == verdict(PAIR)[0]
