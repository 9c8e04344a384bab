"""What every user chose in training, and random parts of it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf

NO_ITEM = -1
"""Stands for "no item" where a row of items is shorter than the others."""


class Choices(NamedTuple):
    """Items that users chose, divided into what the query tower sees and what it has to find.

    Attributes:
        given: int32 `[num_users, width]`, rows of the catalogue that the query tower may see;
            `NO_ITEM` for none.
        wanted: int32 `[num_users, width]`, rows of the catalogue to be found.
        weights: float32 `[num_users]`, how many of the user's items each wanted one stands for:
            more than 1 for users who chose more than `width`.
    """

    given: tf.Tensor
    wanted: tf.Tensor
    weights: tf.Tensor


class UserChoices:
    """The training items of every user, user by user.

    Args:
        users: int `[num_pairs]`, rows of the users.
        items: int `[num_pairs]`, rows of the catalogue.
        num_users: Size of the users table.
        width: Items of a user that a step looks at, at most; of users with more another part is
            drawn every time.
        seed: Of the draws.
    """

    def __init__(
        self, users: np.ndarray, items: np.ndarray, num_users: int, width: int, seed: int
    ) -> None:
        pairs = np.unique(np.stack([users, items], axis=1).astype(np.int64), axis=0)
        # In random order any stretch of a user's items is a random sample of them.
        pairs = np.random.default_rng(seed).permutation(pairs)
        pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
        counts = np.bincount(pairs[:, 0], minlength=num_users)
        self.active = np.flatnonzero(counts)
        self.width = int(min(width, counts.max(initial=1)))
        self._items = tf.constant(pairs[:, 1], tf.int32)
        self._counts = tf.constant(counts, tf.int32)
        self._first = tf.constant(np.cumsum(counts) - counts, tf.int64)
        self._seed = seed

    def draw(
        self, users: tf.Tensor, step: tf.Tensor, given_share: tuple[float, float] = (0.0, 0.0)
    ) -> Choices:
        """Draws what is given and what is wanted of some users.

        Args:
            users: int `[num_users]`, rows of users with at least one item.
            step: int64 scalar; the same step draws the same items.
            given_share: Range of the share of a user's items that is given, drawn evenly for each
                user. What is not given is wanted, at least one item.
        """
        seeds = tf.random.experimental.stateless_split([self._seed, step], num=3)
        rows, present, weights = self._window(users, seeds[0])
        low, high = given_share
        share = tf.random.stateless_uniform([tf.size(users), 1], seeds[1], low, high)
        draw = tf.random.stateless_uniform(tf.shape(rows), seeds[2])
        # The largest draw is always wanted, so that there is something to find.
        draw = tf.where(present, draw, -1.0)
        wanted = present & ((draw >= share) | (draw == tf.reduce_max(draw, axis=1, keepdims=True)))
        return Choices(
            given=tf.where(present & ~wanted, rows, NO_ITEM),
            wanted=tf.where(wanted, rows, NO_ITEM),
            weights=weights,
        )

    def _window(self, users: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Up to `width` items of each user, which columns hold one, and what each stands for."""
        counts = tf.gather(self._counts, users)[:, tf.newaxis]
        start = tf.random.stateless_uniform([tf.size(users), 1], seed)
        start = tf.cast(start * tf.cast(counts, tf.float32), tf.int32)
        column = tf.range(self.width)[tf.newaxis, :]
        present = column < counts
        position = tf.where(present, (start + column) % tf.maximum(counts, 1), 0)
        first = tf.gather(self._first, users)[:, tf.newaxis]
        rows = tf.gather(self._items, first + tf.cast(position, tf.int64))
        weights = tf.maximum(tf.cast(counts[:, 0], tf.float32) / self.width, 1.0)
        return rows, present, weights


def holds(rows: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
    """Whether a user's rows hold an item, bool `[num_users, num_items]`.

    To be kept out of XLA, whose binary search is many times slower.

    Args:
        rows: int `[num_users, width]`, `NO_ITEM` for none.
        items: int `[num_items]`, not negative; an item may be there repeatedly.
    """
    ordered, size = tf.sort(items), tf.size(items)
    users, width = tf.unstack(tf.shape(rows))
    sought = tf.reshape(rows, [-1])
    place = tf.searchsorted(ordered, sought)
    found = tf.gather(ordered, tf.minimum(place, size - 1)) == sought
    # What is not among the items goes to a column of its own, which nothing is read from.
    indices = tf.stack([tf.repeat(tf.range(users), width), tf.where(found, place, size)], axis=1)
    counts = tf.scatter_nd(indices, tf.ones_like(sought), [users, size + 1])
    return tf.gather(counts > 0, tf.searchsorted(ordered, items), axis=1)


def marked(rows: tf.Tensor, num_items: int) -> tf.Tensor:
    """How often a user's rows hold each item of the catalogue, float `[num_users, num_items]`.

    Args:
        rows: int `[num_users, width]`, `NO_ITEM` for none.
        num_items: Size of the catalogue.
    """
    users, width = tf.unstack(tf.shape(rows))
    user = tf.repeat(tf.range(users), width)
    # "No item" goes to a column of its own, which is then cut off.
    column = tf.reshape(tf.where(rows == NO_ITEM, num_items, rows), [-1])
    indices = tf.stack([user, column], axis=1)
    counts = tf.scatter_nd(indices, tf.ones_like(column, tf.float32), [users, num_items + 1])
    return counts[:, :-1]
