"""MinDiff: scores, or embeddings, should be distributed alike in every group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import tensorflow as tf

from fairness_losses.regularizers.base import Regularizer, ScoredCandidates
from fairness_losses.regularizers.excluded import without_groups
from fairness_losses.regularizers.kernels import (
    KERNELS,
    median_distance,
    pairwise_squared_distances,
)


class MinDiff(Regularizer):
    """Squared maximum mean discrepancy between the groups, mean over all pairs of them.

    For groups a and b with points x (a query's scores, or the candidates' embeddings) and a kernel
    k, it is the biased V-statistic (Gretton et al., "A Kernel Two-Sample Test", JMLR 2012,
    equation 5)

        MMD^2(a, b) = E k(x_a, x_a') - 2 E k(x_a, x_b) + E k(x_b, x_b'),

    as a penalty: Prost et al., "Toward a Better Trade-off Between Performance and Fairness with
    Kernel-based Distribution Matching", 2019; Beutel et al., "Putting Fairness Principles into
    Practice", AIES 2019. Every expectation is weighted by the candidates' `weights` and
    membership, so that it estimates the catalogue's. In [0, 2]; zero if and only if all groups
    have the same distribution among the candidates: random samples of m candidates each still
    differ by up to 2 / m on average. The mean over pairs of G groups is `2 G / (G - 1)` times the
    distributional variance of Muandet et al., "Domain Generalization via Invariant Feature
    Representation", ICML 2013.

    On `scores` it is computed query by query and averaged over the queries that have candidates of
    at least two groups: the kernel matrix over all pairs of query and candidate would not fit into
    memory, and pooled scores would call groups alike that every single user finds ranked apart.
    Groups without a candidate are left out; with fewer than two it is 0. With `positives_only`
    groups should be alike among what the users chose: equal opportunity in place of demographic
    parity.

    The kernel's bandwidth decides what it sees: far from the distances between points its
    gradient vanishes. By default it is their median, so the penalty does not depend on the scale
    of the scores.

    It asks for equal scores all the way down, where exposure is about the top. Use it where scores
    themselves are shown or compared with a threshold, or to align a small group's embeddings.

    It evaluates the kernel `num_queries * num_candidates^2` times (embeddings:
    `num_candidates^2`), with memory for at most ten queries at a time. Some dozen queries and some
    hundred candidates are enough: on two CPU cores, 32 by 256 take 30 ms with their gradient, 256
    by 1024 more than a second. On scores, the gradient is taken in the same pass and has no
    gradient of its own.

    Example:
        >>> min_diff = MinDiff(bandwidth=1.0)
        >>> scores = tf.constant([[0.9, 0.1, 0.9, 0.1]])
        >>> float(min_diff(scores, membership=tf.gather(tf.eye(2), [0, 0, 1, 1])))
        0.0

    Args:
        on: What should be distributed alike, `scores` or `embeddings`.
        kernel: `gaussian`, `exp(-d^2 / bandwidth^2)`, or `laplacian`, `exp(-d / bandwidth)`.
        bandwidth: In units of the points; by default the median of the distances between them
            (`kernels.median_distance`), of each query anew.
        positives_only: Whether only candidates with `relevance` above 0 for the query count.
        excluded: Numbers of the groups that are left out, `unknown` for example.
        labels: Names of the groups, for logs; by default their numbers.
    """

    registered_name = "min_diff"
    uses = frozenset({"listed", "relevance", "embeddings"})

    def __init__(
        self,
        on: Literal["scores", "embeddings"] = "scores",
        kernel: Literal["gaussian", "laplacian"] = "gaussian",
        bandwidth: float | None = None,
        positives_only: bool = False,
        excluded: Sequence[int] = (),
        labels: Sequence[str] | None = None,
    ) -> None:
        super().__init__(labels)
        if on not in ("scores", "embeddings"):
            raise ValueError(f"`on` should be `scores` or `embeddings`. Received: {on}.")
        if kernel not in KERNELS:
            raise ValueError(f"`kernel` should be one of {', '.join(KERNELS)}. Received: {kernel}.")
        if bandwidth is not None and not bandwidth > 0:
            raise ValueError(f"`bandwidth` should be a positive float. Received: {bandwidth}.")
        if positives_only and on == "embeddings":
            raise ValueError(
                "`positives_only` should be False for embeddings: whether a candidate is positive "
                "depends on the query. Received: True."
            )
        self.on = on
        self.kernel = kernel
        self.bandwidth = bandwidth
        self.positives_only = positives_only
        self.excluded = tuple(sorted(set(excluded)))

    @property
    def judges_relevance(self) -> bool:
        """Whether only relevant items are compared."""
        return self.positives_only

    def check(self, candidates: ScoredCandidates) -> None:
        """Raises ValueError where inputs do not fit, or what is to be compared is missing."""
        super().check(candidates)
        if self.on == "embeddings" and candidates.embeddings is None:
            raise ValueError("`min_diff` on embeddings needs `embeddings`. Received: None.")
        if self.positives_only and candidates.relevance is None:
            raise ValueError("`min_diff` on positives needs `relevance`. Received: None.")

    def penalty(self, candidates: ScoredCandidates) -> tf.Tensor:
        """Returns the penalty, float scalar in [0, 2]."""
        scores = candidates.scores
        mass = without_groups(candidates.membership, self.excluded)
        mass *= candidates.weights[:, tf.newaxis]
        if self.on == "embeddings":
            return self._discrepancy(pairwise_squared_distances(candidates.embeddings), mass)[0]
        counted = tf.ones_like(scores, tf.bool)
        if candidates.listed is not None:
            counted &= candidates.listed
        if self.positives_only:
            counted &= tf.greater(candidates.relevance, 0)
        # XLA cannot loop over an empty batch, so a query without anything listed is added.
        one_more = [[0, 1], [0, 0]]
        discrepancy, is_compared = self._per_query(
            tf.pad(scores, one_more), tf.pad(tf.cast(counted, scores.dtype), one_more), mass
        )
        return tf.math.divide_no_nan(tf.reduce_sum(discrepancy), tf.reduce_sum(is_compared))

    def _per_query(
        self, scores: tf.Tensor, counted: tf.Tensor, mass: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Discrepancy of each query, and 1 where it has two groups, else 0; `[num_queries]`."""

        def of_query(query: tuple[tf.Tensor, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            row, counts = query
            with tf.GradientTape() as tape:
                tape.watch(row)
                squared = tf.square(row[:, tf.newaxis] - row)
                value, is_compared = self._discrepancy(squared, counts[:, tf.newaxis] * mass)
            return value, is_compared, tape.gradient(value, row)

        # A loop that is differentiated from outside would keep every query's kernel matrix.
        @tf.custom_gradient
        def mapped(scores: tf.Tensor) -> tuple[tuple[tf.Tensor, tf.Tensor], Any]:
            number = tf.TensorSpec([], scores.dtype)
            row = tf.TensorSpec(scores.shape[1:], scores.dtype)
            value, is_compared, gradient = tf.map_fn(
                of_query, (scores, counted), fn_output_signature=(number, number, row)
            )
            return (value, is_compared), lambda upstream, _: upstream[:, tf.newaxis] * gradient

        discrepancy, is_compared = mapped(scores)
        return discrepancy, is_compared

    def _discrepancy(
        self, squared_distances: tf.Tensor, mass: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Mean over the pairs of groups with mass, and 1 if there is such a pair, else 0.

        The sum over pairs of P groups is P times the sum over groups of their discrepancy from the
        mean distribution, which needs no pairs and rounds less.
        """
        bandwidth = self.bandwidth
        if bandwidth is None:
            bandwidth = median_distance(squared_distances, tf.reduce_any(mass > 0, axis=1))
        total = tf.reduce_sum(mass, axis=0)
        present = tf.cast(total > 0, mass.dtype)
        num_present = tf.reduce_sum(present)
        share = tf.math.divide_no_nan(mass, total)
        mean = tf.math.divide_no_nan(tf.reduce_sum(share, axis=1, keepdims=True), num_present)
        from_mean = (share - mean) * present
        similarity = KERNELS[self.kernel](squared_distances, bandwidth)
        discrepancy = tf.reduce_sum(from_mean * tf.matmul(similarity, from_mean))
        is_compared = tf.cast(num_present > 1, mass.dtype)
        # The kernel is positive definite, but rounding is not.
        discrepancy = is_compared * tf.nn.relu(discrepancy)
        return discrepancy * 2 / tf.maximum(num_present - 1, 1), is_compared

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal regularizer."""
        return {
            **super().get_config(),
            "on": self.on,
            "kernel": self.kernel,
            "bandwidth": self.bandwidth,
            "positives_only": self.positives_only,
            "excluded": list(self.excluded),
        }
