"""A stochastic ranking policy whose expected exposure has a gradient.

The differentiable form of `fairness_losses.expected_exposure`, with the attention of rank-biased
precision, `v(rank) = patience^(rank - 1)`. Drawing a list is adding noise to the scores, and a
rank counts the candidates above, each to the degree to which it is above.
Source: Diaz, Mitra, Ekstrand, Biega and Carterette, "Evaluating Stochastic Rankings with Expected
Exposure", CIKM 2020, section 6; soft ranks: Qin, Liu and Li, "A general approximation framework for
direct optimization of information retrieval measures", Information Retrieval 2010.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from fairness_losses.soft_exposure import scores_and_items


class SoftRankingPolicy(tf.Module):
    """Plackett-Luce on each query's best candidates, with soft ranks.

    The items that a candidate stands for share its noise: they are drawn as a block, and have equal
    shares of the attention on the ranks of the block.

    Every call draws other lists. The state of the generator is part of a checkpoint that holds
    the policy, so that resumed training draws what uninterrupted training would have drawn.

    Args:
        patience: Probability that a user who looked at a rank looks at the next one, in (0, 1).
        temperature: Softness of the ranks, in units of the scores.
        policy_temperature: Scale of the noise, in units of the scores: the policy draws candidates
            with a probability proportional to `exp(score / policy_temperature)`. 0: no noise, the
            list is in the order of the scores.
        num_samples: Lists drawn per query; without noise one is enough, and is all there is.
        depth: Candidates of each query, its best ones, that the policy ranks; the others get
            neither exposure nor a gradient. Time and memory grow with `num_queries * num_samples *
            depth^2`.
        seed: Of the noise.
    """

    def __init__(
        self,
        patience: float = 0.8,
        temperature: float = 0.03,
        policy_temperature: float = 0.03,
        num_samples: int = 8,
        depth: int = 100,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < patience < 1:
            raise ValueError(f"`patience` should be between 0 and 1. Received: {patience}.")
        if not 0 < temperature < np.inf:
            raise ValueError(f"`temperature` should be a positive float. Received: {temperature}.")
        if not 0 <= policy_temperature < np.inf:
            raise ValueError(
                f"`policy_temperature` should be 0 or positive. Received: {policy_temperature}."
            )
        for name, number in (("num_samples", num_samples), ("depth", depth)):
            if number < 1:
                raise ValueError(f"`{name}` should be at least 1. Received: {number}.")
        self.patience = patience
        self.temperature = temperature
        self.policy_temperature = policy_temperature
        self.num_samples = num_samples
        self.depth = depth
        self.seed = seed
        self._generator = tf.random.Generator.from_seed(seed, alg="philox")

    def exposure(
        self,
        scores: tf.Tensor,
        weights: tf.Tensor | None = None,
        listed: tf.Tensor | None = None,
    ) -> tf.Tensor:
        """Returns the expected exposure of every candidate, for each of the items it stands for.

        Args:
            scores: float `[num_queries, num_candidates]`, finite. A NaN makes its whole row NaN.
            weights: float `[num_candidates]`, items each candidate stands for; by default 1.
            listed: bool `[num_queries, num_candidates]`, whether a candidate can be on the list
                at all; by default every one can.

        Returns:
            float `[num_queries, num_candidates]`, in [0, 1].
        """
        known, items = scores_and_items(scores, weights, listed)
        num_candidates = tf.shape(scores)[1]
        unlisted_last = tf.where(items > 0, known, scores.dtype.min)
        columns = tf.math.top_k(unlisted_last, tf.minimum(self.depth, num_candidates)).indices
        best, items = (tf.gather(values, columns, batch_dims=1) for values in (known, items))
        exposure = soft_ranked_exposure(
            self._perturbed(best), items, self.patience, self.temperature
        )
        exposure = _scatter(tf.reduce_mean(exposure, axis=0), columns, num_candidates)
        is_nan = tf.reduce_any(tf.math.is_nan(scores), axis=1, keepdims=True)
        return tf.where(is_nan, tf.constant(np.nan, scores.dtype), exposure)

    def _perturbed(self, scores: tf.Tensor) -> tf.Tensor:
        """Scores of the drawn lists, `[num_samples, num_queries, depth]`."""
        if self.policy_temperature == 0:
            return scores[tf.newaxis]
        shape = tf.concat([[self.num_samples], tf.shape(scores)], axis=0)
        tiny = np.finfo(scores.dtype.as_numpy_dtype).tiny
        uniform = self._generator.uniform(shape, tiny, 1.0, scores.dtype)
        return scores - self.policy_temperature * tf.math.log(-tf.math.log(uniform))

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments that make an equal policy."""
        return {
            "patience": self.patience,
            "temperature": self.temperature,
            "policy_temperature": self.policy_temperature,
            "num_samples": self.num_samples,
            "depth": self.depth,
            "seed": self.seed,
        }


