"""Many queries asked of a graph, a batch at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from serving.search import Search

_BATCH_SIZE = 64


def search_all(search: Search, queries: np.ndarray, k: int) -> np.ndarray:
    """Searches for every query.

    Args:
        search: The index.
        queries: float32 `[num_queries, dim]`.
        k: Length of the lists, at most the size of the catalogue.

    Returns:
        Rows, int32 `[num_queries, k]`.
    """
    return in_batches(
        lambda batch: search(batch, k, tf.zeros([tf.shape(batch)[0], 0], tf.int32)), queries
    )[0]


def in_batches(
    ask: Callable[[tf.Tensor], tuple[tf.Tensor, ...]], queries: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Calls a function, made a graph of, for every batch of queries.

    Args:
        ask: Queries `[batch, dim]` to tensors of as many rows.
        queries: float32 `[num_queries, dim]`.

    Returns:
        What it returned, for all queries.
    """
    graph = tf.function(ask, input_signature=[tf.TensorSpec([None, queries.shape[1]], tf.float32)])
    # No queries are asked once, so that what there is none of has a shape.
    starts = range(0, max(len(queries), 1), _BATCH_SIZE)
    answers = [graph(tf.constant(queries[start : start + _BATCH_SIZE])) for start in starts]
    return tuple(np.concatenate(parts) for parts in zip(*answers, strict=True))
