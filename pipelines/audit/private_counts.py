"""Counts of an audit with differential privacy: per cell, lists and listed places of each group.

What is protected is a user, with all lists. From each, at most `lists_per_user` lists count: those
with the least hashes of their ids, a choice that no other user has a part in. A user is in one cell
of every slice, so adding or removing one changes, in each slice, one count of lists by at most
`lists_per_user` and the places of one cell by at most `lists_per_user * depth` in sum. Epsilon is
divided equally among the slices (everybody is a slice of one cell) and, in each, between lists and
places; then

    noise of lists  ~ discrete Laplace(2 * slices * lists_per_user / epsilon)
    noise of places ~ discrete Laplace(2 * slices * lists_per_user * depth / epsilon)

Cells are those of the users table, with lists or without: which ones occur is no secret then. The
release is once for a log: of two, the losses add up. Figures of the ordinary report are not private
in this sense; do not publish both.

Sources: Dwork and Roth, "The Algorithmic Foundations of Differential Privacy", 2014, sections 3.3
and 3.5; Wilson et al., "Differentially Private SQL with Bounded User Contribution", PETS 2020, for
clipping.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from typing import Any, Literal

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import AsSingleton

from pipelines.audit.cell_index import CellIndex
from pipelines.audit.discrete_laplace import discrete_laplace
from pipelines.audit.list_files import LIST_ID
from pipelines.audit.meter import Meter
from pipelines.config import PrivateCountsConfig
from pipelines.examples.arrow_ipc import from_bytes, to_bytes
from pipelines.examples.splits import id_hashes, pair_hashes
from towers.config import USER_ID

_SHARDS = 64
"""Users are divided into so many parts, of which a worker holds one at a time."""

_USER, _LIST = "user", "list"


class ClippedCounts(beam.PTransform):
    """Tables of lists to counts per combination of cells, each user with few lists at most.

    Its output is one int64 array `[num_combinations, 1 + num_groups]`: lists, and places of every
    group. These counts are exact: they are not to be shown.

    Args:
        config: Of the release.
        meter: One element, the `Meter`.
    """

    def __init__(self, config: PrivateCountsConfig, meter: beam.PCollection) -> None:
        super().__init__()
        self._most, self._meter = config.lists_per_user, meter

    def expand(self, tables: beam.PCollection) -> beam.PCollection:
        """Returns the counts."""
        meter = AsSingleton(self._meter)
        return (
            tables
            | "Places of lists" >> beam.FlatMap(places_by_shard, meter)
            | "Lists of a shard" >> beam.GroupByKey()
            | "Few lists of each user" >> beam.Map(clipped, meter, self._most)
            | "Add counts" >> beam.CombineGlobally(_sum)
        )


def places_by_shard(table: bytes, meter: Meter) -> Iterator[tuple[int, bytes]]:
    """Yields, by shard of the users, who has which list and the places of every group in it."""
    lists, rows, _ = meter.usable(from_bytes(table))
    users = id_hashes(lists[USER_ID].combine_chunks(), meter.seed)
    ids = users
    if LIST_ID in lists.column_names:
        ids = pair_hashes(users, id_hashes(lists[LIST_ID].combine_chunks(), meter.seed))
    columns = {_USER: users, _LIST: ids}
    places = meter.layout.places(rows)
    columns |= {str(group): places[:, group] for group in range(places.shape[1])}
    shard = (users % np.uint64(_SHARDS)).astype(np.int64)
    found = pa.table(columns)
    for number in np.unique(shard):
        yield int(number), to_bytes(found.filter(pa.array(shard == number)))


def clipped(shard: tuple[int, Iterable[bytes]], meter: Meter, most_lists: int) -> np.ndarray:
    """Counts the lists of a shard's users, of each user those with the least hashes.

    Args:
        shard: What `places_by_shard` yields.
        meter: Knows the users' cells.
        most_lists: Of one user.

    Returns:
        int64 `[num_combinations, 1 + num_groups]`.
    """
    lists = pa.concat_tables(map(from_bytes, shard[1]))
    users, ids = lists[_USER].to_numpy(), lists[_LIST].to_numpy()
    order = np.lexsort((ids, users))
    starts = np.flatnonzero(np.append(True, users[order][1:] != users[order][:-1]))
    nth = np.arange(len(users)) - np.repeat(starts, np.diff(np.append(starts, len(users))))
    kept = order[nth < most_lists]
    combination = meter.index.combinations[meter.index.look_up(users[kept])]
    groups = [lists[name].to_numpy()[kept] for name in lists.column_names[2:]]
    counts = np.zeros((len(meter.index.cells), 1 + len(groups)), np.int64)
    np.add.at(counts, combination, np.column_stack([np.ones(len(kept), np.int64), *groups]))
    return counts


def _sum(counts: Iterable[np.ndarray]) -> Any:
    return sum(counts)


def release(
    counts: np.ndarray | Literal[0],
    index: CellIndex,
    groups: Sequence[str],
    depth: int,
    config: PrivateCountsConfig,
    source: random.Random | None = None,
) -> dict[str, Any]:
    """Adds noise to counts.

    Args:
        counts: What `ClippedCounts` found; 0 if there was no list.
        index: The cells of the combinations.
        groups: Names.
        depth: Of a list.
        config: Of the release.
        source: Of randomness; that of the system by default, which is what a release needs.

    Returns:
        JSON values: `epsilon`, `lists_per_user`, `noise`, the scale of `lists` and `places`; and
        `overall` and `slices`, by name and value: `lists`, and `places` by group. A count may be
        negative: it is left as it is, since cutting it off would bias sums.
    """
    source = source or secrets.SystemRandom()
    slices = index.cells.shape[1]
    lists_scale = Fraction(2 * slices * config.lists_per_user) / Fraction(str(config.epsilon))
    scales = [lists_scale, lists_scale * depth]
    cells = np.zeros((index.num_cells, 1 + len(groups)), np.int64)
    counts = np.broadcast_to(counts, (len(index.cells), 1 + len(groups)))
    for column in range(slices):
        np.add.at(cells, index.cells[:, column], counts)

    def noisy(cell: np.ndarray) -> dict[str, Any]:
        lists, *places = (
            int(count) + discrete_laplace(scales[number > 0], source)
            for number, count in enumerate(cell)
        )
        return {"lists": lists, "places": dict(zip(groups, places, strict=True))}

    found: dict[str, Any] = {
        "epsilon": config.epsilon,
        "lists_per_user": config.lists_per_user,
        "noise": {"lists": float(scales[0]), "places": float(scales[1])},
        "overall": noisy(cells[0]),
        "slices": {},
    }
    for (name, value), cell in zip(index.names, cells[1:], strict=True):
        found["slices"].setdefault(name, {})[value] = noisy(cell)
    return found
