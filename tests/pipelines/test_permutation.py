"""Permutation tests: exact under the hypothesis, and able to find what is there."""

import itertools

import numpy as np
import pytest
from scipy import stats

from pipelines.audit.permutation import cell_tests, permutation_test
from pipelines.config import AuditConfig

HALF = np.array([0.5, 0.5])


def test_the_difference_is_that_of_the_ratios():
    """Inside 3 : 1, elsewhere 1 : 1, against a half: 1.5 less 1."""
    exposure = np.array([[3.0, 1.0], [1.0, 1.0], [2.0, 2.0]])
    difference, _ = permutation_test(exposure, np.array([1, 0, 0], bool), HALF, 0, 0)
    np.testing.assert_allclose(difference, [0.5, -0.5])


def test_moves_along_one_order_are_counted_exactly():
    """Four users, one in the cell: of the four places it can have, only its own is so far off."""
    exposure = np.array([[9.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]])
    _, p = permutation_test(exposure, np.array([1, 0, 0, 0], bool), HALF, 3, 0)
    np.testing.assert_allclose(p, [1 / 4, 1 / 4])


def test_p_values_are_those_of_all_permutations():
    """Against each of the 70 ways to choose four of eight users, counted one by one."""
    rng = np.random.default_rng(3)
    exposure = rng.gamma(2.0, size=(8, 2))
    member = np.arange(8) < 4
    observed, p = permutation_test(exposure, member, HALF, 80_000, 1)
    apart = []
    for chosen in itertools.combinations(range(8), 4):
        inside = exposure[list(chosen)].sum(axis=0)
        outside = exposure.sum(axis=0) - inside
        apart.append(abs(2 * (inside[0] / inside.sum() - outside[0] / outside.sum())))
    expected = np.mean(np.array(apart) >= abs(observed[0]) - 1e-9)
    assert p[0] == pytest.approx(expected, abs=0.01)


def test_p_values_are_uniform_where_the_slice_makes_no_difference():
    """1,000 worlds of 60 users without a difference: 1 % and 5 % and a half are found as often."""
    rng = np.random.default_rng(11)
    found = []
    for seed in range(1000):
        share = rng.beta(2, 8, 60)
        exposure = np.column_stack([share, 1 - share]) * rng.integers(1, 5, 60)[:, None]
        found.append(permutation_test(exposure, rng.random(60) < 0.3, HALF, 199, seed)[1][0])
    assert stats.kstest(found, "uniform").pvalue > 0.01
    assert np.mean(np.array(found) <= 0.05) <= 0.07


def test_a_group_without_a_target_is_not_tested():
    exposure = np.ones((10, 3))
    target = np.array([0.5, 0.5, 0.0])
    difference, p = permutation_test(exposure, np.arange(10) < 5, target, 99, 0)
    assert np.isnan([difference[2], p[2]]).all()
    assert not np.isnan(p[:2]).any()


def world(users=400, shift=0.3):
    rng = np.random.default_rng(5)
    member = rng.random(users) < 0.4
    share = rng.beta(2, 8, users) + shift * member * rng.random(users)
    exposure = np.column_stack([share, 1.5 - share])
    return exposure, {("gender", "F"): member, ("city", "x"): rng.random(users) < 0.5}


def test_what_differs_is_found_and_what_does_not_is_not():
    exposure, members = world()
    found = cell_tests(exposure, members, ["f", "m"], HALF, AuditConfig(), 0)
    assert found["permutations"] >= 9999
    assert found["users"] == 400
    differs = {(t["slice"], t["group"]): t["differs"] for t in found["cells"]}
    assert differs == {
        ("gender", "f"): True,
        ("gender", "m"): True,
        ("city", "f"): False,
        ("city", "m"): False,
    }


def test_holm_by_hand():
    """Of four p-values the smallest is multiplied by 4, and none falls below the one before."""
    exposure, members = world(shift=0.05)
    found = cell_tests(exposure, members, ["f", "m"], HALF, AuditConfig(), 0)
    p = sorted((t["p_value"], t["adjusted_p"]) for t in found["cells"])
    most = 0.0
    for rank, (raw, adjusted) in enumerate(p):
        most = max(most, min(1.0, raw * (4 - rank)))
        assert adjusted == pytest.approx(most)


def test_no_permutations_no_tests():
    exposure, members = world()
    config = AuditConfig(permutations=0)
    assert cell_tests(exposure, members, ["f", "m"], HALF, config, 0) is None
