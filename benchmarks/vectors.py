"""Vectors to search."""

from __future__ import annotations

import pathlib

import numpy as np


def clustered(num_items: int, num_queries: int, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors around a centre per 500 items, and queries around the same centres.

    Returns:
        float32 `[num_items, dim]` and `[num_queries, dim]`.
    """
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(num_items // 500, 2), dim), np.float32)

    def draw(number: int) -> np.ndarray:
        points = centres[rng.integers(0, len(centres), number)]
        points += rng.standard_normal(points.shape, np.float32)
        return points / np.linalg.norm(points, axis=1, keepdims=True)

    return draw(num_items), draw(num_queries)


def repeated(
    vectors: pathlib.Path, queries: pathlib.Path, num_items: int, num_queries: int
) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of a trained model, repeated with noise of a tenth of their spread.

    Args:
        vectors: Of the items, `.npy`, float `[any, dim]`.
        queries: Likewise.
        num_items: Items wanted.
        num_queries: Queries wanted.

    Returns:
        float32 `[num_items, dim]` and, in random order, `[num_queries, dim]`.
    """
    rng = np.random.default_rng(0)

    def repeat(path: pathlib.Path, number: int) -> np.ndarray:
        given = np.load(path).astype(np.float32)
        copies = np.resize(given, (number, given.shape[1]))
        noise = rng.standard_normal(copies.shape, np.float32)
        noise[: len(given)] = 0  # The first copy of each is as it is.
        return copies + 0.1 * given.std(axis=0) * noise

    return repeat(vectors, num_items), rng.permutation(repeat(queries, num_queries))
