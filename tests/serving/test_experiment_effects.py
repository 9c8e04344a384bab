"""Effects, guardrails, withheld slices and decisions, beside numbers worked out by other means."""

import dataclasses
import datetime

import numpy as np
import pytest
import small_experiment
import statsmodels.api as sm
from scipy.stats import ttest_ind
from small_experiment import experiment, guarded

from fairness_losses.errors import InvalidInputError
from fairness_losses.exposure import exposure_ratio
from serving.experiments.analysis import analyze
from serving.experiments.cells import cells
from serving.experiments.config import FixedHorizon, Sequential
from serving.experiments.effects import effect, non_inferiority
from serving.experiments.sample_ratio import sample_ratio
from serving.experiments.statistics import (
    adjusted_statistic,
    exposure_statistic,
    mean_statistic,
    ratio_statistic,
)
from serving.experiments.verdict import EXIT_TRIPPED, exit_code

FIXED = FixedHorizon()
AFTER = datetime.datetime(2026, 11, 20, tzinfo=datetime.timezone.utc)
DURING = datetime.datetime(2026, 11, 10, tzinfo=datetime.timezone.utc)


def drawn(number=4000, lift=0.0, seed=0):
    """Users with clicks, lists and clicks before, half of them in each arm."""
    rng = np.random.default_rng(seed)
    arm = rng.integers(2, size=number)
    rate = rng.gamma(2.0, 1.0, number)
    clicks = rng.poisson(rate * (1 + lift * arm)).astype(float)
    lists = 1.0 + rng.poisson(3 * rate)
    before = rng.poisson(2 * rate).astype(float)
    return arm, clicks, lists, before


def test_a_mean_is_compared_as_welch_compares_it():
    arm, clicks, _, _ = drawn()
    # Relative effects are of the quotient: its variance at no effect is that of the difference.
    found = effect(mean_statistic(clicks[arm == 0]), mean_statistic(clicks[arm == 1]), 0.05, FIXED)
    a, b = clicks[arm == 0], clicks[arm == 1]
    assert found.value == pytest.approx(b.mean() / a.mean() - 1)
    assert (found.control, found.treatment) == pytest.approx((a.mean(), b.mean()))
    assert found.p == pytest.approx(ttest_ind(b, a, equal_var=False).pvalue, abs=0.01)
    assert found.low < found.value < found.high
    assert found.users == 4000


def test_a_ratio_has_the_variance_of_a_bootstrap_over_users():
    _, clicks, lists, _ = drawn()
    draws = np.random.default_rng(1).integers(4000, size=(2000, 4000))
    ratios = clicks[draws].sum(axis=1) / lists[draws].sum(axis=1)
    found = ratio_statistic(clicks, lists)
    assert found.mean == pytest.approx(clicks.sum() / lists.sum())
    # 2000 draws tell a standard deviation to 2 %.
    assert np.sqrt(found.variance / 4000) == pytest.approx(ratios.std(), rel=0.06)


def test_cuped_is_the_regression_on_the_covariate():
    arm, clicks, _, before = drawn(lift=0.1)
    found = effect(
        *(adjusted_statistic(clicks[arm == i], before[arm == i]) for i in (0, 1)), 0.05, FIXED
    )
    plain = effect(*(mean_statistic(clicks[arm == i]) for i in (0, 1)), 0.05, FIXED)
    model = sm.OLS(clicks, np.column_stack([np.ones(4000), arm, before])).fit()
    assert found.value == pytest.approx(model.params[1] / clicks[arm == 0].mean(), abs=1e-3)
    assert found.high - found.low < 0.85 * (plain.high - plain.low)
    assert found.control == pytest.approx(clicks[arm == 0].mean())


def test_a_covariate_that_does_not_vary_changes_nothing():
    arm, clicks, _, _ = drawn()
    nothing = np.zeros(4000)
    with_it = effect(
        *(adjusted_statistic(clicks[arm == i], nothing[arm == i]) for i in (0, 1)), 0.05, FIXED
    )
    assert with_it == effect(*(mean_statistic(clicks[arm == i]) for i in (0, 1)), 0.05, FIXED)


def test_sequential_intervals_are_wider():
    arm, clicks, _, _ = drawn()
    stats = [mean_statistic(clicks[arm == i]) for i in (0, 1)]
    fixed = effect(*stats, 0.05, FIXED)
    always = effect(*stats, 0.05, Sequential(kind="sequential", tuned_for=4000))
    assert always.value == fixed.value
    assert always.high - always.low > 1.2 * (fixed.high - fixed.low)
    assert always.p > fixed.p


def test_an_effect_beyond_doubt_is_one():
    one = np.tile([0.99, 1.01], 5000)
    found = effect(
        mean_statistic(one), mean_statistic(2 * one), 0.05, Sequential(kind="sequential")
    )
    assert found.p == 0
    assert found.low > 0.9


