"""The retrieval model: two towers, softmax loss, group-exposure regularizer."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs

from fairness_losses.catalogue_sample import StratifiedSample
from fairness_losses.regularizers.base import Regularizer
from towers.catalogue import EntityTable
from towers.fused import fused_by_xla
from towers.retrieval_loss import CatalogueNegatives, RetrievalLoss
from towers.tower import Tower


class FairRetrievalModel(tfrs.Model):
    """Two towers trained on positive pairs, with the exposure of item groups steered.

    An input is a dict with `query`, the looked-up query features `[batch]` or `[batch, values]`
    by column, and `candidate`, int32 `[batch]`, the row of each positive in the catalogue.

    Args:
        query_tower: Users to vectors.
        candidate_tower: Items to vectors.
        catalogue: All items, with looked-up features and training frequencies.
        loss: Softmax loss.
        sample: Draws items from the catalogue, as further negatives and for the regularizer.
        regularizer: Steers group exposure; none trains for relevance alone.
        weight: Factor of the regularizer.
        regularized_queries: Queries of a batch that the regularizer sees, at most.
        logq_correction: Whether logits are corrected for how often an item is in a batch.
    """

    def __init__(
        self,
        query_tower: Tower,
        candidate_tower: Tower,
        catalogue: EntityTable,
        loss: RetrievalLoss,
        sample: StratifiedSample | None = None,
        regularizer: Regularizer | None = None,
        weight: float = 1.0,
        regularized_queries: int = 256,
        logq_correction: bool = True,
    ) -> None:
        super().__init__()
        if regularizer is not None and sample is None:
            raise ValueError("a `regularizer` needs a `sample` of the catalogue to look at.")
        self.query_tower = query_tower
        self.candidate_tower = candidate_tower
        self._columns = {name: tf.constant(c) for name, c in catalogue.columns.items()}
        self._log_probability = tf.constant(_log_probability(catalogue, logq_correction))
        self._loss = fused_by_xla(functools.partial(_softmax_loss, loss))
        self._sample = sample
        self._membership = tf.constant(catalogue.groups.membership)
        self._regularizer = regularizer
        self._weight = weight
        self._regularized_queries = regularized_queries
        names = ["retrieval_loss"] + (["regularizer"] if regularizer else [])
        self._means = {name: tf.keras.metrics.Mean(name) for name in names}

    def compute_loss(
        self, inputs: Mapping[str, tf.Tensor | Mapping[str, tf.Tensor]], training: bool = False
    ) -> tf.Tensor:
        """Returns the loss of a batch, float scalar."""
        rows = inputs["candidate"]
        query = self.query_tower(inputs["query"])
        candidate = self.embed_candidates(rows)
        negatives = self._draw_negatives()
        embeddings = [query, candidate] + ([negatives.embedding] if negatives else [])
        drawn = [negatives.ids, negatives.weights] if negatives else []
        log_probability = tf.gather(self._log_probability, rows)
        loss = self._loss(embeddings, rows, log_probability, *drawn)
        self._means["retrieval_loss"].update_state(loss)
        if self._regularizer is None or negatives is None:
            return loss
        penalty = self._regularizer(*self._regularized(query, negatives))
        self._means["regularizer"].update_state(penalty)
        return loss + self._weight * penalty

    def embed_candidates(self, rows: tf.Tensor) -> tf.Tensor:
        """Returns the vectors of items, float32 `[n, dim]`, given their rows, int `[n]`."""
        columns = {name: tf.gather(column, rows) for name, column in self._columns.items()}
        return self.candidate_tower(columns)

    def _draw_negatives(self) -> CatalogueNegatives | None:
        if self._sample is None:
            return None
        rows = self._sample.rows(self.optimizer.iterations)
        return CatalogueNegatives(self.embed_candidates(rows), rows, self._sample.weights)

    def _regularized(self, query: tf.Tensor, sample: CatalogueNegatives) -> tuple[tf.Tensor, ...]:
        """Scores, membership and weights as a regularizer takes them."""
        scores = tf.matmul(query[: self._regularized_queries], sample.embedding, transpose_b=True)
        return scores, tf.gather(self._membership, sample.ids), sample.weights


def _softmax_loss(
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


def _log_probability(catalogue: EntityTable, logq_correction: bool) -> np.ndarray:
    """Log share of each item in the examples; an item that is not in them counts as once."""
    if catalogue.frequency is None:
        raise ValueError("`catalogue` should have the training frequencies of its items.")
    counts = np.maximum(catalogue.frequency, 1) if logq_correction else np.ones(len(catalogue))
    return np.log(counts / counts.sum()).astype(np.float32)
