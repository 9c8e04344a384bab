"""Assignment: uniform, independent, stable, fast to import, and the same one user at a time."""

import subprocess
import sys
import timeit

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chi2_contingency, chisquare, kstest
from small_experiment import experiment

from fairness_losses.errors import InvalidInputError
from serving.experiments.assignment import NOT_IN, Assigner, check_layers

USERS = [f"user-{i}" for i in range(100_000)]
ARMS = [
    {"name": "control", "share": 0.2, "label": "stable"},
    {"name": "b", "share": 0.3, "label": "canary"},
    {"name": "c", "share": 0.5, "version": 7},
]

ids = st.lists(st.text(min_size=1, max_size=40), min_size=1, max_size=50)
shares = st.floats(0.0001, 1)


def numbers(users=USERS, **changes):
    return Assigner(experiment(**changes)).numbers(users)


def test_arms_have_their_shares():
    counts = np.bincount(numbers(arms=ARMS), minlength=3)
    assert chisquare(counts, np.array([0.2, 0.3, 0.5]) * len(USERS)).pvalue > 0.001


def test_the_share_of_one_arm_is_uniform_over_salts():
    """P-values of 200 salts are as those of chance, not only good on average."""
    users = USERS[:2000]
    p = [
        chisquare(np.bincount(numbers(users, salt=f"s{i}"), minlength=2)).pvalue for i in range(200)
    ]
    assert kstest(p, "uniform").pvalue > 0.001


@pytest.mark.parametrize("other", ["autumn2", "Autumn", "autum"])
def test_arms_under_another_salt_are_independent(other):
    table = np.zeros((2, 2))
    np.add.at(table, (numbers(), numbers(salt=other)), 1)
    assert chi2_contingency(table).pvalue > 0.001


def test_who_takes_part_is_independent_of_the_arm_under_full_traffic():
    takes_part = (numbers(traffic=0.5) != NOT_IN).astype(int)
    table = np.zeros((2, 2))
    np.add.at(table, (numbers(), takes_part), 1)
    assert chi2_contingency(table).pvalue > 0.001


@settings(max_examples=50, deadline=None)
@given(ids, shares, shares)
def test_nobody_changes_arms_or_leaves_when_traffic_grows(users, one, other):
    small, large = (numbers(users, arms=ARMS, traffic=t) for t in sorted([one, other]))
    stayed = small != NOT_IN
    np.testing.assert_array_equal(large[stayed], small[stayed])


@settings(max_examples=50, deadline=None)
@given(ids, shares, st.integers(0, 9999))
def test_many_users_at_once_are_assigned_as_one_at_a_time(users, traffic, last):
    assigner = Assigner(
        experiment(arms=ARMS, traffic=traffic, layer={"name": "l", "buckets": [0, last]})
    )
    assert assigner.numbers(users).tolist() == [assigner.number(user) for user in users]


@settings(max_examples=50, deadline=None)
@given(ids, st.integers(0, 9998))
def test_a_user_of_a_layer_is_in_one_experiment_of_it_at_most(users, last):
    layers = [[0, last], [last + 1, 9999]]
    a, b = (
        numbers(users, salt=f"s{i}", layer={"name": "page", "buckets": buckets}) != NOT_IN
        for i, buckets in enumerate(layers)
    )
    assert (a ^ b).all()


def test_a_layer_takes_its_share_and_is_independent_of_other_layers():
    def is_in(name):
        layer = {"name": name, "buckets": [0, 2499]}
        return (numbers(layer=layer) != NOT_IN).astype(int)

    one, other = is_in("page"), is_in("mail")
    assert chisquare(np.bincount(one), np.array([0.75, 0.25]) * len(USERS)).pvalue > 0.001
    table = np.zeros((2, 2))
    np.add.at(table, (one, other), 1)
    assert chi2_contingency(table).pvalue > 0.001


def test_an_assignment_never_changes():
    """Computed once and written down: a change here moves the users of running experiments."""
    assigner = Assigner(experiment(traffic=0.5))
    assert assigner.numbers(["u1", "u2", "u3", "u4", "u5", "ü", "用户"]).tolist() == [
        -1, 0, -1, 0, 0, -1, 0
    ]  # fmt: skip


def test_who_is_not_eligible_does_not_take_part():
    rules = [
        {"attribute": "country", "any_of": ["de", "at"]},
        {"attribute": "app", "at_least": 5},
        {"attribute": "client", "none_of": ["robot"]},
    ]
    assigner = Assigner(experiment(eligibility=rules))
    fine = {"country": "de", "app": "5.2", "client": "web"}
    assert assigner.arm("u", fine).name in ("control", "treatment")
    for change in (
        {"country": "fr"}, {"country": None}, {"app": 4}, {"app": "new"}, {"client": "robot"},
    ):  # fmt: skip
        assert assigner.arm("u", {**fine, **change}) is None
    assert assigner.arm("u") is None


def test_an_empty_id_is_refused():
    with pytest.raises(InvalidInputError, match="all of them would be in one arm"):
        Assigner(experiment()).arm("")


def test_experiments_of_a_layer_divide_its_buckets():
    def of_layer(name, buckets, **changes):
        layer = {"name": "page", "buckets": buckets}
        return experiment(name=name, salt=name, layer=layer, **changes)

    check_layers([of_layer("a", [0, 4999]), of_layer("b", [5000, 9999])])
    with pytest.raises(InvalidInputError, match=r"`b` and `a` have buckets .* 4999 to 9999 and 0"):
        check_layers([of_layer("a", [0, 4999]), of_layer("b", [4999, 9999])])
    later = {"start": "2026-11-16T00:00:00Z", "end": "2026-11-30T00:00:00Z"}
    check_layers([of_layer("a", [0, 4999]), of_layer("b", [0, 4999], **later)])
    with pytest.raises(InvalidInputError, match="the same salt 'autumn'"):
        check_layers([experiment(), experiment(name="b")])


def test_assignment_is_imported_without_heavy_libraries():
    heavy = ["tensorflow", "pandas", "pyarrow", "scipy", "gbstats", "statsmodels"]
    code = (
        "import sys, serving.experiments.assignment;"
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_an_assignment_takes_microseconds():
    """2.5 µs with a layer, on a machine that does nothing else; the bound is for one that does."""
    assigner = Assigner(experiment(layer={"name": "page", "buckets": [0, 9999]}))
    users = USERS[:20_000]
    best = min(timeit.repeat(lambda: [assigner.number(u) for u in users], number=1, repeat=5))
    assert best / len(users) < 20e-6
