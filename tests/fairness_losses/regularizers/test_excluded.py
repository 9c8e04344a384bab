"""Groups left out: their columns are 0, and there has to be such a group."""

import numpy as np
import pytest
import tensorflow as tf

from fairness_losses.regularizers.excluded import without_groups


def test_only_the_excluded_columns_are_0():
    membership = tf.constant([[0.25, 0.5, 0.25], [0.0, 0.0, 1.0]])
    expected = [[0.25, 0.0, 0.0], [0.0, 0.0, 0.0]]
    np.testing.assert_array_equal(without_groups(membership, [1, 2]), expected)
    np.testing.assert_array_equal(without_groups(membership, []), membership)


@pytest.mark.parametrize("group", [-1, 3])
def test_there_is_a_group_of_that_number(group):
    message = rf"`excluded` should be numbers of groups, from 0 to 2\. Received: {group}\."
    with pytest.raises(ValueError, match=message):
        without_groups(tf.eye(3), [0, group])


def test_the_number_of_groups_may_be_unknown_until_the_graph_runs():
    matrix = tf.TensorSpec([None, None], tf.float32)
    compiled = tf.function(lambda m: without_groups(m, [1]), input_signature=[matrix])
    np.testing.assert_array_equal(compiled(tf.eye(2)), [[1.0, 0.0], [0.0, 0.0]])