def test_there_is_no_effect_on_what_does_not_vary_or_is_zero():
    some = mean_statistic(np.arange(5.0))
    assert effect(mean_statistic(np.zeros(5)), some, 0.05, FIXED) is None
    assert effect(mean_statistic(np.ones(5)), some, 0.05, FIXED) is None
    assert non_inferiority(mean_statistic(np.ones(5)), some, 0.1, "higher", 0.05, FIXED) is None


def test_exposure_is_that_of_the_losses_and_the_audit():
    exposure = np.array([[1.0, 3.0], [2.0, 2.0], [0.0, 5.0]])
    for group in (0, 1):
        expected = exposure_ratio(exposure.sum(axis=0), np.array([0.25, 0.75]))[group]
        assert exposure_statistic(exposure, [1, 3], group).mean == pytest.approx(expected)


@pytest.mark.parametrize("rule", [FIXED, Sequential(kind="sequential", tuned_for=20_000)])
@pytest.mark.parametrize(
    ("better", "change", "held", "worse"),
    [
        ("higher", 0.0, True, False),
        ("higher", -0.2, False, True),
        ("lower", 0.0, True, False),
        ("lower", 0.2, False, True),
        ("lower", -0.2, True, False),
    ],
)
def test_non_inferiority_looks_at_the_side_that_is_worse(rule, better, change, held, worse):
    rng = np.random.default_rng(0)
    control, treatment = (rng.normal(mean, 0.5, 10_000) for mean in (1.0, 1.0 + change))
    found = non_inferiority(
        mean_statistic(control), mean_statistic(treatment), 0.1, better, 0.05, rule
    )
    assert (found.p_held < 0.05, found.p_worse < 0.05) == (held, worse)
    # What the p-values say, the bounds say, too.
    limit = -0.1 if better == "higher" else 0.1
    bound = found.effect.low > limit if better == "higher" else found.effect.high < limit
    assert bound == held


def test_a_mismatch_is_found_and_chance_is_not():
    # 5000 and 5000 expected: chi-squared 4 · 100² / 10000 = 4, p 0.0455; with 170, p 0.00067.
    assert sample_ratio(np.array([5100, 4900]), [0.5, 0.5]).p == pytest.approx(0.0455, abs=1e-4)
    assert not sample_ratio(np.array([5100, 4900]), [0.5, 0.5]).is_mismatch
    assert sample_ratio(np.array([5170, 4830]), [0.5, 0.5]).is_mismatch
    assert sample_ratio(np.array([100, 0]), [0.5, 0.5]).is_mismatch


def test_nothing_is_shown_of_a_mismatch():
    seen = small_experiment.users([0] * 600 + [1] * 400)
    result = analyze(experiment(), seen, AFTER)
    assert result["is_mismatch"]
    for part in ("primary", "secondary", "slices", "novelty", "guardrails", "exposure"):
        assert result[part] is None
    assert result["decisions"][0]["decision"] == "invalid"
    assert exit_code(result) == EXIT_TRIPPED


def observed(loss=0.0, lift=0.0, number=20_000, seed=0):
    """Users of two genders; women in the treatment lose exposure of the group `female`."""
    rng = np.random.default_rng(seed)
    arm, clicks, lists, _ = drawn(number, lift, seed)
    gender = np.where(rng.random(number) < 0.3, "f", "m")
    exposure = rng.dirichlet([2.5, 7.5], number) * lists[:, None]
    exposure[(arm == 1) & (gender == "f"), 0] *= 1 - loss
    return small_experiment.users(
        arm,
        totals={"clicks": clicks, "lists": lists},
        exposure=exposure,
        slices={"gender": gender},
        daily={"clicks": clicks[:, None] / 14 * np.ones(14)},
    )


def test_a_loss_in_one_slice_trips_its_guardrail_alone():
    result = analyze(guarded(), observed(loss=0.3, lift=0.2), AFTER)
    status = {(row["group"], row["value"]): row["status"] for row in result["guardrails"]}
    assert status["female", "f"] == "tripped"
    assert status["female", "m"] == "held"
    (decision,) = result["decisions"]
    assert decision["decision"] == "stop"
    assert "exposure of female, gender f tripped" in decision["reasons"]
    assert exit_code(result) == EXIT_TRIPPED


def test_an_improvement_with_all_guardrails_held_is_shipped():
    result = analyze(guarded(), observed(lift=0.2), AFTER)
    assert {row["status"] for row in result["guardrails"]} == {"held"}
    assert result["decisions"][0]["decision"] == "ship"
    assert exit_code(result) == 0
    # 0.25 of the exposure is the target: the ratio is 1.
    for row in result["exposure"]:
        assert row["low"] < 1 < row["high"]


def test_what_is_not_shown_to_hold_is_not_shipped():
    """With 1 000 users the interval is wider than the margin: open, and that is no pass."""
    result = analyze(guarded(), observed(lift=0.5, number=1000), AFTER)
    assert "open" in {row["status"] for row in result["guardrails"]}
    assert result["decisions"][0]["decision"] == "keep the control"
    assert exit_code(result) == EXIT_TRIPPED


