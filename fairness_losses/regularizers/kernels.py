"""Kernels on distances between points, and the bandwidth that suits the points."""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf

_MEDIAN_POINTS = 64
"""Points whose distances the median is taken of: their 2016 pairs are plenty for a bandwidth."""

_GOLDEN_RATIO = (5**0.5 - 1) / 2

_ROUNDING = 1e-6
"""Squared distances below this fraction of the points' squared norms are rounding in float32."""


def gaussian(squared_distances: tf.Tensor, bandwidth: tf.Tensor | float) -> tf.Tensor:
    """Gaussian kernel `exp(-d^2 / bandwidth^2)`, in (0, 1].

    Where others write `2 * sigma^2` in the denominator, `bandwidth = sqrt(2) * sigma`.
    """
    return tf.exp(-squared_distances / bandwidth**2)


def laplacian(squared_distances: tf.Tensor, bandwidth: tf.Tensor | float) -> tf.Tensor:
    """Laplacian kernel `exp(-d / bandwidth)` of the Euclidean distance d, in (0, 1].

    It has a kink where points are equal; its gradient there is 0.
    """
    equal = tf.equal(squared_distances, 0)
    distances = tf.sqrt(tf.where(equal, 1.0, squared_distances))
    return tf.exp(-tf.where(equal, 0.0, distances) / bandwidth)


KERNELS: dict[str, Callable[[tf.Tensor, tf.Tensor | float], tf.Tensor]] = {
    "gaussian": gaussian,
    "laplacian": laplacian,
}


def pairwise_squared_distances(points: tf.Tensor) -> tf.Tensor:
    """Squared Euclidean distances between points, from their inner products.

    Args:
        points: float `[num_points, dim]`.

    Returns:
        float `[num_points, num_points]`, not negative, exactly 0 between equal points.
    """
    # Distances do not depend on the centre, but the rounding of inner products does.
    centred = points - tf.stop_gradient(tf.reduce_mean(points, axis=0))
    norms = tf.reduce_sum(tf.square(centred), axis=1)
    sums = norms[:, tf.newaxis] + norms
    squared = sums - 2 * tf.matmul(centred, centred, transpose_b=True)
    return tf.where(squared <= _ROUNDING * sums, 0.0, squared)


def median_distance(squared_distances: tf.Tensor, counted: tf.Tensor) -> tf.Tensor:
    """Median heuristic: the median of the distances between points that are not equal.

    A kernel of that bandwidth sees differences at the scale of the data, whatever their unit and
    dimension: Gretton et al., "A Kernel Two-Sample Test", JMLR 2012, section 8. Of more than 64
    counted points, 64 are looked at, spread evenly over their order. Of an even number of
    distances it is the smaller middle one. No gradient flows through it.

    Args:
        squared_distances: float `[num_points, num_points]`.
        counted: bool `[num_points]`, the points to look at.

    Returns:
        float scalar, positive; 1 where all points are equal.
    """
    size = tf.shape(squared_distances)[0]
    dtype = squared_distances.dtype
    # Multiples of the golden ratio modulo 1 pick evenly from any stretch of the points: they come
    # sorted by group where they are a stratified sample.
    spread = tf.math.floormod(_GOLDEN_RATIO * tf.range(1, size + 1, dtype=tf.float64), 1.0)
    _, picked = tf.math.top_k(
        tf.where(counted, tf.cast(spread, tf.float32), -1.0), tf.minimum(_MEDIAN_POINTS, size)
    )
    squared = tf.gather(tf.gather(tf.stop_gradient(squared_distances), picked), picked, axis=1)
    is_counted = tf.gather(counted, picked)
    usable = is_counted[:, tf.newaxis] & is_counted & (squared > 0)
    ascending = tf.sort(tf.reshape(tf.where(usable, squared, dtype.max), [-1]))
    middle = (tf.math.count_nonzero(usable, dtype=tf.int32) - 1) // 2
    median = tf.sqrt(tf.gather(ascending, tf.maximum(middle, 0)))
    return tf.where(middle < 0, tf.ones_like(median), median)