def soft_ranked_exposure(
    scores: tf.Tensor, items: tf.Tensor, patience: float, temperature: float
) -> tf.Tensor:
    """Exposure of candidates by their soft ranks, for each of the items they stand for.

    With the number of items above candidate i, `b_i = sum over j of w_j * sigmoid((s_j - s_i) /
    temperature)`, its `w_i` items share the ranks from `b_i + 1` to `b_i + w_i`,

        E_i = (patience^b_i - patience^(b_i + w_i)) / (w_i * (1 - patience)),

    which is `patience^(rank - 1)` where each candidate is one item. As the temperature tends to 0,
    it tends to the exposure of the exact list; candidates with the same score are half above each
    other, whatever the temperature.

    Args:
        scores: float `[..., depth]`, finite.
        items: float `[..., depth]`, items each candidate stands for; 0 if it is not listed.
        patience: Of the user, in (0, 1).
        temperature: Softness, in units of the scores.

    Returns:
        float `[..., depth]`, in [0, 1]; 0 for a candidate that is not listed.
    """
    lead = (scores[..., tf.newaxis, :] - scores[..., :, tf.newaxis]) / temperature
    # A candidate is half above itself, which is not to count.
    above = tf.linalg.matvec(tf.sigmoid(lead), items) - items / 2
    return tf.math.divide_no_nan(_attention(above, items, patience), items)


def merit_exposure(
    relevance: tf.Tensor,
    patience: float,
    weights: tf.Tensor | None = None,
    listed: tf.Tensor | None = None,
) -> tf.Tensor:
    """Target exposure by merit: candidates of one grade share the ranks below the better ones.

    A grade of `m` items with `b` better ones has `(patience^b - patience^(b + m)) / (m *
    (1 - patience))` for each; `metrics.expected_exposure.target_exposure` for tensors.

    Args:
        relevance: float `[num_queries, num_candidates]`, grades.
        patience: Of the user, in (0, 1).
        weights: float `[num_candidates]`, items each candidate stands for; by default 1.
        listed: bool `[num_queries, num_candidates]`, whether a candidate can be on the list at
            all; by default every one can.

    Returns:
        float `[num_queries, num_candidates]`, in [0, 1]; 0 for what is not listed. No gradient.
    """
    grades, items = scores_and_items(relevance, weights, listed)
    num_queries, num_candidates = tf.unstack(tf.shape(grades))
    order = tf.argsort(grades, axis=1, direction="DESCENDING")
    grades, items = (tf.gather(values, order, batch_dims=1) for values in (grades, items))
    is_next = tf.cast(grades[:, 1:] != grades[:, :-1], tf.int32)
    grade = tf.cumsum(tf.pad(is_next, [[0, 0], [1, 0]]), axis=1)
    # Sums over a grade: every query has its own stretch of segments.
    segment = grade + num_candidates * tf.range(num_queries)[:, tf.newaxis]
    attention = _attention(tf.cumsum(items, axis=1, exclusive=True), items, patience)
    per_grade = tf.math.divide_no_nan(
        *(
            tf.math.unsorted_segment_sum(values, segment, num_queries * num_candidates)
            for values in (attention, items)
        )
    )
    target = tf.where(items > 0, tf.gather(per_grade, segment), 0.0)
    return tf.stop_gradient(_scatter(target, order, num_candidates))


def _attention(above: tf.Tensor, items: tf.Tensor, patience: float) -> tf.Tensor:
    """Attention to a number of items in a row, below `above` others, all of them together."""
    log_patience = np.log(patience)
    return tf.exp(above * log_patience) * -tf.math.expm1(items * log_patience) / (1 - patience)


def _scatter(values: tf.Tensor, columns: tf.Tensor, num_columns: tf.Tensor) -> tf.Tensor:
    """Puts `values[q, k]` into column `columns[q, k]` of row q of zeros."""
    num_rows = tf.shape(values)[0]
    cells = columns + num_columns * tf.range(num_rows)[:, tf.newaxis]
    flat = tf.math.unsorted_segment_sum(values, cells, num_rows * num_columns)
    return tf.reshape(flat, [num_rows, num_columns])
