"""What lies in the folder of an index."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

INDEX_FILE = "index.json"
"""What the index is and what it costs, see `serving.index.build_index`; written last."""

TUNING_FILE = "tuning.json"
"""The settings that were tried, see `serving.tuning.tune`."""

SCANN_FOLDER = "scann"
"""SavedModel of a ScaNN index."""

ITEMS_FILE = "items.parquet"
"""`item_id` and `row`, its row in the catalogue, of every item in the ScaNN index."""


def read_report(index_dir: pathlib.Path) -> dict[str, Any] | None:
    """Returns `index.json`, or nothing if the folder holds no complete index."""
    path = index_dir / INDEX_FILE
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def write_items(item_ids: np.ndarray, rows: np.ndarray, index_dir: pathlib.Path) -> None:
    """Writes `items.parquet`.

    Args:
        item_ids: Of the whole catalogue, string `[num_items]`.
        rows: Those in the ScaNN index, in its order, int `[num_indexed]`.
        index_dir: The folder.
    """
    ids = pa.array(item_ids, pa.string()).take(pa.array(rows))
    table = pa.table({"item_id": ids, "row": pa.array(rows, pa.int32())})
    pq.write_table(table, index_dir / ITEMS_FILE)
