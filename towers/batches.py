"""The batches of an epoch: pairs of a query and its positive, or users with all they chose."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from towers.examples import Examples
from towers.user_choices import NO_ITEM, UserChoices

Batch = dict[str, tf.Tensor | dict[str, tf.Tensor]]


class PairBatches:
    """Batches of examples; a history leaves out the positive that is to be found.

    Args:
        examples: Positive pairs.
        users: int `[num_examples]`, the row of each example's user.
        user_columns: Looked-up query features that are joined by user, `[num_users, ...]` each.
        slices: float `[num_users, num_slices]`.
        choices: What every user chose; none, if nothing looks at it.
        history: Name of the history among `user_columns`, and the number there of every item,
            int `[num_items]`; none without a history.
    """

    def __init__(
        self,
        examples: Examples,
        users: np.ndarray,
        user_columns: Mapping[str, np.ndarray],
        slices: np.ndarray,
        choices: UserChoices | None,
        history: tuple[str, np.ndarray] | None,
    ) -> None:
        # Arrays would be copied into the graph of the data set, which may not exceed 2 GB.
        self._columns = _constants(examples.query)
        self._candidates = tf.constant(examples.candidates)
        self._users = tf.constant(users, tf.int32)
        self._user_columns = _constants(user_columns)
        self._slices = tf.constant(slices, tf.float32)
        self._choices = choices
        self._history = (history[0], tf.constant(history[1])) if history else None
        self.size = len(users)

    def gather(self, rows: tf.Tensor, step: tf.Tensor) -> Batch:
        """Returns the batch of some examples, given their rows, int `[batch]`."""
        users, candidates = tf.gather(self._users, rows), tf.gather(self._candidates, rows)
        query = _gather(self._columns, rows) | _gather(self._user_columns, users)
        if self._history is not None:
            name, numbers = self._history
            own = tf.gather(numbers, candidates)[:, tf.newaxis]
            query[name] = tf.where(query[name] == own, 0, query[name])
        batch: Batch = {"query": query, "candidate": candidates}
        if self._choices is not None:
            chosen = self._choices.draw(users, step)
            batch |= {"given": chosen.given, "wanted": chosen.wanted}
            batch["slices"] = tf.gather(self._slices, users)
        return batch


class UserBatches:
    """Batches of users; a random part of what each chose is given, the rest is wanted.

    Args:
        user_columns: Looked-up query features, `[num_users, ...]` each.
        slices: float `[num_users, num_slices]`.
        choices: What every user chose.
        given_share: Range of the share that is given.
        history: Name of the history among the query's features, and the number there of every
            item, int `[num_items]`; none without a history, when nothing is given.
    """

    def __init__(
        self,
        user_columns: Mapping[str, np.ndarray],
        slices: np.ndarray,
        choices: UserChoices,
        given_share: tuple[float, float],
        history: tuple[str, np.ndarray] | None,
    ) -> None:
        name = history[0] if history else None
        self._columns = _constants({k: v for k, v in user_columns.items() if k != name})
        self._slices = tf.constant(slices, tf.float32)
        self._users = tf.constant(choices.active, tf.int32)
        self._choices = choices
        self._given_share = given_share if history else (0.0, 0.0)
        self._history = (history[0], tf.constant(history[1])) if history else None
        self.size = len(choices.active)

    def gather(self, rows: tf.Tensor, step: tf.Tensor) -> Batch:
        """Returns the batch of some active users, given their positions, int `[batch]`."""
        users = tf.gather(self._users, rows)
        chosen = self._choices.draw(users, step, self._given_share)
        query = _gather(self._columns, users)
        if self._history is not None:
            name, numbers = self._history
            number = tf.gather(numbers, tf.maximum(chosen.given, 0))
            query[name] = tf.where(chosen.given == NO_ITEM, 0, number)
        return {
            "query": query,
            "given": chosen.given,
            "wanted": chosen.wanted,
            "weights": chosen.weights,
            "slices": tf.gather(self._slices, users),
        }


def epochs_of(
    batches: PairBatches | UserBatches, batch_size: int, seed: int, first_epoch: int, epochs: int
) -> tf.data.Dataset:
    """Returns the batches of all epochs from `first_epoch` on, shuffled by (seed, epoch).

    The last, smaller batch of an epoch is left out, so that XLA compiles one shape; what is in it
    changes with every epoch.
    """
    size = batches.size
    batch_size = min(batch_size, size)
    steps = size // batch_size

    def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
        order = tf.random.experimental.stateless_shuffle(
            tf.range(size), seed=tf.stack([tf.constant(seed, tf.int64), epoch])
        )

        def batch(step: tf.Tensor) -> Batch:
            rows = order[step * batch_size : (step + 1) * batch_size]
            return batches.gather(tf.ensure_shape(rows, [batch_size]), epoch * steps + step)

        return tf.data.Dataset.range(steps).map(batch)

    dataset = tf.data.Dataset.range(first_epoch, epochs).flat_map(one_epoch)
    return dataset.prefetch(tf.data.AUTOTUNE)


def steps_per_epoch(batches: PairBatches | UserBatches, batch_size: int) -> int:
    """Number of batches that `epochs_of` makes of an epoch."""
    return max(1, batches.size // batch_size)


def _constants(columns: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(column) for name, column in columns.items()}


def _gather(columns: Mapping[str, tf.Tensor], rows: tf.Tensor) -> dict[str, tf.Tensor]:
    return {name: tf.gather(column, rows) for name, column in columns.items()}
