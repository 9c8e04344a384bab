"""Many queries, a batch at a time."""

import numpy as np
import pytest
import tensorflow as tf

from serving.query_batches import in_batches, search_all
from serving.search import ExactSearch


@pytest.mark.parametrize("number", [0, 1, 64, 65, 200])
def test_batches_are_put_together_in_the_order_of_the_queries(number):
    queries = np.random.default_rng(0).standard_normal((number, 3)).astype(np.float32)
    doubled, sums = in_batches(lambda q: (2 * q, tf.reduce_sum(q, axis=1)), queries)
    np.testing.assert_allclose(doubled, 2 * queries)
    np.testing.assert_allclose(sums, queries.sum(axis=1), rtol=1e-5)


def test_search_all_finds_the_largest_products():
    rng = np.random.default_rng(0)
    vectors, queries = (rng.standard_normal((n, 4)).astype(np.float32) for n in (50, 130))
    expected = np.argsort(-queries @ vectors.T, axis=1)[:, :7]
    np.testing.assert_array_equal(search_all(ExactSearch(vectors), queries, 7), expected)