def test_a_primary_metric_that_got_worse_stops_it():
    result = analyze(guarded(), observed(lift=-0.2), AFTER)
    assert result["decisions"][0] == {
        "arm": 1,
        "decision": "stop",
        "reasons": ["the primary metric got worse"],
    }


def test_a_fixed_horizon_shows_no_effect_before_its_end_but_stops_harm():
    fine = analyze(guarded(), observed(lift=0.2), DURING)
    assert fine["primary"] is None
    assert fine["novelty"] is None
    assert fine["decisions"][0]["decision"] == "keep running"
    assert exit_code(fine) == 0
    harm = analyze(guarded(), observed(loss=0.5), DURING)
    assert harm["decisions"][0]["decision"] == "stop"
    assert exit_code(harm) == EXIT_TRIPPED


def test_a_sequential_experiment_may_be_looked_at_any_time():
    rule = {"kind": "sequential", "tuned_for": 60_000}
    result = analyze(guarded(stopping=rule), observed(lift=0.2, number=60_000), DURING)
    assert result["primary"][0]["effect"]["low"] > 0
    assert result["decisions"][0]["decision"] == "ship"


def test_slices_of_few_users_are_withheld_and_so_is_what_would_give_them_away():
    seen = small_experiment.users(
        np.tile([0, 1], 300),
        slices={"gender": np.array(["f"] * 20 + ["m"] * 280 + ["x"] * 300)},
    )
    found = {cell.value: cell.is_withheld for cell in cells(guarded(min_users=50), seen)}
    # f alone is too small: without m it would be all users less x and m.
    assert found == {None: False, "f": True, "m": True, "x": False}
    # f and g together are too small as well.
    genders = np.array(["f"] * 20 + ["g"] * 22 + ["m"] * 258 + ["x"] * 300)
    seen = dataclasses.replace(seen, slices={"gender": genders})
    found = {cell.value: cell.is_withheld for cell in cells(guarded(min_users=50), seen)}
    assert found == {None: False, "f": True, "g": True, "m": True, "x": False}
    seen = dataclasses.replace(seen, slices={"gender": np.array(["f"] * 20 + ["m"] * 580)})
    assert all(c.is_withheld for c in cells(guarded(min_users=50), seen)[1:])
    assert not any(c.is_withheld for c in cells(guarded(min_users=10), seen))


def test_a_withheld_slice_says_nothing_but_that():
    seen = observed()
    slices = {"gender": np.where(np.arange(20_000) < 40, "f", seen.slices["gender"])}
    slices["gender"] = np.where(np.arange(20_000) < 40, "x", slices["gender"])
    result = analyze(guarded(), dataclasses.replace(seen, slices=slices), AFTER)
    row = next(r for r in result["guardrails"] if r["value"] == "x")
    assert row["status"] == "withheld"
    assert not {"effect", "p_held", "p_worse"} & set(row)
    assert next(r for r in result["slices"] if r["value"] == "x")["effect"] is None


def test_slices_are_corrected_by_holm():
    result = analyze(guarded(), observed(), AFTER)
    small, large = sorted(row["effect"]["p"] for row in result["slices"])
    assert sorted(row["p_holm"] for row in result["slices"]) == pytest.approx(
        sorted([min(1, 2 * small), max(large, min(1, 2 * small))])
    )


def test_an_effect_that_fades_is_told_from_one_that_lasts():
    rng = np.random.default_rng(0)
    arm = rng.integers(2, size=6000)
    lasting, fading = np.ones(14), np.linspace(2, 0, 14)
    for course, is_clear in ((lasting, False), (fading, True)):
        # Users do most on their first days, whatever the arm.
        rate = np.linspace(4, 1, 14) * (1 + 0.3 * arm[:, None] * course)
        daily = rng.poisson(rate).astype(float)
        seen = small_experiment.users(
            arm, totals={"clicks": daily.sum(axis=1)}, daily={"clicks": daily}
        )
        (found,) = analyze(experiment(), seen, AFTER)["novelty"]
        assert found["change"]["is_clear"] == is_clear
        assert len(found["days"]) == 14
    assert found["days"][0]["value"] > 0.4 > 0.1 > abs(found["days"][-1]["value"])


def test_days_of_users_who_were_not_followed_so_long_do_not_count():
    seen = small_experiment.users(
        np.tile([0, 1], 500),
        followed=np.repeat([14, 3], 500),
        daily={"clicks": np.random.default_rng(0).poisson(1.0, (1000, 14)).astype(float)},
        totals={"clicks": np.random.default_rng(1).poisson(5.0, 1000).astype(float)},
    )
    few = analyze(experiment(min_users=300), seen, AFTER)["novelty"][0]
    assert len(few["days"]) == 3
    assert few["change"] is None


def test_an_experiment_that_nobody_saw_says_what_to_look_at():
    with pytest.raises(InvalidInputError, match="`fair-tower:<arm>`"):
        analyze(experiment(), small_experiment.users([]), AFTER)
