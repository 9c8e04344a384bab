import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.audit.poisson import poisson_counts

USERS = np.random.default_rng(0).integers(0, 2**63, 50_000, dtype=np.int64).astype(np.uint64)


@pytest.fixture(scope="module")
def counts():
    return poisson_counts(USERS, samples=64, seed=1)


def test_counts_are_poisson_with_mean_one(counts):
    """3.2 million draws: a probability p is met within five standard errors, sqrt(p / 3.2e6)."""
    for number in range(6):
        p = math.exp(-1) / math.factorial(number)
        assert (counts == number).mean() == pytest.approx(p, abs=5 * math.sqrt(p / counts.size))
    assert counts.max() <= 8
    assert set(np.unique(counts)) <= set(range(9))


def test_mean_and_variance_of_the_table_are_one():
    """All 65,536 draws, each once, by hand: mean 1, and a variance of 1 but for the rounding."""
    from pipelines.audit.poisson import _COUNTS

    assert _COUNTS.mean() == pytest.approx(1.0, abs=1e-5)
    assert _COUNTS.var() == pytest.approx(1.0, abs=1e-4)


def test_resamples_and_users_are_independent(counts):
    """Of independent columns no correlation is beyond 6 / sqrt(n); nor between neighbours."""
    limit = 6 / math.sqrt(len(USERS))
    assert np.abs(np.corrcoef(counts.T) - np.eye(64)).max() < limit
    assert abs(np.corrcoef(counts[:-1, 0], counts[1:, 0])[0, 1]) < limit


def test_neighbouring_hashes_are_drawn_independently():
    """Users numbered one by one are as good as random ones."""
    counts = poisson_counts(np.arange(50_000, dtype=np.uint64), samples=8, seed=0)
    assert np.abs(np.corrcoef(counts.T) - np.eye(8)).max() < 6 / math.sqrt(len(counts))
    assert abs(np.corrcoef(counts[:-1, 0], counts[1:, 0])[0, 1]) < 6 / math.sqrt(len(counts))


def test_another_seed_gives_other_draws(counts):
    other = poisson_counts(USERS, samples=64, seed=2)
    assert abs(np.corrcoef(counts[:, 0], other[:, 0])[0, 1]) < 6 / math.sqrt(len(USERS))


@given(
    st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20),
    st.integers(1, 20),
    st.integers(0, 2**32),
    st.randoms(use_true_random=False),
)
def test_draws_depend_on_user_seed_and_resample_alone(users, samples, seed, random):
    """Not on who else is there, in what order, or how many resamples are drawn."""
    together = poisson_counts(np.array(users, np.uint64), samples, seed)
    order = random.sample(range(len(users)), len(users))
    shuffled = poisson_counts(np.array(users, np.uint64)[order], samples + 3, seed)
    np.testing.assert_array_equal(shuffled[:, :samples], together[order])


def mixed(state):
    """SplitMix64's output function in whole numbers."""
    state = (state ^ (state >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    state = (state ^ (state >> 27)) * 0x94D049BB133111EB % 2**64
    return state ^ (state >> 31)


def test_draws_never_change():
    """One by one: what was drawn once can be drawn again on another machine, after years."""
    users, seed = [0, 1, 2**64 - 1], 42
    below = [sum(math.exp(-1) / math.factorial(j) for j in range(k + 1)) for k in range(8)]
    for user, drawn in zip(users, poisson_counts(np.array(users, np.uint64), 6, seed), strict=True):
        start = mixed((user + mixed(seed)) % 2**64)
        for resample, count in enumerate(drawn):
            number = 1 + resample // 4
            draws = mixed((start + number * 0x9E3779B97F4A7C15) % 2**64)
            draw = draws >> 16 * (resample % 4) & 0xFFFF
            assert count == sum(draw >= round(p * 2**16) for p in below)
