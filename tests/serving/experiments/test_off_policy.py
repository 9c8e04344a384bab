from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fairness_losses.errors import InvalidInputError
from serving.experiments.off_policy import (
    LoggedLists,
    doubly_robust,
    effective_sample_size,
    ips,
    snips,
)

# Two requests with one place; the weights are 0.5 and 2.
TWO = LoggedLists(
    rewards=np.array([[1.0], [0.0]]),
    logged=np.array([[0.5], [0.25]]),
    target=np.array([[0.25], [0.5]]),
)


def test_ips_by_hand():
    found = ips(TWO)
    assert found.value == pytest.approx((0.5 * 1 + 2 * 0) / 2)
    # The terms 0.5 and 0 are 0.25 from their mean: s = sqrt(0.125), over sqrt(2).
    assert found.standard_error == pytest.approx(0.25)
    # Student's distribution with one degree of freedom: 12.706.
    assert found.high == pytest.approx(0.25 + 12.7062 * 0.25, rel=1e-5)
    assert found.mean_weight == pytest.approx(1.25)
    assert found.effective_sample_size == pytest.approx(2.5**2 / 4.25)
    assert found.clipped == 0


def test_snips_by_hand():
    found = snips(TWO)
    assert found.value == pytest.approx(0.5 / 2.5)
    # Residuals 2 * 0.5 * 0.8 / 2.5 = 0.32 and 2 * 2 * (-0.2) / 2.5 = -0.32.
    assert found.standard_error == pytest.approx((2 * 2 * 0.32**2) ** 0.5 / 2)


def test_doubly_robust_by_hand():
    found = doubly_robust(TWO, np.array([[0.6], [0.2]]), np.array([[0.5], [0.3]]))
    # 0.5 + 0.5 (1 - 0.6) = 0.7 and 0.3 + 2 (0 - 0.2) = -0.1.
    assert found.value == pytest.approx(0.3)
    assert found.standard_error == pytest.approx(0.4)


def test_clipping_by_hand():
    # The weight 2 becomes 1.
    assert ips(TWO, clip=1).value == pytest.approx(0.25)
    assert snips(TWO, clip=1).value == pytest.approx(0.5 / 1.5)
    assert ips(TWO, clip=1).clipped == 0.5
    assert ips(TWO, clip=1).mean_weight == pytest.approx(1.25)
    assert ips(TWO, clip=0.25).value == pytest.approx(0.125)


def test_places_are_summed_and_each_normalised_by_its_own_weights():
    log = LoggedLists(
        rewards=np.array([[1.0, 0.0], [0.0, 1.0]]),
        logged=np.array([[0.5, 0.5], [0.5, 0.5]]),
        target=np.array([[0.5, 1.0], [0.0, 1.0]]),
    )
    # Weights 1, 2 and 0, 2.
    assert ips(log).value == pytest.approx((1 + 2) / 2)
    assert snips(log).value == pytest.approx(1 / 1 + 2 / 4)
    assert ips(log).effective_sample_size == pytest.approx(1.0)


