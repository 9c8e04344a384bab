"""Plans: as textbooks compute them, larger where less is known, and enough in simulation."""

import dataclasses

import numpy as np
import pytest
import small_experiment
from scipy.stats import norm
from small_experiment import experiment, guarded

from fairness_losses.errors import InvalidInputError
from serving.experiments.planning import plan, users_needed

SEQUENTIAL = {"kind": "sequential", "tuned_for": 1000}


def past(number=5000, seed=0, **changes):
    """Users before the experiment: clicks vary by 0.5 around 1, a third of the users are `f`."""
    rng = np.random.default_rng(seed)
    clicks = rng.normal(1.0, 0.5, number)
    seen = small_experiment.users(
        np.arange(number) % 2,
        totals={"clicks": clicks, "lists": np.ones(number)},
        exposure=rng.dirichlet([2.5, 7.5], number),
        slices={"gender": np.where(np.arange(number) % 3 == 0, "f", "m")},
    )
    return dataclasses.replace(seen, **changes)


def test_users_are_those_of_the_textbook():
    # A change of 0.2 standard deviations: 2 · (1.960 + 0.842)² / 0.2² = 392.4 in each arm.
    assert users_needed(experiment(), 0.02, 0.1, alpha=0.05, power=0.8) == 785
    arms = [
        {"name": "a", "share": 0.8, "label": "stable"},
        {"name": "b", "share": 0.2, "label": "canary"},
    ]
    # (1 / 0.8 + 1 / 0.2) / (1 / 0.5 + 1 / 0.5) times as many.
    found = users_needed(experiment(arms=arms), 0.02, 0.1, alpha=0.05, power=0.8)
    assert found == pytest.approx(784.9 * 6.25 / 4, abs=2)


def test_a_sequential_test_needs_more_users_and_reaches_its_power_with_them():
    rule = experiment(stopping=SEQUENTIAL)
    number = users_needed(rule, 0.02, 0.1, alpha=0.05, power=0.8)
    assert 1.2 * 785 < number < 3 * 785
    # Width of the confidence sequence there, by Waudby-Smith et al. 2021, equation 9.
    rho2 = (-2 * np.log(0.05) + np.log(-2 * np.log(0.05) + 1)) / 1000
    error = 2 * 0.1 / np.sqrt(number)
    times = np.sqrt(
        2 * (number * rho2 + 1) / (number * rho2) * np.log(np.sqrt(number * rho2 + 1) / 0.05)
    )
    assert norm.sf(times - 0.02 / error) == pytest.approx(0.8, abs=0.005)


def test_guardrails_are_planned_per_group_and_slice_with_a_power_that_holds_together():
    needs = plan(guarded(), past(), daily_users=100)
    assert [(n.metric, n.group, n.value) for n in needs] == [
        ("clicks", None, None),
        ("exposure", "female", None),
        ("exposure", "female", "f"),
        ("exposure", "female", "m"),
    ]
    assert [n.power for n in needs] == pytest.approx([0.8, *[1 - 0.2 / 3] * 3])
    primary, everyone, small, large = needs
    assert primary.deviation == pytest.approx(0.5, rel=0.03)
    # Beta(2.5, 7.5): deviation of the share √(0.25 · 0.75 / 11) = 0.1306, over 0.25.
    assert everyone.deviation == pytest.approx(0.522, rel=0.03)
    # A third of the users: three times as many, in all.
    assert small.users == pytest.approx(3 * everyone.users, rel=0.06)
    assert large.users == pytest.approx(1.5 * everyone.users, rel=0.06)
    # One-sided: (1.645 + z(0.933))² · 4 · 0.522² / 0.05².
    z = norm.ppf(0.95) + norm.ppf(1 - 0.2 / 3)
    assert everyone.users == pytest.approx(4 * (z * everyone.deviation / 0.05) ** 2, abs=2)


def test_days_count_the_users_who_take_part():
    layer = {"name": "page", "buckets": [0, 4999]}
    all_of_them = plan(experiment(), past(), daily_users=1000)[0]
    some = plan(experiment(traffic=0.5, layer=layer), past(), daily_users=1000)[0]
    assert all_of_them.days == -(-all_of_them.users // 1000)
    assert some.users == all_of_them.users
    assert some.days == -(-some.users // 250)


def test_a_covariate_saves_the_users_that_it_explains():
    seen = past()
    rng = np.random.default_rng(1)
    # Correlation √0.5 with the clicks: half of the variance is left, and half of the users.
    before = seen.totals["clicks"] + rng.normal(0, 0.5, 5000)
    plain, adjusted = (
        plan(experiment(covariate_days=7), each, 1000)[0].users
        for each in (seen, dataclasses.replace(seen, before={"clicks": before}))
    )
    assert adjusted == pytest.approx(plain / 2, rel=0.06)


def test_several_arms_need_more():
    arms = [{"name": n, "share": 1 / 4, "label": n} for n in "abcd"]
    four = plan(experiment(arms=arms), past(arm=np.arange(5000) % 4), 1000)[0]
    z = norm.ppf(1 - 0.05 / 6) + norm.ppf(0.8)
    assert four.users == pytest.approx(4 * 2 * (z * 1.02 * four.deviation / 0.02) ** 2, rel=0.001)


def test_a_metric_that_never_varied_cannot_be_planned_for():
    zero = {"clicks": np.zeros(5000), "lists": np.ones(5000)}
    with pytest.raises(InvalidInputError, match="the metric was 0 for all users"):
        plan(experiment(), past(totals=zero), 1000)
