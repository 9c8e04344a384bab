"""Two-tower retrievers on a synthetic marketplace, better and worse, and what users truly like."""

from __future__ import annotations

import dataclasses
import pathlib
import tempfile

import numpy as np

from fairness_losses.browsing import dcg_weights
from pipelines.simulation.config import SimulationConfig
from pipelines.simulation.learning import learn, write_examples
from pipelines.simulation.pairs import Pairs
from pipelines.simulation.world import World, draw_world

CONFIG = SimulationConfig.model_validate(
    {
        "name": "Retrievers",
        "marketplace": {"interactions": 60_000, "users": 2000, "items": 3000},
        "supply": {"present": 1.0, "newcomers": 0.0},
        "features": {
            "query": [
                {"kind": "id", "column": "user_id"},
                {"kind": "history", "max_items": 200},
            ],
            "candidate": [
                {"kind": "id", "column": "item_id", "dropout": 0.1},
                {"kind": "vector", "column": "style"},
            ],
        },
        "towers": {"dim": 16},
        "training": {
            "batch_of": "users",
            "batch_size": 200,
            "epochs": 20,
            "learning_rate": 0.01,
        },
        "arms": {"only": {}},
    }
)


@dataclasses.dataclass(frozen=True)
class Retrievers:
    """Models of one marketplace, trained on more or less of its log.

    Attributes:
        relevance: The truth: probability that each item is relevant to each user, float32
            `[num_users, num_items]`.
        scores: By share of the log, scores of all items for all users, float32
            `[num_users, num_items]`, -inf for what a user has chosen in the log.
    """

    relevance: np.ndarray
    scores: dict[float, np.ndarray]

    def lists(self, share: float, k: int) -> np.ndarray:
        """Returns a list for every user, best first, int64 `[num_users, k]`."""
        scores = self.scores[share]
        best = np.argpartition(-scores, k, axis=1)[:, :k]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1, kind="stable")
        return np.take_along_axis(best, order, axis=1)

    def liking(self, users: np.ndarray, lists: np.ndarray) -> np.ndarray:
        """Returns the probability that each item on a list is relevant, `[num_lists, k]`."""
        return self.relevance[users[:, None], lists].astype(np.float64)

    def clicks_per_list(self, lists: np.ndarray) -> np.ndarray:
        """Returns the expected clicks of every user on a list, `[num_users]`."""
        return self.liking(np.arange(len(lists)), lists) @ dcg_weights(lists.shape[1])


def train_retrievers(shares: list[float], seed: int) -> Retrievers:
    """Trains a retriever on each share of the log, the smaller within the larger."""
    world = draw_world(CONFIG, seed)
    kept = np.random.default_rng([seed, 0]).random(len(world.log.items))
    seen = world.log.by_user(world.market.num_users)
    scores = {share: _scores(world, kept < share, seen, seed) for share in shares}
    return Retrievers(world.market.relevance_matrix(np.arange(len(seen))), scores)


def _scores(world: World, kept: np.ndarray, seen: np.ndarray, seed: int) -> np.ndarray:
    pairs = Pairs(world.log.users[kept], world.log.items[kept])
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        write_examples(CONFIG.features, world.users, world.items, pairs, folder)
        vectors = learn(CONFIG.model, None, folder, seed)
    scores = np.pad(vectors.users @ vectors.items.T, ((0, 0), (0, 1)))
    np.put_along_axis(scores, seen.astype(np.int64), -np.inf, axis=1)
    return scores[:, :-1]
