"""Kernels and the median heuristic: values by hand, rounding, gradients."""

import numpy as np
import pytest
import tensorflow as tf

from fairness_losses.regularizers.kernels import (
    KERNELS,
    gaussian,
    laplacian,
    median_distance,
    pairwise_squared_distances,
)


def squared(points):
    points = np.array(points, np.float32)
    return tf.constant((points[:, np.newaxis] - points) ** 2)


def all_of(points):
    return tf.ones([len(points)], tf.bool)


def test_kernels_by_hand():
    """Distance 6, bandwidth 3: exp(-36 / 9) = exp(-4) and exp(-6 / 3) = exp(-2)."""
    assert float(gaussian(tf.constant(36.0), 3.0)) == pytest.approx(np.exp(-4))
    assert float(laplacian(tf.constant(36.0), 3.0)) == pytest.approx(np.exp(-2))


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_are_1_with_gradient_0_between_equal_points(kernel):
    point = tf.Variable(0.5)
    with tf.GradientTape() as tape:
        value = KERNELS[kernel](tf.square(point - 0.5), 0.1)
    assert float(value) == 1.0
    assert float(tape.gradient(value, point)) == 0.0


@pytest.mark.parametrize("kernel", KERNELS)
def test_kernels_of_nan_are_nan(kernel):
    assert np.isnan(KERNELS[kernel](tf.constant(np.nan), 1.0))


def test_distances_from_inner_products_are_those_of_the_points():
    points = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    expected = ((points[:, np.newaxis] - points) ** 2).sum(axis=2)
    np.testing.assert_allclose(pairwise_squared_distances(points), expected, atol=1e-5)


def test_equal_points_far_from_the_origin_are_at_distance_0():
    points = tf.constant([[1000.0, 3.1], [1000.0, 3.1], [1001.0, 3.1]])
    distances = pairwise_squared_distances(points).numpy()
    assert distances[0, 1] == 0.0
    assert (np.diag(distances) == 0).all()
    assert distances[0, 2] == pytest.approx(1.0, rel=1e-5)


def test_median_by_hand():
    """0, 1 and 3 are 1, 2 and 3 apart, with 7 also 4, 6 and 7; of an even number the smaller."""
    assert float(median_distance(squared([0, 1, 3]), all_of([0, 1, 3]))) == 2.0
    assert float(median_distance(squared([0, 1, 3, 7]), all_of([0, 1, 3, 7]))) == 3.0


def test_points_that_do_not_count_are_not_looked_at():
    counted = tf.constant([True, True, False, True])
    assert float(median_distance(squared([0, 1, 100, 3]), counted)) == 2.0


def test_equal_points_do_not_make_the_median_0():
    """Six of the ten pairs are equal; the other four are 5 apart."""
    assert float(median_distance(squared([2, 2, 2, 2, 7]), all_of(range(5)))) == 5.0


@pytest.mark.parametrize("points", [[3, 3, 3], [3]])
def test_median_is_1_where_all_points_are_equal(points):
    assert float(median_distance(squared(points), all_of(points))) == 1.0
    assert float(median_distance(squared(points), tf.zeros([len(points)], tf.bool))) == 1.0


def test_of_many_points_the_median_is_estimated_from_all_stretches_of_them():
    """Sorted by group: the first tenth is close together and would alone give 0.1."""
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.normal(0, 0.1, 100), rng.normal(5, 1, 900)]).astype(np.float32)
    exact = np.median(np.abs(points[:, np.newaxis] - points)[np.triu_indices(1000, 1)])
    estimate = float(median_distance(squared(points), all_of(points)))
    assert estimate == pytest.approx(exact, rel=0.15)


def test_no_gradient_flows_through_the_median():
    distances = tf.Variable(squared([0, 1, 3]))
    with tf.GradientTape() as tape:
        median = median_distance(distances, all_of(range(3)))
    assert tape.gradient(median, distances) is None
