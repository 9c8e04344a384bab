"""One arm, round after round."""

from __future__ import annotations

import pathlib
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa

from fairness_losses.browsing import dcg_weights
from fairness_losses.errors import InvalidInputError
from pipelines.datasets.marketplace import GROUPS
from pipelines.examples.inputs import GROUP
from pipelines.simulation.clicks import attainable, click_probability
from pipelines.simulation.config import ArmConfig, SimulationConfig
from pipelines.simulation.learning import learn, write_examples
from pipelines.simulation.pairs import Pairs
from pipelines.simulation.serving import make_lists
from pipelines.simulation.supply import Supply
from pipelines.simulation.world import World, draw_world
from towers.config import ITEM_ID

_ASKING, _CLICKING, _LEAVING = 101, 102, 103
"""Streams of random numbers: arms have the same ones, so that they differ by what they do."""

Row = dict[str, Any]
"""What a round came to, as JSON values."""


def simulate_arm(
    config: SimulationConfig, arm: ArmConfig, seed: int, on_round: Callable[[int], None]
) -> list[Row]:
    """Follows one arm through all rounds.

    In each a model is trained on what was clicked, every user sees one list without what the user
    clicked before, clicks by the truth, and creators come and go.

    Args:
        config: The simulation.
        arm: The arm.
        seed: Of the world and of chance.
        on_round: Called with the number of rounds that are over.

    Returns:
        Per round, by true groups, whatever creators state:

        - `utility`: expected clicks on a list, a mean over users, and `attainable` by the best
          lists from the items that were there;
        - `exposure`: share of the users' attention per group;
        - `items`: number of items that were there, per group;
        - `creators`: how many were there, `left`, `came`: how many did after the round.

    Raises:
        InvalidInputError: Too few creators are left for a list.
    """
    arena = _Arena(config, arm, draw_world(config, seed), seed)
    rows = []
    for number in range(config.rounds):
        rows.append(arena.play(number))
        on_round(number + 1)
    return rows


class _Arena:
    """The state of a simulation: the log so far, and who is there."""

    def __init__(self, config: SimulationConfig, arm: ArmConfig, world: World, seed: int) -> None:
        self._config, self._arm, self._world, self._seed = config, arm, world, seed
        market = world.market
        self._supply = Supply(config.supply, market.creator, world.present, world.queue)
        self._log = [world.log]
        depth = arm.fairness.depth or config.k
        self._fairness = arm.fairness.model_copy(update={"depth": depth})

    def play(self, number: int) -> Row:
        """Plays a round."""
        market, k = self._world.market, self._config.k
        items = self._supply.items
        if len(items) < k:
            raise InvalidInputError(
                f"before round {number + 1} only {len(items)} items are left, too few for a list "
                f"of {k}: lower `supply.leave`, or raise `supply.newcomers`."
            )
        users = np.arange(market.num_users)
        seen = Pairs.joined(self._log).among(items).by_user(market.num_users)
        lists = self._lists(number, items, seen)
        chances = click_probability(market, users, lists)
        clicked = self._rng(number, _CLICKING).random(lists.shape) < chances
        who, place = np.nonzero(clicked)
        self._log.append(Pairs(who, lists[who, place]))

        is_item = lists >= 0
        attention = np.broadcast_to(dcg_weights(k), lists.shape)[is_item]
        of_item = np.bincount(lists[is_item], attention, minlength=market.num_items)
        exposure = np.bincount(market.group, of_item, minlength=len(GROUPS))
        creators = int(self._supply.present.sum())
        left, came = self._supply.next_round(of_item, self._rng(number, _LEAVING))
        return {
            "utility": float(chances.sum(axis=1).mean()),
            "attainable": attainable(market, users, items, seen, k),
            "exposure": (exposure / exposure.sum()).tolist(),
            "items": np.bincount(market.group[items], minlength=len(GROUPS)).tolist(),
            "creators": creators,
            "left": left,
            "came": came,
        }

    def _lists(self, number: int, items: np.ndarray, seen: np.ndarray) -> np.ndarray:
        """Trains and serves: rows of the marketplace's items, int `[num_users, k]`, -1 for none."""
        table = self._world.items.take(items)
        window = self._config.window or len(self._log)
        pairs = Pairs.joined(self._log[-window:]).among(items)
        seed = self._seed + number
        with tempfile.TemporaryDirectory() as name:
            examples, index = pathlib.Path(name) / "examples", pathlib.Path(name) / "index"
            examples.mkdir()
            write_examples(self._config.features, self._world.users, table, pairs, examples)
            vectors = learn(self._config.model, self._fairness, examples, seed)
            found = make_lists(
                self._arm,
                self._config.k,
                vectors,
                _strings(table[ITEM_ID]),
                _strings(table[GROUP]),
                seen,
                self._rng(number, _ASKING).permutation(len(vectors.users)),
                index,
                seed,
            )
        return np.where(found >= 0, items[found], -1)

    def _rng(self, number: int, stream: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, stream, number])


def _strings(column: pa.ChunkedArray) -> np.ndarray:
    return column.to_numpy().astype(object)
