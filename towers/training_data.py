"""What training needs of an `examples` folder, in memory."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from fairness_losses.config import FairnessConfig
from fairness_losses.errors import InvalidInputError
from fairness_losses.groups import Groups
from towers.batches import PairBatches, UserBatches
from towers.catalogue import EntityTable, build_features, read_catalogue, read_users
from towers.config import ModelConfig
from towers.evaluation import HeldOut
from towers.examples import Examples, read_examples
from towers.features import HistoryLayer
from towers.tower import Tower
from towers.user_choices import UserChoices

_MIN_USERS = 20


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """What training needs, in memory.

    Attributes:
        catalogue: All items.
        users: All users.
        train: Positive pairs.
        train_users: int32 `[num_examples]`, the row of each pair's user.
        held_out: Users of the validation part.
        query_tower: Users to vectors.
        candidate_tower: Items to vectors.
    """

    catalogue: EntityTable
    users: EntityTable
    train: Examples
    train_users: np.ndarray
    held_out: HeldOut
    query_tower: Tower
    candidate_tower: Tower

    @classmethod
    def load(cls, config: ModelConfig, examples_dir: pathlib.Path) -> TrainingData:
        """Reads the examples and tables and builds both towers."""
        vocabularies, dim = examples_dir / "vocabularies", config.towers.dim
        candidate_layers = build_features(
            config.features.candidate, examples_dir / "catalogue.parquet", vocabularies, dim
        )
        query_layers = build_features(
            config.features.query,
            examples_dir / "users.parquet",
            vocabularies,
            dim,
            candidate_layers,
        )
        catalogue = read_catalogue(examples_dir, candidate_layers)
        users = read_users(examples_dir, query_layers)
        # Of users all features are in their table; pairs have those of their own moment.
        by_pair = [] if config.training.batch_of == "users" else _not_history(query_layers)
        training = read_examples(examples_dir, "train", by_pair, catalogue)
        validation = read_examples(examples_dir, "validation", [], catalogue)
        train_users = users.rows_of(training.users)
        held_out = HeldOut.build(
            users,
            relevant=(users.rows_of(validation.users), validation.candidates),
            seen=(train_users, training.candidates),
            max_users=config.training.evaluation_users,
        )
        return cls(
            catalogue=catalogue,
            users=users,
            train=training,
            train_users=train_users,
            held_out=held_out,
            query_tower=Tower(query_layers, config.towers, "query_tower", "query"),
            candidate_tower=Tower(candidate_layers, config.towers, "candidate_tower", "candidate"),
        )

    def batches(
        self, config: ModelConfig, fairness: FairnessConfig | None, seed: int
    ) -> PairBatches | UserBatches:
        """Returns the batches that `config` asks for."""
        training, history = config.training, self._history()
        slices = slice_membership(self.users, fairness.slices if fairness else [])[1]
        choices = UserChoices(
            self.train_users,
            self.train.candidates,
            len(self.users),
            training.items_per_user,
            seed,
        )
        if training.batch_of == "users":
            return UserBatches(self.users.columns, slices, choices, training.given_share, history)
        joined = {history[0]: self.users.columns[history[0]]} if history else {}
        steered = fairness is not None and fairness.weight > 0
        return PairBatches(
            self.train, self.train_users, joined, slices, choices if steered else None, history
        )

    def _history(self) -> tuple[str, np.ndarray] | None:
        """Name of the history, and the number that it gives every item of the catalogue."""
        for layer in self.query_tower.features:
            if isinstance(layer, HistoryLayer):
                numbers = layer.lookup(tf.constant(self.catalogue.ids.astype(str))[:, tf.newaxis])
                return layer.column, numbers[:, 0].numpy()
        return None


def slice_columns(users: EntityTable, columns: Sequence[str]) -> list[str]:
    """Returns the column that each slice of `slice_membership` comes from."""
    return [name.split("=", 1)[0] for name in slice_membership(users, columns)[0]]


def slice_membership(users: EntityTable, columns: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Which slices the users belong to, at most one of each column.

    Users whose value is unknown are in none, and slices of fewer than 20 users are left out: what
    holds for so few is chance, and would say something of persons.

    Args:
        users: All users.
        columns: Sliced columns.

    Returns:
        Names such as `gender=F`, and float32 `[num_users, num_slices]`.

    Raises:
        InvalidInputError: There is no such slice.
    """
    names, parts = [], [np.zeros((len(users), 0), np.float32)]
    for column in columns:
        if column not in users.labels:
            known = ", ".join(sorted(users.labels)) or "none"
            raise InvalidInputError(
                f"`fairness.slices` names `{column}`, which is no column of `slices`; there are: "
                f"{known}."
            )
        divided = Groups.from_labels(users.labels[column])
        large = divided.membership.sum(axis=0) >= _MIN_USERS
        kept = np.flatnonzero(large & ~divided.is_unknown)
        names += [f"{column}={divided.labels[i]}" for i in kept]
        parts.append(divided.membership[:, kept])
    return names, np.concatenate(parts, axis=1)


def _not_history(layers: Sequence) -> list:
    return [layer for layer in layers if not isinstance(layer, HistoryLayer)]
