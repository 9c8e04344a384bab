"""How a batch becomes a retrieval loss: pair by pair, or user by user."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from fairness_losses.candidate_memory import CandidateMemory
from fairness_losses.catalogue_sample import StratifiedSample
from towers.catalogue import EntityTable
from towers.fused import fused_by_xla
from towers.retrieval_loss import MASKED, Candidates, CatalogueNegatives, RetrievalLoss
from towers.user_choices import Choices, holds, marked
from towers.user_loss import UserLoss

Embed = Callable[[tf.Tensor], tf.Tensor]
"""Rows of the catalogue, int `[n]`, to vectors, float `[n, dim]`."""

_DISTINCT_STEP = 256
"""The distinct items of a batch are padded to a multiple of so many."""


class Objective(Protocol):
    """The retrieval loss of a batch."""

    def __call__(
        self,
        query: tf.Tensor,
        inputs: Mapping[str, Any],
        sample: CatalogueNegatives | None,
        embed: Embed,
        training: bool = True,
    ) -> tf.Tensor:
        """Returns the loss, float scalar.

        Args:
            query: float `[batch, dim]`.
            inputs: The batch.
            sample: Items of the catalogue.
            embed: The candidate tower.
            training: Whether the batch may leave traces, such as in a memory.
        """


class PairObjective(tf.Module):
    """Each query's own candidate against the others of the batch, of the sample and the memory.

    The batch holds `candidate`, int `[batch]`, the row of each query's positive.

    An item that was to be expected `m` times among all candidates has the weight `1 / m` wherever
    it comes from, so that an item that is rare in batches counts for no more than in the sample.
    With a batch of `B` pairs, `n` candidates in the memory, the share `q` of the item in the
    examples and `r` draws of it expected in the sample, `m = (B - 1 + n) q + r`: the own pair is
    no draw. Source: Yang et al., "Mixed Negative Sampling for Learning Two-tower Neural Networks
    in Recommendations", WWW 2020, section 3; as the way to combine samples that has nearly the
    least variance: Veach and Guibas, "Optimally Combining Sampling Techniques for Monte Carlo
    Rendering", SIGGRAPH 1995, section 3.3. Of a sample that is the whole catalogue nothing has to
    be estimated, and it alone is used.

    Args:
        loss: Softmax loss.
        catalogue: All items, with their training frequencies.
        logq_correction: Whether it is taken into account how often an item is in a batch; else
            all are taken to be equally likely.
        sample: What draws the sample that every call is handed; none without one.
        memory: Past candidates, as further negatives; every training batch pushes its own.
    """

    def __init__(
        self,
        loss: RetrievalLoss,
        catalogue: EntityTable,
        logq_correction: bool = True,
        sample: StratifiedSample | None = None,
        memory: CandidateMemory | None = None,
    ) -> None:
        super().__init__(name="pair_objective")
        draws = sample.expected_draws if sample else np.zeros(len(catalogue), np.float32)
        self._probability = tf.constant(draw_probability(catalogue, logq_correction))
        self._sampled_draws = tf.constant(draws)
        self._sample = sample
        self._memory = memory
        self._loss = fused_by_xla(functools.partial(_pair_loss, loss))

    def __call__(
        self,
        query: tf.Tensor,
        inputs: Mapping[str, Any],
        sample: CatalogueNegatives | None,
        embed: Embed,
        training: bool = True,
    ) -> tf.Tensor:
        """Returns the loss, float scalar."""
        if (sample is None) != (self._sample is None):
            raise ValueError("a `sample` should be given to the objective and to the model alike.")
        rows = inputs["candidate"]
        if sample is not None and self._sample is not None and self._sample.is_whole:
            weights = tf.zeros_like(sample.weights)
            return self._loss([query, sample.embedding], rows, sample.ids, weights)
        items, own, counts = _distinct(rows)
        vectors = embed(items)
        embeddings, ids, drawn = [query, vectors], [items], [counts]
        pairs = tf.maximum(tf.size(rows) - 1, 1)
        if sample is not None:
            embeddings.append(sample.embedding)
            ids.append(sample.ids)
            drawn.append(tf.ones_like(sample.ids))
        if self._memory is not None:
            held = self._memory.candidates()
            embeddings.append(held.embedding)
            ids.append(held.rows)
            drawn.append(tf.cast(held.rows >= 0, tf.int32))
            pairs += self._memory.filled
            if training:
                self._memory.push(tf.gather(vectors, own), rows)
        all_ids = tf.concat(ids, axis=0)
        log_weights = self._log_weights(all_ids, tf.concat(drawn, axis=0), pairs)
        return self._loss(embeddings, own, all_ids, log_weights)

    def _log_weights(self, ids: tf.Tensor, drawn: tf.Tensor, pairs: tf.Tensor) -> tf.Tensor:
        """How many items of the catalogue candidates stand for, log.

        Args:
            ids: int `[num_candidates]`, -1 for none.
            drawn: int `[num_candidates]`, how often each was drawn, 0 for padding.
            pairs: int scalar, draws of the log.
        """
        items = tf.maximum(ids, 0)
        expected = tf.cast(pairs, tf.float32) * tf.gather(self._probability, items)
        expected += tf.gather(self._sampled_draws, items)
        drawn = tf.cast(drawn, tf.float32)
        return tf.where(drawn > 0, tf.math.log(drawn / expected), MASKED)


class UserObjective:
    """What each user wanted against the catalogue, less what the user was seen to choose.

    The batch holds `given`, `wanted` and `weights`, as `towers.user_choices.Choices` has them.

    Args:
        loss: Multinomial loss.
        num_items: Size of the catalogue, if the sample is all of it, in order; else none.
    """

    def __init__(self, loss: UserLoss, num_items: int | None) -> None:
        self._num_items = num_items
        self._of_catalogue = fused_by_xla(functools.partial(_catalogue_loss, loss))
        self._of_sample = fused_by_xla(functools.partial(_sample_loss, loss))

    def __call__(
        self,
        query: tf.Tensor,
        inputs: Mapping[str, Any],
        sample: CatalogueNegatives | None,
        embed: Embed,
        training: bool = True,
    ) -> tf.Tensor:
        """Returns the loss, float scalar."""
        if sample is None:
            raise ValueError("batches of users need a `sample` of the catalogue.")
        given, wanted, weights = inputs["given"], inputs["wanted"], inputs["weights"]
        if self._num_items is not None:
            wanted = marked(wanted, self._num_items) * weights[:, tf.newaxis]
            given = marked(given, self._num_items) > 0
            return self._of_catalogue([query, sample.embedding], given, wanted)
        embedded = embed(tf.reshape(tf.maximum(wanted, 0), [-1]))
        shape = tf.concat([tf.shape(wanted), tf.shape(query)[1:]], axis=0)
        embeddings = [query, tf.reshape(embedded, shape), sample.embedding]
        chosen = holds(given, sample.ids) | holds(wanted, sample.ids)
        drawn = (chosen, sample.ids, sample.weights)
        return self._of_sample(embeddings, given, wanted, weights, *drawn)


def _distinct(rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The items of a batch, each once: what the towers and the loss have to look at.

    Returns:
        Rows of the items, int `[num_items]`, padded with repetitions so that XLA has to compile
        few shapes only; the position there of every row's item, int `[batch]`; and how often each
        occurs, int `[num_items]`, 0 for padding.
    """
    items, own, counts = tf.unique_with_counts(rows)
    padding = [[0, -tf.size(items) % _DISTINCT_STEP]]
    return tf.pad(items, padding, constant_values=rows[0]), own, tf.pad(counts, padding)


