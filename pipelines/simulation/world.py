"""The marketplace that a simulation is about, as it is before the first round."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairness_losses.config import UNKNOWN
from pipelines.datasets.marketplace import Marketplace, ground_truth
from pipelines.datasets.synthetic import generate_marketplace
from pipelines.examples.inputs import GROUP
from pipelines.simulation.config import SimulationConfig
from pipelines.simulation.pairs import Pairs
from towers.config import ITEM_ID, USER_ID


@dataclasses.dataclass(frozen=True)
class World:
    """Truth, what models may see of it, and the log that they start from.

    Attributes:
        market: The truth.
        users: `user_id` and features, in the order of the truth.
        items: `item_id`, features and the stated `group`, of all items, present or not.
        log: What users chose from the logging policy, of creators who are present at first.
        present: Who is present at first, bool `[num_creators]`.
        queue: The other creators in the order in which they come, int64.
    """

    market: Marketplace
    users: pa.Table
    items: pa.Table
    log: Pairs
    present: np.ndarray
    queue: np.ndarray


def draw_world(config: SimulationConfig, seed: int) -> World:
    """Draws the world of a seed; it is the same for all arms.

    The log is that of the whole marketplace without the items of creators who have yet to come. As
    the logging policy shows one item at a time, it is the log that it makes of the others alone.
    """
    market = ground_truth(config.marketplace, seed)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        generate_marketplace(config.marketplace, seed, folder)
        users, items, log = (
            pq.read_table(folder / f"{table}.parquet")
            for table in ("users", "items", "interactions")
        )
    num_creators = int(market.creator.max()) + 1
    order = np.random.default_rng([seed, _STREAM]).permutation(num_creators)
    first = max(1, round(config.supply.present * num_creators))
    present = np.zeros(num_creators, dtype=bool)
    present[order[:first]] = True
    pairs = Pairs(_rows_of(log[USER_ID], users[USER_ID]), _rows_of(log[ITEM_ID], items[ITEM_ID]))
    is_there = present[market.creator[pairs.items]]
    stated = pc.if_else(pc.equal(items["skin_tone"], ""), UNKNOWN, items["skin_tone"])
    return World(
        market,
        users,
        items.append_column(GROUP, stated),
        Pairs(pairs.users[is_there], pairs.items[is_there]),
        present,
        order[first:],
    )


_STREAM = 100
"""Of the random numbers; others of the seed are the marketplace's own."""


def _rows_of(ids: pa.ChunkedArray, table_ids: pa.ChunkedArray) -> np.ndarray:
    return pc.index_in(ids, value_set=table_ids.combine_chunks()).to_numpy().astype(np.int64)
