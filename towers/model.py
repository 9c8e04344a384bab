"""The retrieval model: two towers, softmax loss, group-exposure regularizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import tensorflow as tf
import tensorflow_recommenders as tfrs

from fairness_losses.catalogue_sample import StratifiedSample
from fairness_losses.regularizers.base import Regularizer
from towers.catalogue import EntityTable
from towers.objectives import Objective
from towers.retrieval_loss import CatalogueNegatives
from towers.tower import Tower
from towers.user_choices import holds, marked

Batch: TypeAlias = Mapping[str, Any]
"""`query`, the looked-up query features by column, and what the objective looks at. For a
regularizer also `given`, `wanted` (see `towers.user_choices`) and `slices`, float
`[batch, num_slices]`."""


class FairRetrievalModel(tfrs.Model):
    """Two towers trained on what users chose, with the exposure of item groups steered.

    Args:
        query_tower: Users to vectors.
        candidate_tower: Items to vectors.
        catalogue: All items, with looked-up features.
        objective: The retrieval loss of a batch.
        sample: Draws items from the catalogue, as negatives and for the regularizer.
        regularizer: Steers group exposure; none trains for relevance alone.
        weight: Factor of the regularizer.
        regularized_queries: Queries of a batch that the regularizer sees, at most.
        learned_temperature: Whether the temperature of the objective is multiplied by a variable.
    """

    def __init__(
        self,
        query_tower: Tower,
        candidate_tower: Tower,
        catalogue: EntityTable,
        objective: Objective,
        sample: StratifiedSample | None = None,
        regularizer: Regularizer | None = None,
        weight: float = 1.0,
        regularized_queries: int = 256,
        learned_temperature: bool = False,
    ) -> None:
        super().__init__()
        if regularizer is not None and sample is None:
            raise ValueError("a `regularizer` needs a `sample` of the catalogue to look at.")
        self.query_tower = query_tower
        self.candidate_tower = candidate_tower
        self._columns = {name: tf.constant(c) for name, c in catalogue.columns.items()}
        self._objective = objective
        self._sample = sample
        self._membership = tf.constant(catalogue.groups.membership)
        self._frequency = tf.constant(catalogue.frequency, tf.float32)
        self.regularizer = regularizer
        self._weight = weight
        self._regularized_queries = regularized_queries
        self._log_sharpness = (
            tf.Variable(0.0, name="log_sharpness") if learned_temperature else None
        )
        names = ["retrieval_loss"] + (["regularizer"] if regularizer else [])
        self._means = {name: tf.keras.metrics.Mean(name) for name in names}

    def compute_loss(self, inputs: Batch, training: bool = False) -> tf.Tensor:
        """Returns the loss of a batch, float scalar."""
        query = self.query_tower(inputs["query"], training=training)
        sample = self._draw_sample(training)
        loss = self._objective(
            self._sharpened(query),
            inputs,
            sample,
            lambda rows: self.embed_candidates(rows, training),
            training,
        )
        self._means["retrieval_loss"].update_state(loss)
        if self.regularizer is None or sample is None:
            return loss
        penalty = self._penalty(self.regularizer, query, inputs, sample)
        self._means["regularizer"].update_state(penalty)
        return loss + self._weight * penalty

    def embed_candidates(self, rows: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the vectors of items, float32 `[n, dim]`, given their rows, int `[n]`."""
        columns = {name: tf.gather(column, rows) for name, column in self._columns.items()}
        return self.candidate_tower(columns, training=training)

    def _sharpened(self, query: tf.Tensor) -> tf.Tensor:
        """Scales queries so that scores over the given temperature are over the learned one."""
        if self._log_sharpness is None:
            return query
        return query * tf.exp(self._log_sharpness)

    def _draw_sample(self, training: bool) -> CatalogueNegatives | None:
        if self._sample is None:
            return None
        rows = self._sample.rows(self.optimizer.iterations)
        embedding = self.embed_candidates(rows, training)
        return CatalogueNegatives(embedding, rows, self._sample.weights)

    def _penalty(
        self,
        regularizer: Regularizer,
        query: tf.Tensor,
        inputs: Batch,
        sample: CatalogueNegatives,
    ) -> tf.Tensor:
        """The regularizer, of some queries of the batch and the sample of the catalogue."""
        some = slice(0, self._regularized_queries)
        scores = tf.matmul(query[some], sample.embedding, transpose_b=True)
        given, wanted = inputs["given"][some], inputs["wanted"][some]
        relevance = None
        # A served list leaves out whatever was chosen before. Where the penalty judges how well a
        # user's items are found, they have to be among the candidates.
        left_out = tf.concat([given, wanted], axis=1)
        if regularizer.judges_relevance:
            left_out = given
            relevance = tf.cast(self._among_sampled(wanted, sample), scores.dtype)
        return regularizer(
            scores,
            tf.gather(self._membership, sample.ids),
            sample.weights,
            listed=~self._among_sampled(left_out, sample),
            slices=inputs["slices"][some],
            relevance=relevance,
            embeddings=sample.embedding,
            frequency=tf.gather(self._frequency, sample.ids),
        )

    def _among_sampled(self, rows: tf.Tensor, sample: CatalogueNegatives) -> tf.Tensor:
        """Whether users' items are among the sampled ones, bool `[num_users, num_sampled]`."""
        if self._sample is not None and self._sample.is_whole:
            return marked(rows, self._sample.size) > 0
        return holds(rows, sample.ids)
