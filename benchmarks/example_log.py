"""A log and tables with ten features, and the examples stage of a run on them."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.config import RunConfig
from pipelines.examples.pipeline import build_examples

CATEGORIES = ["country", "device", "genre", "brand"]
NUMBERS = ["age", "income", "price", "weight"]
ROWS_PER_GROUP = 100_000


def write_tables(folder: pathlib.Path, rows: int) -> None:
    """Writes a log of user, item and time, and tables with four features each."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    users, items = max(rows // 40, 1_000), max(rows // 100, 1_000)
    log = {
        "user_id": _ids("u", users)[rng.integers(0, users, rows)],
        "item_id": _ids("i", items)[(items * rng.random(rows) ** 2).astype(int)],
        "timestamp": rng.integers(1_600_000_000, 1_700_000_000, rows),
    }
    pq.write_table(pa.table(log), folder / "interactions.parquet", row_group_size=ROWS_PER_GROUP)
    for name, size, letter in (("users", users, "u"), ("items", items, "i")):
        own = slice(0, 2) if name == "users" else slice(2, 4)
        columns: dict[str, Any] = {f"{name[:-1]}_id": _ids(letter, size)}
        for category in CATEGORIES[own]:
            columns[category] = _ids(category, 50)[rng.integers(0, 50, size)]
        for number in NUMBERS[own]:
            columns[number] = rng.random(size)
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def _ids(letter: str, count: int) -> np.ndarray:
    return np.array([f"{letter}{n}" for n in range(count)])


def build(source: pathlib.Path, out: pathlib.Path, max_broadcast_mb: float = 256) -> None:
    """The examples stage of a run."""
    config = configuration(source)
    config["data"]["max_broadcast_mb"] = max_broadcast_mb
    build_examples(RunConfig.model_validate(config), None, out)


def configuration(source: pathlib.Path) -> dict[str, Any]:
    """The settings of a run on the tables of `write_tables`."""
    features = {
        tower: [
            {"kind": "id", "column": f"{side}_id"},
            *({"kind": "categorical", "column": c} for c in CATEGORIES[own]),
            *({"kind": "numeric", "column": c} for c in NUMBERS[own]),
        ]
        for tower, side, own in (
            ("query", "user", slice(0, 2)),
            ("candidate", "item", slice(2, 4)),
        )
    }
    data = {
        "interactions": {"path": str(source / "interactions.parquet"), "timestamp": "timestamp"},
        "users": {"path": str(source / "users.parquet"), "id": "user_id"},
        "items": {"path": str(source / "items.parquet"), "id": "item_id"},
    }
    return {"name": "benchmark", "data": data, "features": features}
