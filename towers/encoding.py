"""Vectors of whole tables, from the towers as they are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from towers.tower import Tower

_BATCH = 65_536


def encode(tower: Tower, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Encodes looked-up columns batch by batch.

    Args:
        tower: One of the towers.
        columns: `[num_rows]` or `[num_rows, values]` per feature.

    Returns:
        float32 `[num_rows, dim]`.
    """
    size = len(next(iter(columns.values())))
    parts = []
    for start in range(0, size, _BATCH):
        batch = {name: column[start : start + _BATCH] for name, column in columns.items()}
        parts.append(tower(batch, training=False).numpy())
    return np.concatenate(parts)
