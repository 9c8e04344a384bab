import pytest

from pipelines.report import wording
from pipelines.report.wording import SummaryRow

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


@pytest.mark.parametrize(
    ("form", "value", "text"),
    [
        (wording.ratio, 0.926, "0.93"),
        (wording.quality, 0.4016, "0.402"),
        (wording.share, 0.0456, f"4.6{SPACE}%"),
        (wording.share, 0.00456, f"0.46{SPACE}%"),
        (wording.share, 0.0, f"0.0{SPACE}%"),
        (wording.whole_share, 0.926, f"93{SPACE}%"),
        (wording.ratio_change, 0.518, "+0.52"),
        (wording.ratio_change, -0.001, "0.00"),
        (wording.fine, 0.99618, "0.9962"),
        (wording.fine_change, -0.01184, "−0.0118"),
        (wording.relative_change, -0.0118, f"−1.2{SPACE}%"),
    ],
)
def test_numbers_are_written_for_people(form, value, text):
    assert form(value) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [("ndcg@20", "NDCG@20"), ("hit_rate@5", "hit rate@5"), ("min_skew", "min skew")],
)
def test_measures_are_named_for_people(name, text):
    assert wording.measure_name(name) == text


def test_intervals():
    assert wording.with_interval(figure(0.93, 0.91, 0.95), wording.ratio) == "0.93 (0.91–0.95)"
    assert wording.with_interval(figure(-0.012, -0.019, -0.005), wording.relative_change) == (
        f"−1.2{SPACE}% (−1.9 to −0.5{SPACE}%)"
    )
    assert wording.with_interval(figure(0.0, 0.0, 0.021), wording.ratio_change) == (
        "0.00 (0.00 to +0.02)"
    )
    assert wording.with_interval(None, wording.ratio) == "–"


def test_summary_has_quality_and_every_group_with_a_target():
    assert wording.summary_table(PAIR) == [
        SummaryRow(
            "recall@10",
            "0.400 (0.390–0.410)",
            "0.395 (0.385–0.405)",
            f"−1.2{SPACE}% (−1.9 to −0.5{SPACE}%)",
        ),
        SummaryRow(
            "NDCG@10",
            "0.400 (0.390–0.410)",
            "0.395 (0.385–0.405)",
            f"−1.2{SPACE}% (−1.9 to −0.5{SPACE}%)",
        ),
        SummaryRow(
            "exposure ratio: new", "0.41 (0.39–0.43)", "0.93 (0.91–0.95)", "+0.52 (+0.50 to +0.54)"
        ),
    ]


def test_summary_of_a_single_run_has_no_before():
    assert wording.summary_table(report(AFTER))[-1] == SummaryRow(
        "exposure ratio: new", "–", "0.93 (0.91–0.95)", "–"
    )


def test_headline_says_what_changed():
    assert wording.headline(PAIR) == (
        "With the regularizer, exposure is closer to the target for every group; NDCG@10 changed "
        f"by −1.2{SPACE}% (−1.9 to −0.5{SPACE}%)."
    )


def test_headline_claims_no_change_that_may_be_chance():
    unclear = change(figure(0.5, 0.4, 0.6), figure(-0.002, -0.009, 0.005))
    assert "NDCG@10 shows no clear change" in wording.headline(
        report(BEFORE, AFTER, comparison=unclear)
    )


def test_headline_says_when_exposure_moved_away():
    assert "closer to the target for 0 of 1 groups" in wording.headline(
        report(AFTER, BEFORE, comparison=CHANGE)
    )


def test_headline_of_a_single_run():
    assert wording.headline(report(AFTER)) == "NDCG@10 is 0.395 (0.385–0.405)."


def test_headline_where_there_is_nothing_to_say():
    assert "too few to report" in wording.headline(
        report(AFTER | {"overall": {"suppressed": True}})
    )
    assert "held-out item" in wording.headline(report(run(None, None)))


def test_verdict_says_what_each_group_gets():
    assert wording.verdict(PAIR) == [
        f"Items of group new get 93{SPACE}% (91–95) of the exposure that their share of the "
        f"catalogue gives them, up from 41{SPACE}%."
    ]


def test_verdict_names_the_kind_of_target():
    assert "an equal share for every group" in wording.verdict(report(AFTER, kind="uniform"))[0]
    assert "the target gives them" in wording.verdict(report(AFTER, kind="explicit"))[0]


def test_verdict_claims_no_move_that_may_be_chance():
    unclear = change(figure(0.01, -0.01, 0.03), None)
    assert wording.verdict(report(BEFORE, AFTER, comparison=unclear))[0].endswith(
        f"from 41{SPACE}% this is no clear change."
    )


def test_narrow_intervals_get_a_decimal():
    narrow = run(figure(0.991, 0.9886, 0.9934), None)
    assert f"99.1{SPACE}% (98.9–99.3)" in wording.verdict(report(narrow))[0]


@pytest.mark.parametrize(
    ("unmet", "text"), [(0, "12 bands, all met"), (2, "of its 12 bands 2 are not met")]
)
def test_verdict_says_how_much_of_a_constraint_is_met(unmet, text):
    said = {"exposure_constraint": {"bands": 12, "unmet_bands": unmet}}
    assert text in wording.verdict({**PAIR, "constraint": said})[-1]


def test_verdict_names_the_worst_slice_that_chance_does_not_explain():
    """F is further from 1, but its interval holds 1; T was withheld."""

    def cell(*ratio: float) -> dict:
        return {"groups": {"new": {"exposure_ratio": figure(*ratio)}}}

    gender = {"F": cell(0.2, 0.0, 1.4), "M": cell(0.7, 0.6, 0.8), "T": {"suppressed": True}}
    after = run(figure(0.93, 0.91, 0.95), None, slices={"gender": gender})
    assert wording.verdict(report(after))[-1] == (
        "The slice furthest from the target is M (gender): there, items of group new get "
        f"70{SPACE}% (60–80) of what the target gives them."
    )