def test_effective_sample_size_by_hand():
    weights = np.array([[1.0, 2.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    assert effective_sample_size(weights).tolist() == [4.0, 1.0, 0.0]


def everything():
    """A log in which whatever may happen occurs as often as its probability says.

    Two kinds of requests, lists of two of three items, and clicks that depend on kind, item and
    place. The mean over such a log is an expectation, without any error of sampling.

    Returns:
        The log's kinds, lists, rewards and propensities; click probabilities `[kind, item, place]`;
        target probabilities of the same shape.
    """
    pairs = list(itertools.permutations(range(3), 2))
    # In eighths, by kind and pair: every item is at every place now and then.
    lists = np.array([[1, 2, 1, 1, 2, 1], [3, 1, 1, 1, 1, 1]])
    clicks = np.array([[[3, 2], [1, 1], [2, 0]], [[0, 1], [4, 2], [1, 3]]]) / 4
    targets = np.array([[0, 3, 1, 2, 0, 2], [1, 0, 0, 5, 1, 1]]) / 8
    logged, target = (np.zeros((2, 3, 2)) for _ in range(2))
    for number, pair in enumerate(pairs):
        for place, item in enumerate(pair):
            logged[:, item, place] += lists[:, number] / 8
            target[:, item, place] += targets[:, number]
    rows = []
    for kind, (number, pair) in itertools.product(range(2), enumerate(pairs)):
        for clicked in itertools.product((0, 1), repeat=2):
            p = [clicks[kind, item, place] for place, item in enumerate(pair)]
            chance = np.prod([q if c else 1 - q for q, c in zip(p, clicked, strict=True)])
            times = lists[kind, number] * chance * 16
            assert times == int(times)
            rows += [(kind, *pair, *clicked)] * int(times)
    kinds, shown, rewards = np.split(np.array(rows), [1, 3], axis=1)
    places = np.arange(2)
    log = LoggedLists(
        rewards.astype(float), logged[kinds, shown, places], target[kinds, shown, places]
    )
    return log, kinds[:, 0], shown, clicks, target


def test_expectations_are_the_truth():
    log, kinds, shown, clicks, target = everything()
    # Both kinds are as frequent.
    truth = (target * clicks).sum() / 2
    assert ips(log).value == pytest.approx(truth, rel=1e-12)
    assert ips(log).mean_weight == pytest.approx(1)
    # Not so for the mean reward, which is that of another policy.
    assert abs(log.rewards.sum(axis=1).mean() - truth) > 0.1
    rng = np.random.default_rng(0)
    model = rng.random(clicks.shape)
    predicted = model[kinds[:, None], shown, np.arange(2)]
    expected = (target * model).sum(axis=1)[kinds]
    assert doubly_robust(log, predicted, expected).value == pytest.approx(truth, rel=1e-12)


def test_self_normalisation_is_exact_where_places_earn_the_same():
    log, *_ = everything()
    same = LoggedLists(np.tile([0.7, 0.2], (len(log.rewards), 1)), log.logged, log.target)
    some = np.random.default_rng(0).integers(len(log.rewards), size=20)
    few = LoggedLists(same.rewards[some], same.logged[some], same.target[some])
    assert snips(few).value == pytest.approx(0.9)
    assert ips(few).value != pytest.approx(0.9)


def test_a_right_model_forgives_wrong_propensities():
    log, kinds, shown, clicks, target = everything()
    wrong = LoggedLists(log.rewards, np.full(log.logged.shape, 0.4), log.target)
    predicted = clicks[kinds[:, None], shown, np.arange(2)]
    expected = (target * clicks).sum(axis=1)[kinds]
    truth = (target * clicks).sum() / 2
    assert doubly_robust(wrong, predicted, expected).value == pytest.approx(truth, rel=1e-12)
    assert abs(ips(wrong).value - truth) > 0.05


def test_what_the_logging_policy_never_shows_is_seen_in_the_weights():
    log, *_ = everything()
    # The log has none of what the target likes best.
    liked = log.target.argmax()
    kept = (log.target != log.target.flat[liked]).all(axis=1)
    blind = LoggedLists(log.rewards[kept], log.logged[kept], log.target[kept])
    assert ips(blind).mean_weight < 0.8


def test_intervals_hold_the_truth_as_often_as_they_say():
    log, _, _, clicks, target = everything()
    truth = (target * clicks).sum() / 2
    rng = np.random.default_rng(1)
    held = {ips: 0, snips: 0}
    for _ in range(1000):
        some = rng.integers(len(log.rewards), size=400)
        drawn = LoggedLists(log.rewards[some], log.logged[some], log.target[some])
        for estimator in held:
            found = estimator(drawn)
            held[estimator] += found.low <= truth <= found.high
    # 950 with a standard error of 7.
    assert all(930 <= count <= 970 for count in held.values())


def test_requests_of_one_user_are_one_observation():
    rng = np.random.default_rng(2)
    rewards = rng.random((50, 3))
    same = np.full((50, 3), 0.5)
    alone = ips(LoggedLists(rewards, same, same))
    # Everybody asks four times and does the same each time: nothing new is learnt.
    repeated = LoggedLists(
        np.repeat(rewards, 4, axis=0),
        np.repeat(same, 4, axis=0),
        np.repeat(same, 4, axis=0),
        np.repeat(np.arange(50), 4),
    )
    again = ips(repeated)
    assert again.value == pytest.approx(alone.value)
    assert again.standard_error == pytest.approx(alone.standard_error)


def arrays(low, high):
    return hnp.arrays(float, (6, 3), elements=st.floats(low, high))


@given(arrays(0, 1), arrays(0.01, 1), arrays(0, 1), st.floats(0.1, 20))
def test_clipping_lowers_ips_and_means_stay_means(rewards, logged, target, clip):
    log = LoggedLists(rewards, logged, target)
    assert -1e-9 <= ips(log, clip).value <= ips(log).value + 1e-9
    assert -1e-9 <= snips(log, clip).value <= 3 + 1e-9
    assert effective_sample_size(log.weights(clip)).max() <= 6 + 1e-9


@given(arrays(0, 1), arrays(0.01, 1), arrays(0, 1))
def test_of_the_logging_policy_itself_all_are_the_mean_reward(rewards, logged, predicted):
    log = LoggedLists(rewards, logged, logged)
    mean = rewards.sum(axis=1).mean()
    assert ips(log).value == pytest.approx(mean)
    assert snips(log).value == pytest.approx(mean)
    assert doubly_robust(log, predicted, predicted).value == pytest.approx(mean)


@given(arrays(0, 1), arrays(0.01, 1), arrays(0, 1))
def test_a_model_of_nothing_is_ips(rewards, logged, target):
    log, nothing = LoggedLists(rewards, logged, target), np.zeros((6, 3))
    assert doubly_robust(log, nothing, nothing) == ips(log)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("logged", 0.0, "`logged` should be above 0.* Received: 0.0 in row 1 at place 0"),
        ("logged", np.nan, "`logged` should be above 0.* Received: nan in row 1 at place 0"),
        ("logged", 1.5, "`logged` should be above 0 and at most 1"),
        ("target", -0.1, "`target` should be a probability. Received: -0.1"),
        ("target", np.nan, "`target` should be a probability. Received: nan"),
        ("rewards", np.inf, "`rewards` should be finite. Received: inf"),
    ],
)
def test_values_that_cannot_be_are_refused(name, value, message):
    given = {field: getattr(TWO, field).copy() for field in ("rewards", "logged", "target")}
    given[name][1, 0] = value
    with pytest.raises(InvalidInputError, match=message):
        LoggedLists(**given)


def test_shapes_and_settings_that_cannot_be_are_refused():
    ones = np.ones((2, 1))
    with pytest.raises(InvalidInputError, match=r"`logged` should have the shape \[2, 1\]"):
        LoggedLists(ones, np.ones((2, 2)), ones)
    with pytest.raises(InvalidInputError, match=r"`users` should have the shape \[2\]"):
        LoggedLists(ones, ones, ones, np.zeros(3))
    with pytest.raises(InvalidInputError, match="at least one of each"):
        LoggedLists(np.zeros((0, 3)), np.zeros((0, 3)), np.zeros((0, 3)))
    with pytest.raises(InvalidInputError, match=r"`clip` should be a positive float\. Received: 0"):
        ips(TWO, clip=0)
    with pytest.raises(
        InvalidInputError, match=r"`clip` should be a positive float\. Received: nan"
    ):
        ips(TWO, clip=float("nan"))
    with pytest.raises(InvalidInputError, match="`confidence` should be between 0 and 1"):
        ips(TWO, confidence=95)
    with pytest.raises(InvalidInputError, match="`predicted` should have the shape"):
        doubly_robust(TWO, np.ones((2, 2)), ones)
    with pytest.raises(InvalidInputError, match=r"`expected` should be finite\. Received: nan"):
        doubly_robust(TWO, ones, np.full((2, 1), np.nan))
    with pytest.raises(InvalidInputError, match="at least two users"):
        ips(LoggedLists(ones, ones, ones, np.zeros(2)))
