"""Exact lists of the validation users, and their measurement."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairness_losses.errors import InvalidInputError
from pipelines.audit.figures import Measurement, measure
from pipelines.audit.served_lists import known_pairs, relevant_pairs
from pipelines.config import RunConfig
from towers.config import ITEM_ID, USER_ID
from towers.evaluation import Positives, exact_lists
from towers.exported_tower import ExportedTower

Vectors = tuple[np.ndarray, np.ndarray]
"""Of the validation users, float32 `[num_users, dim]`, and of the catalogue, `[num_items, dim]`."""


@dataclasses.dataclass(frozen=True)
class ValidationLists:
    """Users with something held out for validation, and the catalogue that they choose from.

    Attributes:
        config: The run configuration.
        users: Their rows of the users table.
        catalogue: All items.
        relevant: `user_id` and `item_id` of what they chose.
        seen: What they had chosen in training, by row, which is left out of their lists.
    """

    config: RunConfig
    users: pa.Table
    catalogue: pa.Table
    relevant: pa.Table
    seen: Positives

    @classmethod
    def read(cls, config: RunConfig, examples: pathlib.Path) -> ValidationLists:
        """Reads at most `training.evaluation_users` users, evenly from the table.

        Args:
            config: The run configuration.
            examples: Folder that the examples pipeline wrote.

        Raises:
            InvalidInputError: There is no validation user.
        """
        relevant = relevant_pairs(examples, "validation")
        users = pq.read_table(examples / "users.parquet")
        users = users.filter(pc.is_in(users[USER_ID], pc.unique(relevant[USER_ID])))
        if not len(users):
            raise InvalidInputError(
                "a sweep is measured on validation users, and none has anything held out: raise "
                "`split.validation`."
            )
        most = config.training.evaluation_users
        if len(users) > most:
            users = users.take(np.linspace(0, len(users) - 1, most).astype(int))
        catalogue = pq.read_table(examples / "catalogue.parquet")
        known = known_pairs(examples, "validation")
        rows = pc.index_in(known[USER_ID], users[USER_ID].combine_chunks())
        items = pc.index_in(known[ITEM_ID], catalogue[ITEM_ID].combine_chunks())
        here = pc.is_valid(rows)
        seen = Positives.from_pairs(
            rows.filter(here).to_numpy(), items.filter(here).to_numpy(), len(users)
        )
        return cls(config, users, catalogue, relevant, seen)

    def vectors(self, model: pathlib.Path) -> Vectors:
        """Encodes users and catalogue with an exported model."""
        query = ExportedTower(model / "query_tower").embed(self.users)
        return query, ExportedTower(model / "candidate_tower").embed(self.catalogue)

    def measure(self, vectors: Vectors, run: dict[str, Any]) -> Measurement:
        """Measures the exact lists of the scores `<query, candidate>`.

        Args:
            vectors: Of users and catalogue.
            run: What they come from, for the report.
        """
        lists = self._lists(vectors)
        return measure(lists, self.catalogue, self.users, self.relevant, self.config, run)

    def _lists(self, vectors: Vectors) -> pa.Table:
        """The lists as `measure` takes them."""
        depth = min(max(self.config.audit.ks), len(self.catalogue))
        rows = np.concatenate([block for _, block in exact_lists(*vectors, self.seen, depth)])
        listed = rows >= 0
        ends = np.append(0, listed.sum(axis=1).cumsum()).astype(np.int32)
        ids = self.catalogue[ITEM_ID].combine_chunks().take(pa.array(rows[listed]))
        return pa.table(
            {
                USER_ID: self.users[USER_ID],
                "candidate_ids": pa.ListArray.from_arrays(pa.array(ends), ids),
                "policy": pa.array(["exact"] * len(rows)),
                "model_version": pa.nulls(len(rows), pa.int64()),
            }
        )
