"""How a batch becomes a retrieval loss: pair by pair, or user by user."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from towers.catalogue import EntityTable
from towers.fused import fused_by_xla
from towers.retrieval_loss import CatalogueNegatives, RetrievalLoss
from towers.user_choices import Choices, holds, marked
from towers.user_loss import UserLoss

Embed = Callable[[tf.Tensor], tf.Tensor]
"""Rows of the catalogue, int `[n]`, to vectors, float `[n, dim]`."""


class Objective(Protocol):
    """The retrieval loss of a batch."""

    def __call__(
        self,
        query: tf.Tensor,
        inputs: Mapping[str, Any],
        sample: CatalogueNegatives | None,
        embed: Embed,
    ) -> tf.Tensor:
        """Returns the loss, float scalar.

        Args:
            query: float `[batch, dim]`.
            inputs: The batch.
            sample: Items of the catalogue.
            embed: The candidate tower.
        """


class PairObjective:
    """Each query's own candidate against the others of the batch and of the sample.

    The batch holds `candidate`, int `[batch]`, the row of each query's positive.

    Args:
        loss: Softmax loss.
        catalogue: All items, with their training frequencies.
        logq_correction: Whether logits are corrected for how often an item is in a batch.
    """

    def __init__(
        self, loss: RetrievalLoss, catalogue: EntityTable, logq_correction: bool = True
    ) -> None:
        self._log_probability = tf.constant(_log_probability(catalogue, logq_correction))
        self._loss = fused_by_xla(functools.partial(_pair_loss, loss))

    def __call__(
        self,
        query: tf.Tensor,
        inputs: Mapping[str, Any],
        sample: CatalogueNegatives | None,
        embed: Embed,
    ) -> tf.Tensor:
        """Returns the loss, float scalar."""
        rows = inputs["candidate"]
        embeddings = [query, embed(rows)] + ([sample.embedding] if sample else [])
        drawn = [sample.ids, sample.weights] if sample else []
        return self._loss(embeddings, rows, tf.gather(self._log_probability, rows), *drawn)


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


def _pair_loss(
    loss: RetrievalLoss,
    embeddings: list[tf.Tensor],
    rows: tf.Tensor,
    log_probability: tf.Tensor,
    *drawn: tf.Tensor,
) -> tf.Tensor:
    """Hands the loss its arguments, sorted into what is differentiated and what is not."""
    query, candidate, *sampled = embeddings
    sample = CatalogueNegatives(sampled[0], *drawn) if sampled else None
    return loss(query, candidate, rows, log_probability, sample)


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


def _log_probability(catalogue: EntityTable, logq_correction: bool) -> np.ndarray:
    """Log share of each item in the examples; an item that is not in them counts as once."""
    if catalogue.frequency is None:
        raise ValueError("`catalogue` should have the training frequencies of its items.")
    counts = np.maximum(catalogue.frequency, 1) if logq_correction else np.ones(len(catalogue))
    return np.log(counts / counts.sum()).astype(np.float32)
