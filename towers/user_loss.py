"""Softmax loss over users: all that a user chose against the rest of the catalogue."""

from __future__ import annotations

import tensorflow as tf

from towers.retrieval_loss import MASKED, CatalogueNegatives
from towers.user_choices import NO_ITEM, Choices


class UserLoss:
    """Multinomial likelihood of what users chose, given what is known of them.

    For user `u` with scores `s`, temperature `t`, given items `G` and wanted items `W`,

        loss_u = - sum over j in W of log( exp(s_uj / t) / sum over l not in G of exp(s_ul / t) )

    summed over users and divided by the number of wanted items. Given items are no candidates, as
    they are left out of the lists that are served. Source: Liang et al., "Variational Autoencoders
    for Collaborative Filtering", WWW 2018, equation 2, whose decoder is the candidate tower here.
    Not negative; zero in the limit of users with one wanted item each that outscores all others.

    Args:
        temperature: Divides the scores; positive.
    """

    def __init__(self, temperature: float) -> None:
        if not temperature > 0:
            raise ValueError(f"`temperature` should be a positive float. Received: {temperature}.")
        self.temperature = temperature

    def of_catalogue(
        self, query: tf.Tensor, catalogue: tf.Tensor, given: tf.Tensor, wanted: tf.Tensor
    ) -> tf.Tensor:
        """Returns the mean loss per wanted item, float scalar, among all items.

        Args:
            query: float `[num_users, dim]`.
            catalogue: float `[num_items, dim]`.
            given: bool `[num_users, num_items]`.
            wanted: float `[num_users, num_items]`, how many choices of the user an item stands
                for; 0 for an item that is not wanted.
        """
        scores = tf.matmul(query, catalogue, transpose_b=True) / self.temperature
        total = tf.reduce_logsumexp(tf.where(given, MASKED, scores), axis=1)
        weight = tf.reduce_sum(wanted, axis=1)
        losses = weight * total - tf.reduce_sum(wanted * scores, axis=1)
        return tf.math.divide_no_nan(tf.reduce_sum(losses), tf.reduce_sum(weight))

    def of_sample(
        self,
        query: tf.Tensor,
        wanted_embedding: tf.Tensor,
        choices: Choices,
        sample: CatalogueNegatives,
        chosen: tf.Tensor,
    ) -> tf.Tensor:
        """Returns an estimate of `of_catalogue` from a sample of the catalogue.

        The sum over all items is put together from what is certain, the wanted items, and what is
        drawn, the sampled ones that are neither wanted nor given, each times the items it stands
        for.

        Args:
            query: float `[num_users, dim]`.
            wanted_embedding: float `[num_users, width, dim]`, vectors of the wanted items.
            choices: What is given and wanted.
            sample: Items of the catalogue.
            chosen: bool `[num_users, num_sampled]`, whether a sampled item is wanted or given.
        """
        is_wanted = choices.wanted != NO_ITEM
        wanted = tf.einsum("ud,uwd->uw", query, wanted_embedding) / self.temperature
        sampled = tf.matmul(query, sample.embedding, transpose_b=True) / self.temperature
        stands_for = choices.weights[:, tf.newaxis]
        parts = [
            tf.where(chosen, MASKED, sampled + tf.math.log(sample.weights)),
            tf.where(is_wanted, wanted, MASKED),
        ]
        total = tf.reduce_logsumexp(tf.concat(parts, axis=1), axis=1, keepdims=True)
        weights = tf.where(is_wanted, stands_for, 0.0)
        losses = tf.reduce_sum(weights * (total - wanted))
        return tf.math.divide_no_nan(losses, tf.reduce_sum(weights))
