"""The sweep's settings, bonuses and frontier; trained ones are in tests/integration."""

import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from fairness_losses.config import FairnessConfig
from fairness_losses.errors import InvalidInputError
from pipelines.config import RunConfig
from pipelines.config_file import load_config
from pipelines.sweep.bonus import tune_bonuses, with_bonus
from pipelines.sweep.config import SweepConfig, SweepPoint
from pipelines.sweep.frontier import frontier, write_frontier
from pipelines.sweep.parity import from_parity
from pipelines.sweep.points import Point, points_of
from pipelines.sweep.table import frontier_table, verdicts

RUN = {
    "name": "x",
    "data": {"dataset": "synthetic"},
    "groups": {"columns": ["skin_tone"]},
    "slices": [{"column": "gender"}],
    "audit": {"ks": [10, 20]},
}
PARITY = {"regularizer": "exposure_parity", "weights": [1]}
SWEEP = {"group": "a", "points": [PARITY], "bonuses": [0.5]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bonuses": [], "points": []}, "`sweep`: a sweep should have `points`, `bonuses` or"),
        ({"points": [PARITY, PARITY]}, "`exposure_parity` is there twice: give each of them a"),
        ({"points": [{**PARITY, "name": "bonus"}]}, "the name `bonus` is taken"),
        ({"points": [{**PARITY, "name": "../x"}]}, "`sweep.points.0.name`: string should match"),
        ({"points": [{**PARITY, "weights": [0]}]}, "`sweep.points.0.weights.0` should be greater"),
        ({"points": [{**PARITY, "weights": [1, 1]}]}, "each value should be there once"),
        ({"points": [{**PARITY, "wieghts": [1]}]}, "did you mean `weights`?"),
        (
            {"points": [{**PARITY, "regularizer": "parity"}]},
            "`sweep.points.0.regularizer`: should be one of absolute_correlation,",
        ),
        ({"bonuses": [0.0]}, "a bonus of 0 is the model without a regularizer"),
        ({"bonus_by": ["age"]}, "`sweep.bonus_by` names `age`, which is no `column` of `slices`"),
        ({"bonus_ratios": [0]}, "`sweep.bonus_ratios.0` should be greater than 0"),
        (
            {"points": [{"regularizer": "worst_group", "weights": [1], "temperature": 1}]},
            "`sweep.points.0`: `temperature` of `worst_group` is that of the retrieval loss: "
            "remove it.",
        ),
        (
            {"points": [{"regularizer": "exposure_constraint", "weights": [1], "temperature": 1}]},
            "`temperature` of `exposure_constraint` is that of the retrieval loss",
        ),
        (
            {"points": [{"regularizer": "min_diff", "weights": [1], "temperature": 1}]},
            "`min_diff` has no `temperature`: remove it.",
        ),
        (
            {"points": [{"regularizer": "head_tail", "weights": [1], "depth": 10}]},
            "`head_tail` has no `depth`: remove it.",
        ),
        (
            {"points": [{**PARITY, "constraint": {"tolerance": 0.1}}]},
            "`constraint` is for `exposure_constraint` alone: remove it.",
        ),
    ],
)
def test_a_wrong_sweep_is_refused_in_words(tmp_path, change, message):
    path = tmp_path / "run.yaml"
    path.write_text(json.dumps({**RUN, "sweep": {**SWEEP, **change}}))
    with pytest.raises(InvalidInputError) as error:
        load_config(path)
    assert message in str(error.value)


def test_a_sweep_needs_groups_and_candidates():
    with pytest.raises(ValueError, match="give `groups`"):
        RunConfig.model_validate({**RUN, "groups": None, "sweep": SWEEP})
    with pytest.raises(ValueError, match=r"`sweep\.points` need `training"):
        RunConfig.model_validate(
            {**RUN, "training": {"catalogue_sample": 0}, "fairness": {"weight": 0}, "sweep": SWEEP}
        )


