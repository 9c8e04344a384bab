"""A log of pairs as a model is trained on it, without files."""

from __future__ import annotations

import numpy as np

from towers.catalogue import EntityTable
from towers.config import ModelConfig
from towers.evaluation import HeldOut
from towers.examples import Examples
from towers.features import FeatureLayer
from towers.tower import Tower
from towers.training_data import TrainingData


def data_of_pairs(
    config: ModelConfig,
    users: np.ndarray,
    items: np.ndarray,
    numbers: tuple[np.ndarray, np.ndarray],
    layers: tuple[FeatureLayer, FeatureLayer],
) -> TrainingData:
    """Returns what `TrainingData.load` would read; a tenth of the catalogue is of the small group.

    Args:
        config: Of the towers.
        users: int32 `[num_pairs]`, rows of the users.
        items: int32 `[num_pairs]`, rows of the catalogue.
        numbers: Of every user and of every item, the number that its layer looks its id up as.
        layers: Of the users' and of the items' ids.
    """
    of_user, of_item = numbers
    size = len(of_item)
    catalogue = EntityTable(
        ids=np.broadcast_to(np.array("", object), [size]),
        columns={"item_id": of_item},
        labels={"group": np.where(np.arange(size) % 10 == 0, "small", "large").astype(object)},
        frequency=np.bincount(items, minlength=size),
    )
    people = EntityTable(np.arange(len(of_user)).astype(object), {"user_id": of_user}, {})
    nobody = (np.zeros(0, int), np.zeros(0, int))
    return TrainingData(
        catalogue=catalogue,
        users=people,
        train=Examples({"user_id": of_user[users]}, users.astype(object), items),
        train_users=users,
        held_out=HeldOut.build(people, nobody, nobody, 1),
        query_tower=Tower([layers[0]], config.towers, "query_tower", "query"),
        candidate_tower=Tower([layers[1]], config.towers, "candidate_tower", "candidate"),
    )
