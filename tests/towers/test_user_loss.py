"""The multinomial loss of users: values by hand, and the sampled estimate of it."""

import numpy as np
import pytest
import tensorflow as tf

from towers.retrieval_loss import CatalogueNegatives
from towers.user_choices import Choices, holds, marked
from towers.user_loss import UserLoss


def test_one_user_by_hand():
    """Scores 0, 1, 2, 3 at temperature 1; item 3 is given, items 0 and 2 are wanted.

    Z = 1 + e + e^2; loss = (2 log Z - 0 - 2) / 2.
    """
    query, catalogue = tf.constant([[1.0]]), tf.constant([[0.0], [1.0], [2.0], [3.0]])
    given = tf.constant([[False, False, False, True]])
    wanted = tf.constant([[1.0, 0.0, 1.0, 0.0]])
    expected = np.log(1 + np.e + np.e**2) - 1
    loss = UserLoss(1.0).of_catalogue(query, catalogue, given, wanted)
    assert float(loss) == pytest.approx(expected, rel=1e-6)
    sample = CatalogueNegatives(catalogue, tf.range(4), tf.ones(4))
    choices = Choices(tf.constant([[3, -1]]), tf.constant([[0, 2]]), tf.ones(1))
    estimate = UserLoss(1.0).of_sample(
        query, tf.constant([[[0.0], [2.0]]]), choices, *with_chosen(choices, sample)
    )
    assert float(estimate) == pytest.approx(expected, rel=1e-6)


def random_case(seed=0, users=6, items=40, dim=3, width=5):
    rng = np.random.default_rng(seed)
    query, catalogue = rng.normal(size=(users, dim)), rng.normal(size=(items, dim))
    rows = np.stack([rng.permutation(items)[: 2 * width] for _ in range(users)])
    given, wanted = rows[:, :width].copy(), rows[:, width:].copy()
    given[0, 2:], wanted[1:2, 2:] = -1, -1
    as_float = [tf.constant(x, tf.float32) for x in (query, catalogue)]
    return *as_float, Choices(
        tf.constant(given, tf.int32), tf.constant(wanted, tf.int32), tf.ones(users)
    )


def exact(loss, query, catalogue, choices):
    items = len(catalogue)
    given, wanted = marked(choices.given, items) > 0, marked(choices.wanted, items)
    return loss.of_catalogue(query, catalogue, given, wanted)


def with_chosen(choices, sample):
    chosen = holds(choices.given, sample.ids) | holds(choices.wanted, sample.ids)
    return sample, chosen


def wanted_embedding(catalogue, choices):
    return tf.gather(catalogue, tf.maximum(choices.wanted, 0))


def test_the_whole_catalogue_as_a_sample_gives_the_exact_loss_and_gradient():
    query, catalogue, choices = random_case()
    loss = UserLoss(0.5)
    sample = CatalogueNegatives(catalogue, tf.range(40), tf.ones(40))
    gradients = []
    for compute in (
        lambda: exact(loss, query, catalogue, choices),
        lambda: loss.of_sample(
            query, wanted_embedding(catalogue, choices), choices, *with_chosen(choices, sample)
        ),
    ):
        with tf.GradientTape() as tape:
            tape.watch(query)
            value = compute()
        gradients.append((float(value), tape.gradient(value, query).numpy()))
    assert gradients[0][0] == pytest.approx(gradients[1][0], rel=1e-5)
    np.testing.assert_allclose(gradients[0][1], gradients[1][1], atol=1e-5)


def test_the_sum_over_the_catalogue_is_estimated_without_bias():
    """Ten of 40 items, each for four: the mean of exp(log Z) over draws is Z itself."""
    query, catalogue, choices = random_case(users=1)
    wanted = choices.wanted[:, :1]
    choices = Choices(choices.given, wanted, choices.weights)
    rng = np.random.default_rng(1)
    scores = (query @ tf.transpose(catalogue)).numpy()[0]
    others = np.ones(40, bool)
    others[[row for row in choices.given.numpy()[0] if row != -1]] = False
    embedded = wanted_embedding(catalogue, choices)

    @tf.function
    def loss_of(rows):
        sample = CatalogueNegatives(tf.gather(catalogue, rows), rows, tf.fill([10], 4.0))
        return UserLoss(1.0).of_sample(query, embedded, choices, *with_chosen(choices, sample))

    losses = [loss_of(tf.constant(rng.integers(0, 40, 10), tf.int32)) for _ in range(4000)]
    totals = np.exp(np.array(losses) + scores[wanted.numpy()[0, 0]])
    error = np.std(totals) / np.sqrt(len(totals))
    assert abs(np.mean(totals) - np.exp(scores[others]).sum()) < 3 * error


def test_a_part_of_a_users_items_stands_for_all_of_them():
    """Two wanted items that stand for three each count as three users who chose both."""
    query, catalogue, _ = random_case(users=1)
    choices = Choices(tf.constant([[-1, -1]]), tf.constant([[4, 9]]), tf.constant([3.0]))
    loss = exact(UserLoss(1.0), query, catalogue, choices)
    weighted = UserLoss(1.0).of_catalogue(
        query, catalogue, tf.zeros([1, 40], tf.bool), 3.0 * marked(choices.wanted, 40)
    )
    assert float(weighted) == pytest.approx(float(loss), rel=1e-6)


def test_a_user_who_wants_nothing_adds_nothing():
    query, catalogue, choices = random_case(users=2)
    nothing = Choices(
        choices.given,
        tf.concat([choices.wanted[:1], tf.fill([1, 5], -1)], axis=0),
        choices.weights,
    )
    alone = Choices(choices.given[:1], choices.wanted[:1], choices.weights[:1])
    loss = UserLoss(1.0)
    assert float(exact(loss, query, catalogue, nothing)) == pytest.approx(
        float(exact(loss, query[:1], catalogue, alone)), rel=1e-6
    )
    none = Choices(choices.given, tf.fill([2, 5], -1), choices.weights)
    assert float(exact(loss, query, catalogue, none)) == 0


def test_rows_are_marked_and_held():
    rows = tf.constant([[2, -1, 0], [1, 1, -1]])
    np.testing.assert_array_equal(marked(rows, 4), [[1, 0, 1, 0], [0, 2, 0, 0]])
    np.testing.assert_array_equal(
        holds(rows, tf.constant([0, 1, 3])), [[True, False, False], [False, True, False]]
    )


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature_is_positive(temperature):
    with pytest.raises(ValueError, match=r"`temperature` should be a positive float\. Received"):
        UserLoss(temperature)
