"""The lists of a run in memory, one per user: sums per user, from which every figure follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairness_losses.errors import InvalidInputError
from pipelines.audit.details import Details, details_of
from pipelines.audit.layout import Layout
from pipelines.audit.list_checks import (
    CANDIDATES,
    MODEL_VERSION,
    POLICY,
    hold_an_item_twice,
    item_rows,
)
from pipelines.audit.relevance import Relevance
from pipelines.config import RunConfig
from pipelines.examples.splits import id_hashes
from pipelines.slicing import Cells, divide
from towers.config import ITEM_ID, USER_ID


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A run's lists, reduced to sums per user from which every figure follows.

    Attributes:
        run: What the run is: its variant, and the policies and model versions it served.
        user_ids: str `[num_users]`, sorted; one list each.
        cells: The users of every slice.
        layout: What the columns of the sums are.
        sums: float64 `[num_users, num_sums]`.
        details: Who is in which cells, and what was shown.
    """

    run: Mapping[str, Any]
    user_ids: np.ndarray
    cells: Cells
    layout: Layout
    sums: np.ndarray
    details: Details


def measure(
    lists: pa.Table,
    catalogue: pa.Table,
    users: pa.Table,
    relevant: pa.Table,
    config: RunConfig,
    run: Mapping[str, Any],
) -> Measurement:
    """Measures every list of a run.

    Args:
        lists: One row per user: `user_id`, `candidate_ids` (best first), `policy` and
            `model_version`. Ranks beyond the largest of `audit.ks` are left out.
        catalogue: `item_id` and `group` of every item.
        users: `user_id` and the columns `slice.<column>`. The slices of a user who is not there
            are `unknown`.
        relevant: `user_id` and `item_id` of the test positives; a pair that repeats counts once.
        config: The run configuration.
        run: What the run is, copied into the report.

    Raises:
        InvalidInputError: A user has two lists, a list holds an item twice, or an item is not in
            the catalogue.
    """
    layout = Layout.of(catalogue, config)
    lists = lists.take(pc.sort_indices(lists[USER_ID]))
    user_ids = lists[USER_ID].combine_chunks()
    item_ids = catalogue[ITEM_ID].combine_chunks()
    rows = _checked_rows(lists[CANDIDATES].combine_chunks(), item_ids, user_ids, layout.depth)
    relevance = Relevance.of(relevant, item_ids, config.seed)
    hits, num_relevant = relevance.look_up(id_hashes(user_ids, config.seed), rows)
    sums = layout.measure(rows, hits, num_relevant)
    cells = divide(user_ids, users, config.slices)
    served = {name: pc.unique(lists[name]).to_pylist() for name in (POLICY, MODEL_VERSION)}
    return Measurement(
        run={**run, **served},
        user_ids=user_ids.to_numpy(zero_copy_only=False),
        cells=cells,
        layout=layout,
        sums=sums,
        details=details_of(
            user_ids,
            cells,
            layout.exposure(sums),
            layout.has(sums),
            rows,
            len(item_ids),
            config.audit.test_users,
            config.seed,
        ),
    )


def _checked_rows(
    candidates: pa.ListArray, item_ids: pa.Array, user_ids: pa.Array, depth: int
) -> np.ndarray:
    rows, strangers = item_rows(candidates, item_ids, depth)
    if len(strangers):
        stranger = pc.list_flatten(candidates)[int(strangers[0])].as_py()
        raise InvalidInputError(
            f"the lists hold item `{stranger}`, which is not in the catalogue. Audit lists with "
            "the catalogue that they were served from."
        )
    if pc.count_distinct(user_ids).as_py() < len(user_ids):
        raise InvalidInputError("a user has more than one list. Keep one list per `user_id`.")
    repeats = hold_an_item_twice(rows)
    if repeats.any():
        user = user_ids[int(repeats.argmax())].as_py()
        raise InvalidInputError(
            f"the list of user `{user}` holds an item twice. A candidate should be listed once."
        )
    return rows