def test_a_point_overrides_what_it_gives_and_never_inherits_options():
    base = FairnessConfig(
        regularizer="exposure_parity", temperature=0.1, depth=7, options={"divergence": "kl"}
    )
    point = SweepPoint(
        regularizer="joint_exposure", weights=[1, 2], temperature=0.3, slices=["gender"]
    )
    fairness = point.fairness(base, 2)
    assert (fairness.regularizer, fairness.weight, fairness.options) == ("joint_exposure", 2, {})
    assert (fairness.temperature, fairness.depth, fairness.slices) == (0.3, 7, ["gender"])
    assert fairness.target == base.target


def test_every_point_has_a_folder_of_its_own_and_the_baseline_comes_first():
    sweep = SweepConfig.model_validate(
        {
            "group": "a",
            "points": [
                {**PARITY, "weights": [0.3, 10]},
                {**PARITY, "name": "kl", "options": {"divergence": "kl"}},
            ],
            "bonuses": [-0.5, 0.5],
            "bonus_by": ["gender"],
            "bonus_ratios": [1.0],
        }
    )
    points = points_of(sweep, FairnessConfig(), "without")
    assert [point.name for point in points] == [
        "without",
        "exposure_parity-0.3",
        "exposure_parity-10",
        "kl-1",
        "bonus--0.5",
        "bonus-0.5",
        "bonus_per_slice-1",
    ]
    assert [p.fairness.weight for p in points if p.fairness] == [0.3, 10, 1]


@given(st.integers(0, 1000))
def test_a_bonus_is_added_to_the_scores_of_the_groups_items(seed):
    """An item of two groups gets the part of the bonus that it is of the group."""
    rng = np.random.default_rng(seed)
    query, candidate = rng.normal(size=(3, 4)), rng.normal(size=(5, 4))
    bonus, in_group = rng.normal(size=3), np.array([1.0, 0.0, 0.5, 0.0, 1.0])
    boosted, catalogue = with_bonus(query, candidate, bonus, in_group)
    expected = query @ candidate.T + bonus[:, None] * in_group
    np.testing.assert_allclose(boosted @ catalogue.T, expected, atol=1e-5)
    assert boosted.dtype == catalogue.dtype == np.float32


def test_bonuses_meet_the_wanted_ratio_in_every_slice_at_once():
    """Ratios e^b / 2 and 2 e^b are 1 at b = ln 2 and b = -ln 2."""
    bonuses = tune_bonuses(lambda b: np.array([0.5, 2.0]) * np.exp(b), 1.0, 2, reach=10.0)
    np.testing.assert_allclose(bonuses, [math.log(2), -math.log(2)], atol=1e-5)


def test_a_ratio_out_of_reach_has_the_largest_bonus():
    bonuses = tune_bonuses(lambda b: np.array([0.5, 3.0]), 1.0, 2, reach=10.0)
    np.testing.assert_allclose(bonuses, [10, -10], atol=1e-4)


def test_a_slice_without_a_ratio_has_no_bonus():
    bonuses = tune_bonuses(lambda b: np.array([np.nan, 0.5]) * np.exp(b), 1.0, 2, reach=10.0)
    np.testing.assert_allclose(bonuses, [0, math.log(2)], atol=1e-5)


def test_half_and_double_are_equally_far_from_parity():
    """1 - min(r, 1/r): of 1/2 and 2 it is 1/2, of 4/5 and 5/4 it is 1/5; of nothing it is 1."""
    ratios = (1, 0.5, 2, 0.8, 1.25, 0)
    assert [from_parity(ratio) for ratio in ratios] == pytest.approx([0, 0.5, 0.5, 0.2, 0.2, 1])


@given(st.lists(st.floats(1e-3, 1e3), min_size=2))
def test_ratios_are_as_far_from_parity_as_their_logarithms_from_0(ratios):
    by_logarithm = sorted(abs(math.log(ratio)) for ratio in ratios)
    by_distance = sorted(from_parity(ratio) for ratio in ratios)
    np.testing.assert_allclose(-np.log1p(-np.array(by_distance)), by_logarithm, atol=1e-9)


def estimate(value: float, half: float = 0.01) -> dict[str, float]:
    return {"value": value, "low": value - half, "high": value + half, "count": 100}


