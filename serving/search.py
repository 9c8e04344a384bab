"""Ways to search a catalogue, as modules that live inside the exported graph."""

from __future__ import annotations

import pathlib
from typing import Any, Protocol, TypeAlias

import tensorflow as tf

from serving.scann_state import as_module, load_state, require_scann

NO_ITEM = -1
"""Row in place of a candidate where a list is shorter than k, and of an id that is unknown."""


Count: TypeAlias = int | tf.Tensor
"""A number that is known when the graph is made, or when it is asked."""


class Search(Protocol):
    """Finds the items with the largest dot products."""

    def __call__(
        self, queries: tf.Tensor, k: int, excluded: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Searches the catalogue.

        Args:
            queries: float32 `[num_queries, dim]`.
            k: Length of the lists, at most the size of the catalogue.
            excluded: int32 `[num_queries, num_excluded]`; rows that are left out, per query;
                `NO_ITEM` is ignored.

        Returns:
            Rows, int32 `[num_queries, k]`, and scores, float32 `[num_queries, k]`, by descending
            score; `NO_ITEM` and -inf where the catalogue has no more.
        """


class ExactSearch(tf.Module):
    """Compares with every vector; of equal scores the lower row comes first. Core TF ops only."""

    def __init__(self, vectors: Any) -> None:
        """Initialises the search.

        Args:
            vectors: Catalogue, float32 `[num_items, dim]`.
        """
        super().__init__()
        self._vectors = tf.Variable(vectors, trainable=False, dtype=tf.float32)

    def __call__(
        self, queries: tf.Tensor, k: int, excluded: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Search`."""
        scores, rows = tf.math.top_k(self.scores(queries, excluded), k)
        if excluded.shape[1] == 0:
            return rows, scores
        return without_hidden(rows, scores), scores

    def scores(self, queries: tf.Tensor, excluded: tf.Tensor) -> tf.Tensor:
        """Scores of all items, float32 `[num_queries, num_items]`; -inf for the excluded."""
        scores = tf.matmul(queries, self._vectors, transpose_b=True)
        if excluded.shape[1] == 0:
            return scores
        known = tf.where(excluded != NO_ITEM)
        cells = tf.stack([tf.cast(known[:, 0], tf.int32), tf.gather_nd(excluded, known)], axis=1)
        hidden = tf.fill([tf.shape(cells)[0]], -float("inf"))
        return tf.tensor_scatter_nd_update(scores, cells, hidden)


class LeafSearch(tf.Module):
    """Approximate search that looks into some leaves of a tree; how is left to `fetch`.

    ScaNN knows no exclusions. So as many more candidates are fetched as are excluded, from as
    many more leaves as hold that number on average, and the excluded ones are masked. Where the
    leaves looked into hold too few, the whole tree is searched: a list is short only when the
    catalogue is.
    """

    def __init__(self, num_items: int, leaves: int, leaves_to_search: int, reorder: int) -> None:
        """Initialises the search.

        Args:
            num_items: Size of the catalogue.
            leaves: Partitions of the tree.
            leaves_to_search: Partitions looked into when nothing is excluded.
            reorder: Candidates whose exact score is computed when nothing is excluded.
        """
        super().__init__()
        self.num_items = num_items
        self.leaves = leaves
        self._leaves_to_search = leaves_to_search
        self._reorder = reorder

    def __call__(
        self, queries: tf.Tensor, k: int, excluded: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `Search`."""
        if excluded.shape[1] == 0:  # Masking would cost as much as a third of the search.
            reorder = tf.maximum(self._reorder, k)
            rows, scores = self._full(queries, k, reorder, self._leaves_to_search)
            shape = [None, tf.get_static_value(k)]
            rows.set_shape(shape)
            scores.set_shape(shape)
            return rows, scores
        num_excluded = tf.shape(excluded)[1]
        wanted = tf.minimum(k + num_excluded, self.num_items)
        more_leaves = -(-num_excluded * self.leaves // self.num_items)
        leaves = tf.minimum(self._leaves_to_search + more_leaves, self.leaves)
        reorder = tf.maximum(self._reorder + num_excluded, wanted)
        rows, scores = self._full(queries, wanted, reorder, leaves)
        scores, order = tf.math.top_k(tf.where(_is_in(rows, excluded), -float("inf"), scores), k)
        return without_hidden(tf.gather(rows, order, batch_dims=1), scores), scores

    def _full(
        self, queries: tf.Tensor, wanted: Count, reorder: Count, leaves: Count
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What some leaves hold or, where one list is short, what the whole tree does."""
        rows, scores = self.fetch(queries, wanted, reorder, leaves)
        if isinstance(leaves, int) and leaves == self.leaves:
            return rows, scores
        # Lists are filled from the front, so the last column tells. NaN is not above -inf either.
        is_full = (tf.shape(rows)[1] == wanted) & tf.reduce_all(scores[:, -1:] > -float("inf"))
        return tf.cond(
            is_full,
            lambda: (rows, scores),
            lambda: cleaned(*self.fetch(queries, wanted, reorder, self.leaves)),
        )

    def fetch(
        self, queries: tf.Tensor, wanted: Count, reorder: Count, leaves: Count
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns what some leaves hold.

        Args:
            queries: float32 `[num_queries, dim]`.
            wanted: Length of the lists, at most `reorder`.
            reorder: Candidates whose exact score is computed.
            leaves: Partitions looked into.

        Returns:
            Rows, int32, and scores, float32, by descending score, with fewer columns where no list
            is as long. What ends a list that is shorter than others has the score NaN or -inf,
            see `cleaned`.
        """
        raise NotImplementedError


class ScannSearch(LeafSearch):
    """Approximate search in a ScaNN index: a tree, asymmetric hashing, exact reordering.

    Of equal scores ScaNN itself returns the lower row first.

    Source: Guo et al., Accelerating Large-Scale Inference with Anisotropic Vector Quantization,
    ICML 2020.
    """

    def __init__(
        self, state: Any, num_items: int, leaves: int, leaves_to_search: int, reorder: int
    ) -> None:
        """Initialises the search.

        Args:
            state: What `searcher.serialize_to_module()` returned, or was saved and loaded.
            num_items: See `LeafSearch`.
            leaves: See `LeafSearch`.
            leaves_to_search: See `LeafSearch`.
            reorder: See `LeafSearch`.
        """
        super().__init__(num_items, leaves, leaves_to_search, reorder)
        self._state = state

    def fetch(
        self, queries: tf.Tensor, wanted: Count, reorder: Count, leaves: Count
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """See `LeafSearch`."""
        return search_state(self._state, queries, wanted, reorder, leaves)


def search_state(
    state: Any, queries: tf.Tensor, wanted: Count, reorder: Count, leaves: Count
) -> tuple[tf.Tensor, tf.Tensor]:
    """Asks a ScaNN index; the arguments are those of `LeafSearch.fetch`, which see."""
    searcher = require_scann().searcher_from_module(state)
    rows, scores = searcher.search_batched(
        queries,
        final_num_neighbors=wanted,
        pre_reorder_num_neighbors=reorder,
        leaves_to_search=leaves,
    )
    rows.set_shape([None, None])
    scores.set_shape([None, None])
    return rows, scores


def load_scann_search(
    folder: pathlib.Path, num_items: int, settings: dict[str, int]
) -> ScannSearch:
    """Loads the index that `serving.index` saved in `folder`, with the settings it was built by.

    Raises:
        InvalidInputError: ScaNN cannot be imported here.
    """
    return ScannSearch(as_module(load_state(folder)), num_items, **settings)


def _is_in(rows: tf.Tensor, excluded: tf.Tensor) -> tf.Tensor:
    """Bool, of the shape of `rows`: whether a row is among its query's `excluded`."""
    below_all = tf.fill([tf.shape(excluded)[0], 1], NO_ITEM)
    excluded = tf.sort(tf.concat([below_all, excluded], axis=1), axis=1)
    nearest = tf.searchsorted(excluded, rows, side="right") - 1
    return tf.gather(excluded, nearest, batch_dims=1) == rows


def cleaned(rows: tf.Tensor, scores: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Lists of `LeafSearch.fetch`, with `NO_ITEM` and -inf where they have ended."""
    is_there = scores > -float("inf")  # Which NaN is not.
    return tf.where(is_there, rows, NO_ITEM), tf.where(is_there, scores, -float("inf"))


def without_hidden(rows: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Rows, with `NO_ITEM` where the score is -inf."""
    return tf.where(scores > -float("inf"), rows, NO_ITEM)