def _pair_loss(
    loss: RetrievalLoss,
    embeddings: list[tf.Tensor],
    own: tf.Tensor,
    ids: tf.Tensor,
    log_weights: tf.Tensor,
) -> tf.Tensor:
    """Hands the loss its arguments, sorted into what is differentiated and what is not."""
    query, *candidates = embeddings
    return loss(query, Candidates(tf.concat(candidates, axis=0), ids, log_weights), own)


def _catalogue_loss(
    loss: UserLoss, embeddings: list[tf.Tensor], given: tf.Tensor, wanted: tf.Tensor
) -> tf.Tensor:
    query, catalogue = embeddings
    return loss.of_catalogue(query, catalogue, given, wanted)


def _sample_loss(
    loss: UserLoss,
    embeddings: list[tf.Tensor],
    given: tf.Tensor,
    wanted: tf.Tensor,
    weights: tf.Tensor,
    chosen: tf.Tensor,
    *drawn: tf.Tensor,
) -> tf.Tensor:
    query, wanted_embedding, sampled = embeddings
    choices = Choices(given, wanted, weights)
    sample = CatalogueNegatives(sampled, *drawn)
    return loss.of_sample(query, wanted_embedding, choices, sample, chosen)


def draw_probability(catalogue: EntityTable, logq_correction: bool) -> np.ndarray:
    """With which probability a candidate of a batch is each item, float32 `[num_items]`.

    Args:
        catalogue: All items, with their training frequencies.
        logq_correction: Whether that is their share of the examples, where an item that is not in
            them counts as once; else all are taken to be equally likely.
    """
    if catalogue.frequency is None:
        raise ValueError("`catalogue` should have the training frequencies of its items.")
    counts = np.maximum(catalogue.frequency, 1) if logq_correction else np.ones(len(catalogue))
    return (counts / counts.sum()).astype(np.float32)