def result(ratio: float, women: float, change: float | None) -> dict:
    """What `Measuring.result` returns, with two slices of enough users and one of too few."""

    def cell(value: float) -> dict:
        return {
            "users": 100,
            "quality": {"ndcg@20": estimate(0.3), "recall@20": estimate(0.4)},
            "groups": {"a": {"exposure_ratio": estimate(value)}},
        }

    changes = {name: {"relative": estimate(change or 0)} for name in ("ndcg@20", "recall@20")}
    return {
        "audit": {
            "overall": cell(ratio),
            "slices": {"gender": {"F": cell(women), "M": cell(ratio), "X": {"suppressed": True}}},
        },
        "change": None if change is None else {"overall": {"quality": changes}},
    }


def found(*more: tuple[Point, dict]) -> dict:
    """Furthest from 1 are 0.7 in the baseline, and 0.8, 0.9 and 1.1 with bonuses."""
    results = [
        (Point("baseline", "without", 0.0), result(0.8, 0.7, None)),
        (Point("bonus", "bonus", 0.2), result(0.9, 0.8, -0.02)),
        (Point("bonus", "bonus", 0.4), result(1.0, 0.9, -0.06)),
        (Point("bonus", "bonus", 0.6), result(1.1, 1.0, -0.12)),
        *more,
    ]
    return frontier(results, RunConfig.model_validate(RUN), SweepConfig.model_validate(SWEEP))


def trained(line: str, weight: float, *figures: float) -> tuple[Point, dict]:
    return Point("regularizer", line, weight, FairnessConfig()), result(*figures)


def test_a_point_is_compared_with_the_cheapest_bonus_that_comes_as_close():
    """To 0.85 or closer come 0.9 (-6 %) and 1.1 (-12 %); the point costs 1 %: 5 % better, from 4 to
    6 %. To 0.75 comes 0.8 (-2 %)."""
    points = found(trained("p", 1, 0.9, 0.85, -0.01), trained("p", 2, 0.8, 0.75, -0.01))["points"]
    against = [point["against"]["bonus"] for point in points[4:]]
    assert against[0] == pytest.approx({"value": 0.05, "low": 0.04, "high": 0.06})
    assert against[1]["value"] == pytest.approx(0.01)
    assert [point["against"]["bonus_per_slice"] for point in points] == [None] * 6


@pytest.mark.parametrize("ratio", [0.97, 1.05])
def test_what_no_bonus_reaches_is_not_compared(ratio):
    points = found(trained("p", 1, ratio, ratio, -0.01))["points"]
    assert points[-1]["against"]["bonus"] is None
    assert points[0]["against"] == {"bonus": None, "bonus_per_slice": None}


@pytest.mark.parametrize("ratio", [0.65, 1.6])
def test_what_is_no_closer_than_without_needs_no_bonus(ratio):
    points = found(trained("p", 1, 1.0, ratio, -0.01))["points"]
    assert points[-1]["against"]["bonus"]["value"] == pytest.approx(-0.01)
    assert points[-1]["against"]["bonus_per_slice"] is None


def test_too_much_exposure_and_too_little_are_compared_alike():
    """1 / 1.2 = 0.83: 0.9 and 1.1 are closer, 0.8 is not."""
    points = found(trained("p", 1, 1.0, 1.2, -0.01))["points"]
    assert points[-1]["against"]["bonus"]["value"] == pytest.approx(0.05)


def test_the_furthest_ratio_is_that_of_a_slice_with_enough_users():
    baseline = found()["points"][0]
    assert baseline["worst"] == {"slice": "gender", "value": "F", "ratio": estimate(0.7)}
    assert baseline["change"]["ndcg@20"]["value"] == 0


@pytest.mark.parametrize(("women", "men", "furthest"), [(0.8, 1.5, "M"), (0.6, 1.5, "F")])
def test_too_much_exposure_is_as_far_from_parity_as_too_little(women, men, furthest):
    """1 / 1.5 = 0.67 lies between 0.6 and 0.8. In the second, the plain difference is larger: 0.5
    against 0.4."""
    points = found(trained("p", 1, men, women, -0.01))["points"]
    assert points[-1]["worst"]["value"] == furthest


