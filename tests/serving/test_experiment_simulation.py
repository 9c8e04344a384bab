"""Simulated experiments: few false alarms, and what is planted is found.

Bounds are of the binomial distribution: a right implementation fails one with a chance of 1e-4 for
other seeds, and never for these. `benchmarks/experiments.py` does the same with more of all.
"""

import gc

import numpy as np
import pytest
from scipy.stats import binom
from small_experiment import experiment, guarded

from serving.experiments.planning import plan
from serving.experiments.simulation import Planted, assign, plant, simulate, until
from serving.experiments.synthetic import synthetic_users

RUNS = 150
RATIO = {"kind": "ratio", "name": "rate", "numerator": "clicks", "denominator": "lists"}


@pytest.fixture(autouse=True)
def _frozen():
    """Keeps statsmodels from collecting the garbage of all other tests."""
    gc.freeze()
    yield
    gc.unfreeze()


def most(share: float, runs: int = RUNS) -> int:
    return int(binom.ppf(1 - 1e-4, runs, share))


def others(defined, users):
    return lambda run: synthetic_users(defined, users, np.random.default_rng([3, run]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "defined",
    [
        guarded(covariate_days=7),
        experiment(metrics={"primary": RATIO}),
    ],
    ids=["mean with cuped", "ratio"],
)
def test_nothing_is_found_where_nothing_is(defined):
    rates = simulate(defined, others(defined, 1500), RUNS)
    assert binom.ppf(1e-4, RUNS, 0.05) <= rates["significant"].count <= most(0.05)
    assert rates["significant on some day"].count <= most(0.05)
    assert rates["tripped"].count <= most(0.05)
    assert rates["mismatch"].count <= most(0.001)


@pytest.mark.slow
def test_a_planted_effect_is_found_with_the_planned_power():
    defined = experiment(minimum_effect=0.1, covariate_days=7)
    population = synthetic_users(defined, 40_000, np.random.default_rng(0))
    users = plan(defined, assign(population, defined, 0), 1000)[0].users
    rates = simulate(defined, others(defined, users), RUNS, Planted(lift=0.1), peek=False)
    assert binom.ppf(1e-4, RUNS, 0.8) <= rates["improved"].count <= most(0.8)


@pytest.mark.slow
def test_a_loss_in_one_slice_trips_and_the_margin_itself_is_seldom_taken_for_none():
    defined = guarded()
    population = synthetic_users(defined, 20_000, np.random.default_rng(0))

    def rates(loss):
        planted = Planted(loss=loss, slice="gender", value="gender 2")
        return simulate(defined, lambda run: population, 60, planted, peek=False)

    assert rates(0.2)["tripped"].share == 1
    assert rates(0.05)["all held"].count <= most(0.05, 60)


def test_what_is_planted_is_what_was_asked_for():
    defined = guarded()
    seen = assign(synthetic_users(defined, 5000, np.random.default_rng(0)), defined, 0)
    changed = plant(seen, defined, Planted(lift=0.5, loss=0.1, slice="gender", value="gender 1"))
    treated = seen.arm == 1
    hit = treated & (seen.slices["gender"] == "gender 1")
    clicks = seen.totals["clicks"]
    np.testing.assert_allclose(changed.totals["clicks"], clicks * np.where(treated, 1.5, 1))
    # The group loses a tenth, the other one gains it, and nothing is lost in all.
    np.testing.assert_allclose(changed.exposure[hit, 0], 0.9 * seen.exposure[hit, 0])
    np.testing.assert_allclose(changed.exposure[~hit], seen.exposure[~hit])
    np.testing.assert_allclose(changed.exposure.sum(axis=1), seen.exposure.sum(axis=1))


def test_the_past_of_an_experiment_holds_what_was_known_then():
    defined = experiment()
    seen = synthetic_users(defined, 1000, np.random.default_rng(0))
    known = until(seen, 5)
    here = seen.arrived <= 5
    expected = [
        daily[: 6 - arrived].sum()
        for daily, arrived in zip(seen.daily["clicks"][here], seen.arrived[here], strict=True)
    ]
    assert known.totals["clicks"].tolist() == expected
    last = until(seen, 13)
    np.testing.assert_array_equal(last.totals["clicks"], seen.totals["clicks"])
