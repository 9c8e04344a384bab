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
        (wording.quality_change, -0.0004, "0.000"),
        (wording.quality_change, 0.0123, "+0.012"),
        (wording.plain, -0.0200, "−0.02"),
        (wording.plain, 1.25, "1.25"),
        (wording.count, 12345, "12,345"),
        (wording.length, ["a", "b"], "2"),
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