def test_a_slice_without_exposure_is_furthest():
    points = found(trained("p", 1, 9.0, 0.0, -0.01))["points"]
    assert points[-1]["worst"]["ratio"]["value"] == 0


def test_without_slices_the_furthest_ratio_is_that_of_everybody():
    whole = result(0.6, 0.5, None)
    whole["audit"]["slices"] = {}
    run, sweep = RunConfig.model_validate(RUN), SweepConfig.model_validate(SWEEP)
    (entry,) = frontier([(Point("baseline", "without", 0.0), whole)], run, sweep)["points"]
    assert entry["worst"] == {"slice": None, "value": None, "ratio": estimate(0.6)}


FEW_USERS = {"audit": {"overall": {"suppressed": True}, "slices": {}}, "change": None}
"""What `Measuring.result` returns where nothing may be told."""


def test_a_line_diverged_if_all_its_points_did():
    point = Point("regularizer", "p", 1, FairnessConfig())
    (sentence,) = verdicts(found((point, {}), (point, FEW_USERS)))
    assert sentence.endswith("– not measured: p.")


def test_every_verdict_is_given_where_it_is_due():
    lines = {
        "cheap": trained("cheap", 1, 0.9, 0.85, -0.01),
        "alike": trained("alike", 1, 0.9, 0.85, -0.065),
        "dear": trained("dear", 1, 0.9, 0.85, -0.09),
        "far": trained("far", 1, 1.0, 0.97, -0.3),
        "idle": trained("idle", 1, 0.8, 0.71, 0.0),
        "too much": trained("too much", 1, 1.5, 1.0, 0.0),
        "broken": (Point("regularizer", "broken", 1, FairnessConfig()), {}),
        "few": (Point("regularizer", "few", 1, FairnessConfig()), FEW_USERS),
    }
    (sentence,) = verdicts(found(*lines.values()))
    assert sentence == (
        "Against a constant bonus that brings the slice furthest from 1 as close to it – cost "
        "less: cheap; no clear difference: alike; cost more: dear; come closer than any of them: "
        "far; do not bring the ratio closer to 1: idle, too much; diverged: broken; not measured: "
        "few."
    )


def test_a_line_is_judged_by_its_point_closest_to_parity():
    """Weight 2 is closest, and dearer than a bonus; weight 1 would be cheaper."""
    (sentence,) = verdicts(found(trained("p", 1, 0.8, 0.75, 0.0), trained("p", 2, 1, 0.88, -0.2)))
    assert sentence.endswith("– cost more: p.")


def test_the_table_has_a_row_per_point():
    broken = (Point("regularizer", "broken", 3, FairnessConfig()), {})
    console = Console(width=140, record=True, file=io.StringIO())
    console.print(frontier_table(found(trained("p", 0.3, 0.9, 0.85, -0.01), broken)))
    printed = console.export_text().replace("\u00a0", " ").splitlines()
    rows = {line.split()[0]: line for line in printed if line.strip()}
    assert "0.70 (F)" in rows["without"]
    assert "−1.0 % (−2.0 to 0.0 %)" in rows["p"]
    assert "+5.0 % (+4.0 to +6.0 %)" in rows["p"]
    assert "diverged" in rows["broken"]


def test_the_frontier_is_written_for_machines_spreadsheets_and_people(tmp_path):
    broken = (Point("regularizer", "broken", 3, FairnessConfig()), {})
    content = found(trained("p", 1, 0.9, 0.85, -0.01), trained("p", 2, 2.5, 2.0, -0.8), broken)
    write_frontier(content, tmp_path)
    assert json.loads((tmp_path / "frontier.json").read_text()) == content
    with (tmp_path / "frontier.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["line"] for row in rows] == ["without", *["bonus"] * 3, "p", "p", "broken"]
    assert float(rows[4]["against_bonus"]) == pytest.approx(0.05)
    assert rows[6]["diverged"] == "True"
    assert rows[6]["ndcg@20"] == ""
    assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")
