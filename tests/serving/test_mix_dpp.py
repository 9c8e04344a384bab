"""The greedy choice of a determinantal point process, against determinants."""

import numpy as np
import tensorflow as tf

from serving.mix.bounds import Bounds
from serving.mix.dpp import select_diverse


def _choose(scores, codes, vectors, lower, upper, k, theta):
    bounds = Bounds(tf.constant([lower]), tf.constant([upper]))
    chosen = select_diverse(
        tf.constant([scores], tf.float32),
        tf.constant([codes], tf.int32),
        tf.constant([vectors], tf.float32),
        bounds,
        k,
        theta,
    )
    return chosen.numpy()[0].tolist()


def test_each_choice_has_the_largest_determinant():
    rng = np.random.default_rng(0)
    vectors, k, theta = rng.normal(size=(30, 8)), 7, 0.6
    scores = np.sort(rng.normal(size=30))[::-1]
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    r = (scores - scores[0]) / scores[:k].std()
    quality = np.exp(theta / (2 * (1 - theta)) * r)
    kernel = quality[:, None] * (units @ units.T) * quality
    expected: list[int] = []
    for _ in range(k):
        left = [i for i in range(30) if i not in expected]
        determinants = [np.linalg.det(kernel[np.ix_([*expected, i], [*expected, i])]) for i in left]
        expected.append(left[int(np.argmax(determinants))])
    assert _choose(scores, [0] * 30, vectors, [0], [k], k, theta) == expected
    assert expected != list(range(k))


def test_what_is_like_the_first_comes_last_and_relevance_alone_keeps_the_order():
    vectors = [[1.0, 0.0], [1.0, 0.01], [0.0, 1.0]]
    scores = [3.0, 2.9, 1.0]
    assert _choose(scores, [0, 0, 0], vectors, [0], [3], 3, 0.0) == [0, 2, 1]
    assert _choose(scores, [0, 0, 0], vectors, [0], [3], 3, 0.99) == [0, 1, 2]


def test_bounds_hold_and_a_list_is_full_where_they_cannot():
    vectors = np.eye(6)
    scores = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0]
    codes = [0, 0, 0, 0, 1, 1]
    assert _choose(scores, codes, vectors, [0, 1], [3, 3], 3, 0.9) == [0, 1, 4]
    assert _choose(scores, codes, vectors, [0, 0], [1, 2], 3, 0.9) == [0, 4, 5]
    assert sorted(_choose(scores, codes, vectors, [0, 0], [1, 1], 4, 0.9)) == [0, 1, 2, 4]


def test_more_choices_than_dimensions_and_padding_is_last():
    vectors = np.random.default_rng(1).normal(size=(6, 2))
    scores = [6.0, 5.0, 4.0, 3.0, 2.0, -np.inf]
    chosen = _choose(scores, [0, 0, 0, 0, 0, -1], vectors, [0], [6], 6, 0.5)
    assert sorted(chosen[:5]) == [0, 1, 2, 3, 4]
    assert chosen[5] == 5
