"""Vectors to search."""

from __future__ import annotations

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


def repeated(vectors: np.ndarray, number: int, rng: np.random.Generator) -> np.ndarray:
    """Vectors of a trained model, repeated with noise of a tenth of their spread.

    Args:
        vectors: float32 `[any, dim]`.
        number: How many are wanted.
        rng: Of the noise.

    Returns:
        float32 `[number, dim]`; the first are as they were given.
    """
    copies = np.resize(vectors, (number, vectors.shape[1]))
    noise = rng.standard_normal(copies.shape, np.float32)
    noise[: len(vectors)] = 0
    return copies + 0.1 * vectors.std(axis=0) * noise
