"""Joint multisided exposure: the authors' six cases, by hand, properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.metrics.joint_exposure import KINDS, joint_exposure

# Users 1, 2 and 3, 4 are groups, as are items 1, 2 and 3, 4. A case says, for each user, which two
# items get all of the exposure, 1/2 each. The target is 1/4 for every item.
HALVES = np.repeat(np.eye(2), 2, axis=0)
ODD, EVEN, FIRST, LAST = [0.5, 0, 0.5, 0], [0, 0.5, 0, 0.5], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]
UNIFORM = np.full((4, 4), 0.25)


@pytest.mark.parametrize(
    ("exposure", "unfair"),
    [
        ([ODD, EVEN, ODD, EVEN], {"II"}),
        ([FIRST, LAST, FIRST, LAST], {"II", "IG"}),
        ([ODD, ODD, EVEN, EVEN], {"II", "GI"}),
        ([ODD, ODD, ODD, ODD], {"II", "GI", "AI"}),
        ([FIRST, FIRST, LAST, LAST], {"II", "IG", "GI", "GG"}),
        ([FIRST, FIRST, FIRST, FIRST], set(KINDS)),
    ],
)
def test_the_six_cases_of_the_authors(exposure, unfair):
    """Every deviation is 1/4 or -1/4, and is averaged to itself or to 0: (1/4)^2 = 0.0625.

    In the last case every user has only items of the first group: unfair in every sense. In the
    first one the halves of every group make up for each other: only individuals are treated
    differently. With the target as baseline, as in the authors' code, all of it is disparity.
    """
    metrics = joint_exposure(np.array(exposure), UNIFORM, HALVES, HALVES, baseline=UNIFORM)
    for kind in KINDS:
        expected = 0.0625 if kind in unfair else 0.0
        assert metrics[kind] == pytest.approx((expected, expected, 0.0), abs=1e-15)


def test_decomposition_by_hand():
    """E = 1, 1/2 and E* = 3/4, 3/4 for one user: II-D 5/8, II-R 2 * 9/16, II-F 1/16.

    Both items are one group: E = E* = 3/4, so IG-D 9/16, IG-R 2 * 9/16, IG-F 0.
    """
    everyone, both = np.ones((1, 1)), np.ones((2, 1))
    metrics = joint_exposure(np.array([[1, 0.5]]), np.array([[0.75, 0.75]]), everyone, both)
    assert metrics["II"] == pytest.approx((0.0625, 0.625, 1.125))
    for kind in ("IG", "GG", "AG"):
        assert metrics[kind] == pytest.approx((0, 0.5625, 1.125))
    assert metrics["GI"] == metrics["AI"] == metrics["II"]


def test_fractional_membership_counts_as_such():
    """Item 2 is half in each group, D = 1, 1/2, 0: means (1 + 1/4) / 1.5 and (1/4) / 1.5.

    (25/36 + 1/36) / 2 = 13/36.
    """
    items = np.array([[1, 0], [0.5, 0.5], [0, 1]])
    metrics = joint_exposure(np.array([[1, 0.5, 0]]), np.zeros((1, 3)), np.ones((1, 1)), items)
    assert metrics["IG"].loss == pytest.approx(13 / 36)
    assert metrics["GG"].loss == metrics["AG"].loss == metrics["IG"].loss


def test_what_cannot_be_listed_is_in_no_mean():
    """D = 1, 1/2 for user 1; for user 2 item 1 is not listed and item 2 has D = -1/2.

    II (1 + 1/4 + 1/4) / 3; AI (1^2 + 0^2) / 2; both items are one group: IG
    ((3/4)^2 + (1/2)^2) / 2, AG (1/3)^2.
    """
    listed = np.array([[True, True], [False, True]])
    exposure = np.array([[1, 0.5], [9, -0.5]])
    everyone = np.ones((2, 1))
    metrics = joint_exposure(exposure, np.zeros((2, 2)), everyone, everyone, listed=listed)
    losses = {kind: metric.loss for kind, metric in metrics.items()}
    assert losses["II"] == pytest.approx(0.5)
    assert losses["IG"] == pytest.approx((9 / 16 + 1 / 4) / 2)
    assert losses["AI"] == losses["GI"] == pytest.approx(0.5)
    assert losses["AG"] == losses["GG"] == pytest.approx(1 / 9)


def random_case(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    exposure, target = rng.random((2, 6, 5))
    return [exposure, target, rng.dirichlet(np.ones(3), 6), rng.dirichlet(np.ones(2), 5)]


def by_loops(exposure, target, users, items):
    """The definitions, cell by cell."""
    deviation = exposure - target

    def mean_square(user_masses, item_masses):
        means = [
            np.average(deviation, weights=np.outer(u, i)) for u in user_masses for i in item_masses
        ]
        return np.mean(np.square(means))

    over_users = {"I": np.eye(len(users)), "G": users.T, "A": np.ones((1, len(users)))}
    over_items = {"I": np.eye(len(items)), "G": items.T}
    return {kind: mean_square(over_users[kind[0]], over_items[kind[1]]) for kind in KINDS}


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_metrics_are_their_definitions_and_decompose(seed):
    case = random_case(seed)
    metrics, expected = joint_exposure(*case), by_loops(*case)
    at_target = joint_exposure(case[1], *case[1:])
    for kind in KINDS:
        loss, disparity, relevance = metrics[kind]
        assert loss == pytest.approx(expected[kind])
        assert loss == pytest.approx(disparity - relevance + at_target[kind].disparity)
        assert at_target[kind].loss == 0


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_order_does_not_matter_and_groups_without_members_take_no_part(seed):
    exposure, target, users, items = random_case(seed)
    u, i = (np.random.default_rng(seed).permutation(n) for n in exposure.shape)
    users_with_none = np.hstack([users[u], np.zeros((6, 1))])
    items_with_none = np.hstack([np.zeros((5, 1)), items[i]])
    permuted = joint_exposure(exposure[u][:, i], target[u][:, i], users_with_none, items_with_none)
    for kind, metric in joint_exposure(exposure, target, users, items).items():
        assert permuted[kind] == pytest.approx(metric)


def test_without_any_member_there_is_nothing_to_average():
    metrics = joint_exposure(UNIFORM, UNIFORM, np.zeros((4, 2)), HALVES)
    assert np.isnan(metrics["GG"]).all()
    assert metrics["AG"].loss == 0
    nobody = np.zeros((0, 4))
    empty = joint_exposure(nobody, nobody, np.zeros((0, 2)), HALVES)
    assert all(np.isnan(metric).all() for metric in empty.values())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"exposure": np.zeros(4)}, r"`exposure` should have the shape \[num_users, num_items\]"),
        ({"target": np.zeros((4, 3))}, r"`target` should have the shape \[4, 4\].*Received: "),
        ({"users": np.zeros((3, 2))}, r"`users` should have the shape \[4, number of groups\]"),
        ({"items": np.zeros(4)}, r"`items` should have the shape \[4, number of groups\]"),
        ({"listed": np.ones((1, 4), bool)}, r"`listed` should have the shape \[4, 4\]"),
    ],
)
def test_shapes_fit(changed, message):
    arguments = {"exposure": UNIFORM, "target": UNIFORM, "users": HALVES, "items": HALVES}
    with pytest.raises(ValueError, match=message):
        joint_exposure(**{**arguments, **changed})
