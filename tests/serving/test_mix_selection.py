"""Lists within bounds: the best there is, in the best order that keeps every prefix."""

import itertools

import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.browsing import dcg_weights
from serving.mix.bounds import Bounds, quota_bounds, rescaled
from serving.mix.ordering import order_by_prefix, order_by_turns
from serving.mix.selection import select

SLOW = settings(max_examples=60, deadline=None)


def _bounds(lower, upper):
    return Bounds(tf.constant([lower], tf.int32), tf.constant([upper], tf.int32))


def _quota(shares, tolerance, places):
    bounds = quota_bounds(
        tf.constant([shares], tf.float64),
        tf.constant([tolerance], tf.float64),
        tf.constant([places]),
    )
    return [b.numpy()[0].tolist() for b in bounds]


def test_bounds_worked_by_hand():
    # 20 places, 0.05 is one place: 12 ± 1, 5 ± 1, 2 ± 1, 1 ± 1.
    assert _quota([0.6, 0.25, 0.1, 0.05], 0.05, 20) == [[11, 4, 1, 0], [13, 6, 3, 2]]
    # 10 / 3 is 3 or 4, whatever is less than the way to them.
    assert _quota([1 / 3] * 3, 0.0, 10) == [[3, 3, 3], [4, 4, 4]]
    # A share of 0.1 + 0.2 is 3 of 10, not a little more.
    assert _quota([0.1 + 0.2, 0.7], 0.0, 10) == [[3, 7], [3, 7]]
    assert _quota([0.5, 0.5], 0.9, 4) == [[0, 0], [4, 4]]


@SLOW
@given(
    weights=st.lists(st.integers(1, 50), min_size=1, max_size=6),
    tolerance=st.floats(0, 0.5),
    places=st.integers(0, 60),
)
def test_bounds_can_always_be_kept_and_are_near_the_target(weights, tolerance, places):
    shares = np.array(weights) / sum(weights)
    lower, upper = map(np.array, _quota(shares, tolerance, places))
    assert lower.sum() <= places <= upper.sum()
    assert (lower >= 0).all()
    assert (lower <= upper).all()
    nearest = np.maximum(places * tolerance, 1)
    assert (np.abs(lower - places * shares) <= nearest + 1e-4).all()
    assert (np.abs(np.minimum(upper, places) - places * shares) <= nearest + 1e-4).all()


def test_shares_are_rescaled_among_the_allowed():
    shares = tf.constant([[0.6, 0.3, 0.1, 0.0]] * 2, tf.float64)
    allowed = tf.constant([[True, False, True, True], [False, False, False, True]])
    expected = [[6 / 7, 0, 1 / 7, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(rescaled(shares, allowed), expected)


@SLOW
@given(data=st.data(), num=st.integers(1, 8), k=st.integers(1, 5))
def test_no_list_within_the_bounds_is_better(data, num, k):
    k = min(k, num)
    codes = np.array(data.draw(st.lists(st.integers(0, 2), min_size=num, max_size=num)))
    scores = np.sort(data.draw(st.lists(st.integers(0, 9), min_size=num, max_size=num)))[::-1]
    lower = np.array(data.draw(st.tuples(*[st.integers(0, 2)] * 3)))
    upper = lower + np.array(data.draw(st.tuples(*[st.integers(0, 3)] * 3)))
    chosen = select(tf.constant([codes], tf.int32), _bounds(lower, upper), k).numpy()[0]
    assert len(set(chosen)) == k
    assert sorted(chosen) == chosen.tolist()
    count = np.bincount(codes[chosen], minlength=3)
    kept = [
        scores[list(some)].sum()
        for some in itertools.combinations(range(num), k)
        if (np.bincount(codes[list(some)], minlength=3) >= lower).all()
        and (np.bincount(codes[list(some)], minlength=3) <= upper).all()
    ]
    if kept:
        assert (lower <= count).all()
        assert (count <= upper).all()
        assert scores[chosen].sum() == max(kept)


def test_places_that_a_group_cannot_fill_go_to_the_others():
    # Group 1 has one item of at least two, group 0 its most: the list is full all the same.
    chosen = select(tf.constant([[0, 0, 0, 1, -1]]), _bounds([1, 2], [2, 3]), 4).numpy()
    assert chosen.tolist() == [[0, 1, 2, 3]]


def test_of_equal_scores_the_first_is_chosen():
    chosen = select(tf.constant([[0, 0, 1, 1]]), _bounds([0, 1], [4, 4]), 2).numpy()
    assert chosen.tolist() == [[0, 2]]


@SLOW
@given(data=st.data(), k=st.integers(1, 6))
def test_no_order_that_keeps_the_minimums_is_better(data, k):
    codes = np.array(data.draw(st.lists(st.integers(0, 2), min_size=k, max_size=k)))
    scores = np.sort(data.draw(st.lists(st.integers(0, 9), min_size=k, max_size=k)))[::-1]
    # Each step of the prefix may ask for one more of one group.
    asked = data.draw(st.lists(st.integers(0, 3), min_size=k, max_size=k))
    minimum = np.zeros([k + 1, 3], int)
    for i, group in enumerate(asked):
        minimum[i + 1] = minimum[i]
        if group < 3:
            minimum[i + 1, group] += 1
    order = order_by_prefix(tf.constant([codes], tf.int32), tf.constant([minimum], tf.int32))
    order = order.numpy()[0]
    assert sorted(order) == list(range(k))

    def fits(some):
        counts = np.cumsum(np.eye(3, dtype=int)[codes[list(some)]], axis=0)
        there = np.bincount(codes, minlength=3)
        return (counts >= np.minimum(minimum[1:], there)).all()

    assert fits(order)
    best = max(
        scores[list(some)] @ dcg_weights(k)
        for some in itertools.permutations(range(k))
        if fits(some)
    )
    np.testing.assert_allclose(scores[order] @ dcg_weights(k), best)


def test_padding_stays_last_in_every_order():
    codes = tf.constant([[0, 0, 1, -1]])
    minimum = tf.constant([[[0, 0], [0, 1], [0, 1], [0, 1], [0, 1]]])
    assert order_by_prefix(codes, minimum).numpy().tolist() == [[2, 0, 1, 3]]
    assert order_by_turns(codes, 2).numpy().tolist() == [[0, 2, 1, 3]]


def test_turns_worked_by_hand():
    # Three of group 0 stand at 1/6, 3/6, 5/6 of the way; the only one of group 1 at 1/2, after
    # the better one at the same; two of group 2 at 1/4 and 3/4.
    codes = tf.constant([[0, 0, 0, 1, 2, 2]])
    assert order_by_turns(codes, 3).numpy().tolist() == [[0, 4, 1, 3, 5, 2]]
