"""Lists as rows of the catalogue, and what is wrong with some of them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairness_losses.exposure import PADDING

CANDIDATES, POLICY, MODEL_VERSION = "candidate_ids", "policy", "model_version"
"""Columns of lists, besides `user_id`: item ids, best first; and what served them."""


def item_rows(
    candidates: pa.ListArray, item_ids: pa.Array, depth: int
) -> tuple[np.ndarray, np.ndarray]:
    """Looks the candidates up in the catalogue.

    Args:
        candidates: list of string `[num_lists]`, or list of dictionary-encoded string, whose
            distinct values alone are looked up.
        item_ids: string `[num_items]`.
        depth: Ranks to keep.

    Returns:
        int32 `[num_lists, depth]`, rows of the catalogue, best first, padded; and the positions
        among all candidates of those that are not in the catalogue, int64.
    """
    item = _look_up(pc.list_flatten(candidates), item_ids)
    lengths = pc.fill_null(pc.list_value_length(candidates), 0).to_numpy().astype(np.int64)
    rows = np.full((len(lengths), depth), PADDING, np.int32)
    if len(lengths) and (lengths == depth).all():
        rows[:] = item.reshape(rows.shape)
    else:
        of_list = np.repeat(np.arange(len(lengths)), lengths)
        rank = np.arange(len(of_list)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        kept = rank < depth
        rows[of_list[kept], rank[kept]] = item[kept]
    return rows, np.flatnonzero(item == PADDING)


def _look_up(candidates: pa.Array, item_ids: pa.Array) -> np.ndarray:
    """Rows of the catalogue, int32; `PADDING` for what is not there."""
    if not pa.types.is_dictionary(candidates.type):
        return _index(candidates, item_ids)
    row_of = np.append(_index(candidates.dictionary, item_ids), np.int32(PADDING))
    return row_of[pc.fill_null(candidates.indices, len(row_of) - 1).to_numpy()]


def _index(ids: pa.Array, item_ids: pa.Array) -> np.ndarray:
    found = pc.index_in(ids, value_set=item_ids)
    return pc.fill_null(found, PADDING).to_numpy().astype(np.int32, copy=False)


def hold_an_item_twice(rows: np.ndarray) -> np.ndarray:
    """Returns bool `[num_lists]`, true for a list that holds an item more than once.

    Args:
        rows: int `[num_lists, depth]`, rows of the catalogue, padded.
    """
    ordered = np.sort(rows, axis=1)
    return ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PADDING)).any(axis=1)
