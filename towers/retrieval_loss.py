"""Softmax loss over the catalogue, estimated from the candidates of a batch and more."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

MASKED = -1e9
"""Logit of a candidate that is no negative; finite, so that gradients stay finite."""

_SAFE = 60.0
"""Difference of logits whose exponentials are both far from the ends of float32."""


class CatalogueNegatives(NamedTuple):
    """Items drawn from the whole catalogue.

    Attributes:
        embedding: float `[num_sampled, dim]`.
        ids: int `[num_sampled]`, which item each is.
        weights: float `[num_sampled]`, how many items of the catalogue each stands for.
    """

    embedding: tf.Tensor
    ids: tf.Tensor
    weights: tf.Tensor


class Candidates(NamedTuple):
    """The items that every query's own item is compared with.

    Attributes:
        embedding: float `[num_candidates, dim]`.
        ids: int `[num_candidates]`, which item each is; one may occur repeatedly.
        log_weights: float `[num_candidates]`, log of how many items of the catalogue each stands
            for, `MASKED` for none. For a candidate that occurs `n` times where `m` times were to
            be expected that is `log n - log m`: the logQ correction.
    """

    embedding: tf.Tensor
    ids: tf.Tensor
    log_weights: tf.Tensor


class RetrievalLoss:
    """Softmax cross-entropy of each query's own item, as if among the whole catalogue.

    For query `i` with the item `y`, scores `s`, temperature `t` and candidates of weights `w`,

        loss = mean over i of ( log Z_i - s_iy / t )
        Z_i = exp(s_iy / t) + sum over candidates j that are not y of w_j * exp(s_ij / t)

    Candidates are drawn, with known probabilities, and weighted by how rarely (`Candidates`), so
    that the sum has the expectation of the sum over the catalogue without `y`. The own item is not
    drawn but always there. It therefore counts once, without a correction, and its other
    occurrences among the candidates, accidental hits, are left out.

    Without any correction popular items, which are in a batch more often, would be pushed away in
    proportion to their popularity. A correction of the own item as if it were drawn
    (`s / t - log q` for it, too, and hits left out) pushes popular items too little instead, at
    the cost of small groups. Source: Yi et al., "Sampling-Bias-Corrected Neural Modeling for Large
    Corpus Item Recommendations", RecSys 2019, section 3, for the correction; Khrylchenko et al.,
    "Correcting the LogQ Correction: Revisiting Sampled Softmax for Large-Scale Retrieval",
    RecSys 2025, for the own item. Not negative; zero in the limit of a positive that outscores all
    negatives.

    Args:
        temperature: Divides the scores; positive.
        remove_accidental_hits: Off, an own item counts as the candidates have it, corrected as if
            it were drawn and with its occurrences in other pairs: the loss of Yi et al.
    """

    def __init__(self, temperature: float, remove_accidental_hits: bool = True) -> None:
        if not temperature > 0:
            raise ValueError(f"`temperature` should be a positive float. Received: {temperature}.")
        self.temperature = temperature
        self.remove_accidental_hits = remove_accidental_hits

    def __call__(self, query: tf.Tensor, candidates: Candidates, own: tf.Tensor) -> tf.Tensor:
        """Returns the mean loss of a batch.

        Args:
            query: float `[batch, dim]`.
            candidates: The own items of all queries among them.
            own: int `[batch]`, which candidate is a query's own item.

        Returns:
            float scalar.
        """
        query = query / self.temperature
        positive = tf.reduce_sum(query * tf.gather(candidates.embedding, own), axis=1)
        if self.remove_accidental_hits:
            total = _sum_of_log_partitions(
                query, candidates, tf.gather(candidates.ids, own), positive
            )
        else:
            nothing = tf.fill(tf.shape(own), tf.constant(-1, candidates.ids.dtype))
            apart = tf.fill(tf.shape(own), tf.constant(MASKED, query.dtype))
            total = _sum_of_log_partitions(query, candidates, nothing, apart)
        return (total - tf.reduce_sum(positive)) / tf.cast(tf.size(own), query.dtype)


def _sum_of_log_partitions(
    query: tf.Tensor, candidates: Candidates, left_out: tf.Tensor, apart: tf.Tensor
) -> tf.Tensor:
    """Sum over queries of `log Z`, with its gradient from the same exponentials.

    Differentiating the steps one by one would pass through a matrix of the size of the logits
    three times more.

    Args:
        query: float `[batch, dim]`, over the temperature.
        candidates: `num_candidates` items.
        left_out: int `[batch]`, the item that does not count for a query.
        apart: float `[batch]`, a logit that counts for a query beside those of the candidates.
    """

    @tf.custom_gradient
    def total(
        query: tf.Tensor, embedding: tf.Tensor, apart: tf.Tensor
    ) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, ...]]]:
        scores = tf.matmul(query, embedding, transpose_b=True)

        def logits() -> tf.Tensor:
            is_left_out = left_out[:, tf.newaxis] == candidates.ids
            return tf.where(is_left_out, MASKED, scores + candidates.log_weights)

        shift = _shift(query, embedding, candidates.log_weights, apart, logits)[:, tf.newaxis]
        terms, term_apart = tf.exp(logits() - shift), tf.exp(apart[:, tf.newaxis] - shift)
        partition = tf.reduce_sum(terms, axis=1, keepdims=True) + term_apart

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, ...]:
            weight = upstream / partition
            return (
                weight * tf.matmul(terms, embedding),
                tf.matmul(terms, weight * query, transpose_a=True),
                (weight * term_apart)[:, 0],
            )

        return tf.reduce_sum(tf.math.log(partition) + shift), gradient

    return total(query, candidates.embedding, apart)


def _shift(
    query: tf.Tensor,
    embedding: tf.Tensor,
    log_weights: tf.Tensor,
    apart: tf.Tensor,
    logits: Callable[[], tf.Tensor],
) -> tf.Tensor:
    """What to subtract from a query's logits so that exponentials neither over- nor underflow.

    The largest logit always does. A bound of it (Cauchy and Schwarz) does as well where it is not
    far above `apart`, as with vectors of length 1, and saves looking at all logits once more.

    Returns:
        float `[batch]`.
    """
    lengths = tf.norm(query, axis=1) * tf.reduce_max(tf.norm(embedding, axis=1))
    bound = tf.maximum(lengths + tf.reduce_max(log_weights), apart)
    return tf.cond(
        tf.reduce_max(bound - apart) < _SAFE,
        lambda: bound,
        lambda: tf.maximum(tf.reduce_max(logits(), axis=1), apart),
    )
