"""Measures lists against a catalogue and its users, a table at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.audit.accumulator import Accumulator
from pipelines.audit.cell_index import CellIndex
from pipelines.audit.details import Details
from pipelines.audit.figures import CellSums, audit_of_cells
from pipelines.audit.layout import Layout
from pipelines.audit.list_checks import (
    CANDIDATES,
    MODEL_VERSION,
    POLICY,
    hold_an_item_twice,
    item_rows,
)
from pipelines.audit.notes import Notes
from pipelines.audit.relevance import Relevance
from pipelines.config import RunConfig
from pipelines.examples.checks import Rejections, is_missing
from pipelines.examples.splits import id_hashes
from towers.config import ITEM_ID, USER_ID

_LISTS_PER_BLOCK = 4096
"""Lists measured at once: what is held of them stays in the cache."""


@dataclasses.dataclass(frozen=True)
class Meter:
    """What lists are measured against.

    Attributes:
        layout: What the columns of the sums are.
        item_ids: string `[num_items]`, the catalogue.
        index: The cells of the users.
        relevance: What is relevant to whom.
        samples: Number of resamples.
        seed: Of the resamples, and of users' hashes.
        sample_size: Users whose exposure is kept for tests.
    """

    layout: Layout
    item_ids: pa.Array
    index: CellIndex
    relevance: Relevance
    samples: int
    seed: int
    sample_size: int

    @classmethod
    def of(
        cls,
        catalogue: pa.Table,
        users: pa.Table,
        relevant: pa.Table | None,
        config: RunConfig,
        samples: int,
    ) -> Meter:
        """Prepares to measure.

        Args:
            catalogue: `item_id` and `group` of every item, and `frequency` for a target by merit.
            users: `user_id` and the columns `slice.<column>`. A user who is not there is `unknown`
                in every slice.
            relevant: `user_id` and `item_id` of what users chose; nothing if that is not known.
            config: The run configuration.
            samples: Number of resamples.
        """
        item_ids = catalogue[ITEM_ID].combine_chunks()
        if relevant is None:
            relevant = pa.table({name: pa.array([], pa.string()) for name in (USER_ID, ITEM_ID)})
        return cls(
            layout=Layout.of(catalogue, config),
            item_ids=item_ids,
            index=CellIndex.of(users, config.slices, config.seed),
            relevance=Relevance.of(relevant, item_ids, config.seed),
            samples=samples,
            seed=config.seed,
            sample_size=config.audit.test_users if config.audit.permutations else 0,
        )

    def empty(self) -> Accumulator:
        """Returns the sums of no list."""
        num_items, num_groups = len(self.item_ids), len(self.layout.groups.labels)
        notes = Notes.empty(self.index, num_items, num_groups, self.sample_size)
        return Accumulator.empty(self.index, self.layout.num_sums, self.samples, notes)

    def measure(self, lists: pa.Table) -> tuple[Accumulator, pa.Table]:
        """Adds up the lists of a table.

        Args:
            lists: `user_id`, `candidate_ids` (list of string, plain or dictionary-encoded; best
                first), `policy`, `model_version`, and the origin of each, see
                `pipelines.readers.chunks`.

        Returns:
            The sums of the lists that can be used, and the other ones as `checks.DEAD_SCHEMA`.
        """
        good, rows, dead = self.usable(lists)
        return self._sums(good, rows), dead

    def usable(self, lists: pa.Table) -> tuple[pa.Table, np.ndarray, pa.Table]:
        """Tells the lists of a table that can be used from others.

        Returns:
            The former without their items; their items as rows of the catalogue, int32
            `[num_lists, depth]`, padded; and the other lists as `checks.DEAD_SCHEMA`.
        """
        lists = lists.combine_chunks()
        candidates = lists[CANDIDATES].combine_chunks()
        rows, strangers = item_rows(candidates, self.item_ids, self.layout.depth)
        rejections = Rejections(len(lists))
        rejections.add(is_missing(lists[USER_ID].combine_chunks()), f"`{USER_ID}` is empty")
        rejections.add(np.diff(_ends(candidates)) == 0, "the list is empty")
        unknown = np.zeros(len(lists), bool)
        unknown[np.searchsorted(_ends(candidates), strangers, side="right") - 1] = True
        rejections.add(unknown, "an item is not in the catalogue")
        rejections.add(hold_an_item_twice(rows), "an item is listed twice")
        good = lists.drop([CANDIDATES]).filter(pa.array(rejections.ok))
        return good, rows[rejections.ok], rejections.dead(lists)

    def _sums(self, lists: pa.Table, rows: np.ndarray) -> Accumulator:
        total = self.empty()
        if not len(lists):
            return total
        users = id_hashes(lists[USER_ID].combine_chunks(), self.seed)
        sums = np.empty((len(rows), self.layout.num_sums))
        for start in range(0, len(rows), _LISTS_PER_BLOCK):
            block = slice(start, start + _LISTS_PER_BLOCK)
            hits, num_relevant = self.relevance.look_up(users[block], rows[block])
            sums[block] = self.layout.measure(rows[block], hits, num_relevant)
        total.add(users, sums, self.layout.has(sums), self.index, self.seed)
        exposure = self.layout.exposure(sums)
        total.notes.add(lists, users, exposure, rows, self.index, len(self.item_ids))
        return total

    def report(
        self, total: Accumulator, config: RunConfig, run: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Returns the figures of lists that were added up, see `figures.audit_of_cells`.

        Args:
            total: The sums of all lists.
            config: The run configuration.
            run: What the lists are, copied into the report.
        """
        details = self.details(total)
        cells = [
            CellSums(int(users), int(lists), sums, resampled)
            for users, lists, sums, resampled in zip(
                details.contains @ details.users[0],
                total.lists,
                total.sums,
                total.resampled,
                strict=True,
            )
        ]
        slices: dict[str, dict[str, CellSums]] = {}
        for (name, value), cell in zip(self.index.names, cells[1:], strict=True):
            if cell.lists:
                slices.setdefault(name, {})[value] = cell
        policies, versions = (
            sorted({kind[part] for kind in total.notes.served}, key=str) for part in range(2)
        )
        served = {POLICY: policies, MODEL_VERSION: versions}
        return audit_of_cells({**run, **served}, self.layout, cells[0], slices, details, config)

    def details(self, total: Accumulator) -> Details:
        """Returns who is in which cells, and what was shown, of lists that were added up."""
        sample = total.notes.sample
        return Details(
            names=self.index.names,
            cells=self.index.cells,
            users=total.users(self.index),
            sample=sample,
            combinations=self.index.combinations[self.index.look_up(sample.users)],
            shown=total.notes.items_shown(len(self.item_ids)),
        )


def _ends(lists: pa.ListArray) -> np.ndarray:
    """Where every list begins and ends among the flattened values, int64 `[num_lists + 1]`."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy()
    return np.append(0, lengths.astype(np.int64).cumsum())
