"""The retrieval loss of a batch of users, against the catalogue or a sample of it."""

import numpy as np
import pytest
import tensorflow as tf

from towers.objectives import UserObjective
from towers.retrieval_loss import CatalogueNegatives
from towers.user_loss import UserLoss

ITEMS = 30
RNG = np.random.default_rng(0)
QUERY = tf.constant(RNG.normal(size=(4, 3)), tf.float32)
TABLE = tf.constant(RNG.normal(size=(ITEMS, 3)), tf.float32)
USERS = {
    "given": tf.constant([[0, 3, -1], [7, -1, -1], [-1, -1, -1], [29, 28, 27]]),
    "wanted": tf.constant([[5, -1, -1], [8, 9, 1], [2, -1, -1], [-1, -1, -1]]),
    "weights": tf.constant([1.0, 2.5, 1.0, 1.0]),
}


def whole() -> CatalogueNegatives:
    return CatalogueNegatives(TABLE, tf.range(ITEMS), tf.ones(ITEMS))


def loss_and_gradients(objective, inputs, table, sampled) -> list[np.ndarray]:
    """The loss, and its gradients for the queries and for the vectors of all items."""
    query, table = tf.Variable(QUERY), tf.Variable(table)
    with tf.GradientTape() as tape:
        sample = sampled and CatalogueNegatives(tf.gather(table, sampled.ids), *sampled[1:])
        loss = objective(query, inputs, sample, lambda rows: tf.gather(table, rows))
    gradients = tape.gradient(loss, [query, table])
    return [loss.numpy(), *(tf.convert_to_tensor(g).numpy() for g in gradients)]


def test_one_user_by_hand():
    """Scores 0, 1, 2 over a temperature of 0.5; item 2 is given, item 0 wanted:
    log(1 + e^2) - 0."""
    table = tf.constant([[0.0], [1.0], [2.0]])
    inputs = {
        "given": tf.constant([[2]]),
        "wanted": tf.constant([[0]]),
        "weights": tf.ones(1),
    }
    sample = CatalogueNegatives(table, tf.range(3), tf.ones(3))
    for num_items in (3, None):
        objective = UserObjective(UserLoss(0.5), num_items)
        loss = objective(tf.ones([1, 1]), inputs, sample, lambda rows: tf.gather(table, rows))
        assert float(loss) == pytest.approx(np.log(1 + np.exp(2)), rel=1e-5)


def test_the_whole_catalogue_and_a_sample_that_is_all_of_it_are_the_same():
    """Loss and gradients, in whatever order the sample has the items."""
    loss = UserLoss(0.7)
    exact = loss_and_gradients(UserObjective(loss, ITEMS), USERS, TABLE, whole())
    order = tf.constant(np.random.default_rng(1).permutation(ITEMS), tf.int32)
    drawn = CatalogueNegatives(tf.gather(TABLE, order), order, tf.ones(ITEMS))
    estimate = loss_and_gradients(UserObjective(loss, None), USERS, TABLE, drawn)
    for found, expected in zip(estimate, exact, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_user_of_many_choices_counts_as_often_as_what_is_looked_at_stands_for():
    """The second user's three items stand for 2.5 each: the loss is a mean over 1 + 7.5 + 1
    choices."""
    alone = []
    for user in range(3):
        inputs = {name: column[user : user + 1] for name, column in USERS.items()}
        objective = UserObjective(UserLoss(1.0), ITEMS)
        loss = objective(QUERY[user : user + 1], inputs, whole(), lambda rows: rows)
        alone.append(float(loss))
    together = UserObjective(UserLoss(1.0), ITEMS)(QUERY, USERS, whole(), lambda rows: rows)
    expected = np.average(alone, weights=[1, 7.5, 1])
    assert float(together) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("num_items", [ITEMS, None])
def test_a_batch_in_which_nobody_wants_anything_is_0(num_items):
    inputs = USERS | {"wanted": tf.fill([4, 3], -1)}
    objective = UserObjective(UserLoss(1.0), num_items)
    for found in loss_and_gradients(objective, inputs, TABLE, whole()):
        np.testing.assert_array_equal(found, np.zeros_like(found))


def test_without_a_sample_there_is_nothing_to_compare_with():
    with pytest.raises(ValueError, match="batches of users need a `sample`"):
        UserObjective(UserLoss(1.0), None)(QUERY, USERS, None, lambda rows: rows)
