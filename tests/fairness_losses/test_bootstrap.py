import numpy as np
import pytest
from scipy import stats

from fairness_losses.bootstrap import estimate, percentile_interval, resampled_sums


def test_interval_of_a_ratio_agrees_with_scipy():
    """The ratio of two sums over users: same percentile interval, up to the luck of the draws."""
    rng = np.random.default_rng(0)
    per_user = rng.gamma(2.0, size=(150, 2)) * [1.0, 3.0]
    expected = stats.bootstrap(
        tuple(per_user.T),
        lambda part, whole, axis: part.sum(axis) / whole.sum(axis),
        paired=True,
        n_resamples=20_000,
        batch=500,
        method="percentile",
        random_state=1,
    ).confidence_interval
    sums = resampled_sums(per_user, samples=20_000, seed=2)
    low, high = percentile_interval(sums[:, 0] / sums[:, 1], 0.95)
    width = expected.high - expected.low
    assert low == pytest.approx(expected.low, abs=0.03 * width)
    assert high == pytest.approx(expected.high, abs=0.03 * width)


def test_every_resample_draws_as_many_users_as_there_are():
    sums = resampled_sums(np.ones((37, 1)), samples=500, seed=0)
    np.testing.assert_array_equal(sums, np.full((500, 1), 37.0))


def test_draws_are_with_replacement_and_differ():
    sums = resampled_sums(np.eye(5), samples=400, seed=0)
    assert {0.0, 1.0, 2.0, 3.0} <= set(np.unique(sums))
    assert len(np.unique(sums, axis=0)) > 50


def test_same_seed_gives_the_same_draws_for_other_sums():
    """Runs are compared on the same resampled users, also where one has more sums."""
    rng = np.random.default_rng(0)
    one, two = rng.random((50, 2)), rng.random((50, 3))
    together = resampled_sums(np.hstack([one, two]), samples=200, seed=9)
    np.testing.assert_allclose(resampled_sums(one, samples=200, seed=9), together[:, :2])
    np.testing.assert_allclose(resampled_sums(two, samples=200, seed=9), together[:, 2:])


def test_more_resamples_than_fit_in_a_block():
    """600,000 users do not fit one block of weights: rows are drawn one by one."""
    sums = resampled_sums(np.ones((600_000, 1)), samples=3, seed=0)
    np.testing.assert_array_equal(sums, np.full((3, 1), 600_000.0))


def test_percentile_interval_by_hand():
    """Of 0, 1, …, 100 the central 90 % lie between 5 and 95; undefined draws do not count."""
    draws = np.append(np.arange(101.0), [np.nan, np.nan])
    assert percentile_interval(draws, 0.9) == (pytest.approx(5.0), pytest.approx(95.0))


def test_percentile_interval_of_nothing_is_undefined():
    assert np.isnan(percentile_interval(np.array([np.nan]), 0.95)).all()


def test_an_end_that_infinite_draws_reach_is_not_finite():
    """2 of 102 draws are beyond the 1 % that is cut off below, but within 5 %."""
    draws = np.append(np.arange(100.0), [-np.inf, -np.inf])
    low, high = percentile_interval(draws, 0.98)
    assert not np.isfinite(low)
    assert np.isfinite(high)
    assert np.isfinite(percentile_interval(draws, 0.9)).all()


def test_an_estimate_is_a_figure_only_if_all_of_it_is_finite():
    """Of 0, 1, …, 100 the central 90 % lie between 5 and 95."""
    draws = np.arange(101.0)
    assert estimate(50.0, draws, 0.9, count=7) == {
        "value": 50.0,
        "low": pytest.approx(5.0),
        "high": pytest.approx(95.0),
        "count": 7,
    }
    assert estimate(float("-inf"), draws, 0.9, count=7) is None
    assert estimate(50.0, np.full(9, np.nan), 0.9, count=7) is None
