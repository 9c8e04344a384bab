"""What an audit needs to know of a run's lists: sums per user, from which every figure follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairness_losses.browsing import dcg_weights
from fairness_losses.errors import InvalidInputError
from fairness_losses.exposure import PADDING, exposure_ratio, exposure_share, list_exposure
from fairness_losses.groups import Groups
from fairness_losses.metrics.ranking import ndcg_at_k, recall_at_k
from fairness_losses.targets import target_shares
from pipelines.audit.slicing import Cells, divide
from pipelines.config import RunConfig
from towers.config import ITEM_ID, USER_ID

Statistics = dict[tuple[str, ...], np.ndarray]
"""Figures by their path in a cell of the report, each `[...]` for sums `[..., num_sums]`."""


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A run's lists, reduced to sums per user from which every figure follows.

    Attributes:
        run: What the run is: its variant, and the policies and model versions it served.
        user_ids: str `[num_users]`, sorted; one list each.
        cells: The users of every slice.
        groups: Groups of the catalogue; no group at all if the run has no `groups`.
        target: float64 `[num_groups]`, target shares, 0 for none.
        metrics: Names of the quality metrics.
        sums: float64 `[num_users, num_metrics + 1 + 2 * num_groups]`: the metrics (0 for a user
            without a positive), whether the user has a positive, exposure per group, candidate
            slots per group.
    """

    run: Mapping[str, Any]
    user_ids: np.ndarray
    cells: Cells
    groups: Groups
    target: np.ndarray
    metrics: tuple[str, ...]
    sums: np.ndarray

    def split(self, sums: np.ndarray) -> list[np.ndarray]:
        """Splits sums into quality, users with a positive, exposure and slots."""
        quality, positives = len(self.metrics), len(self.metrics) + 1
        return np.split(sums, [quality, positives, positives + len(self.groups.labels)], axis=-1)

    def statistics(self, sums: np.ndarray) -> Statistics:
        """Returns every figure of a cell from its users' sums, `[..., num_sums]`."""
        quality, positives, exposure, slots = self.split(sums)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = quality / positives
        by_group = {
            "candidate_share": exposure_share(slots, self.target),
            "exposure_share": exposure_share(exposure, self.target),
            "exposure_ratio": exposure_ratio(exposure, self.target),
        }
        figures: Statistics = {
            ("quality", name): means[..., i] for i, name in enumerate(self.metrics)
        }
        for i, label in enumerate(self.groups.labels):
            for name, values in by_group.items():
                figures["groups", label, name] = values[..., i]
        return figures


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
    depth = max(config.audit.ks)
    lists = lists.take(pc.sort_indices(lists[USER_ID]))
    user_ids = _flat(lists[USER_ID])
    rows = _item_rows(_flat(lists["candidate_ids"]), _flat(catalogue[ITEM_ID]), depth)
    _check_lists(rows, user_ids)
    groups, target = _groups_of(catalogue, config)
    hits, num_relevant = _relevance(rows, user_ids, catalogue, relevant)
    quality = {
        f"{name}@{k}": metric(hits, num_relevant, k)
        for k in sorted(config.audit.ks)
        for name, metric in (("recall", recall_at_k), ("ndcg", ndcg_at_k))
    }
    served = {name: pc.unique(lists[name]).to_pylist() for name in ("policy", "model_version")}
    return Measurement(
        run={**run, **served},
        user_ids=user_ids.to_numpy(zero_copy_only=False),
        cells=divide(user_ids, users, config.slices),
        groups=groups,
        target=target,
        metrics=tuple(quality),
        sums=np.column_stack(
            [
                *(np.nan_to_num(values) for values in quality.values()),
                num_relevant > 0,
                list_exposure(rows, groups.membership, dcg_weights(depth)),
                list_exposure(rows, groups.membership, np.ones(depth)),
            ]
        ),
    )


def _flat(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()


def _item_rows(candidates: pa.ListArray, item_ids: pa.Array, depth: int) -> np.ndarray:
    """Catalogue rows of the first `depth` candidates, int `[num_users, depth]`, padded."""
    flat = pc.list_flatten(candidates)
    item = pc.index_in(flat, value_set=item_ids)
    if item.null_count:
        stranger = flat.filter(pc.is_null(item))[0].as_py()
        raise InvalidInputError(
            f"the lists hold item `{stranger}`, which is not in the catalogue. Audit lists with "
            "the catalogue that they were served from."
        )
    lengths = pc.fill_null(pc.list_value_length(candidates), 0).to_numpy().astype(np.int64)
    user = np.repeat(np.arange(len(lengths)), lengths)
    rank = np.arange(len(user)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    kept = rank < depth
    rows = np.full((len(lengths), depth), PADDING)
    rows[user[kept], rank[kept]] = item.to_numpy()[kept]
    return rows


def _check_lists(rows: np.ndarray, user_ids: pa.Array) -> None:
    if pc.count_distinct(user_ids).as_py() < len(user_ids):
        raise InvalidInputError("a user has more than one list. Keep one list per `user_id`.")
    ordered = np.sort(rows, axis=1)
    repeats = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PADDING)
    if repeats.any():
        user = user_ids[int(repeats.any(axis=1).argmax())].as_py()
        raise InvalidInputError(
            f"the list of user `{user}` holds an item twice. A candidate should be listed once."
        )


def _groups_of(catalogue: pa.Table, config: RunConfig) -> tuple[Groups, np.ndarray]:
    if config.groups is None:
        return Groups((), np.zeros((len(catalogue), 0), np.float32)), np.zeros(0)
    groups = Groups.from_labels(catalogue["group"].to_pylist())
    target = config.fairness.target
    chosen = catalogue["frequency"].to_numpy() if target.kind == "merit" else None
    return groups, target_shares(groups, target, chosen)


def _relevance(
    rows: np.ndarray, user_ids: pa.Array, catalogue: pa.Table, relevant: pa.Table
) -> tuple[np.ndarray, np.ndarray]:
    """Whether the item at a rank is relevant, and the relevant items per user, listed or not."""
    pairs = relevant.select([USER_ID, ITEM_ID]).group_by([USER_ID, ITEM_ID]).aggregate([])
    user = pc.index_in(pairs[USER_ID], value_set=user_ids)
    pairs, user = pairs.filter(pc.is_valid(user)), user.drop_null().to_numpy()
    item = pc.index_in(pairs[ITEM_ID], value_set=_flat(catalogue[ITEM_ID]))
    listable = pc.is_valid(item).to_numpy()
    # One number per (user, item), so that all hits are found in one pass.
    wanted = user[listable] * np.int64(len(catalogue)) + item.drop_null().to_numpy()
    listed = np.arange(len(rows))[:, None] * len(catalogue) + rows
    hits = np.isin(listed, wanted) & (rows != PADDING)
    return hits, np.bincount(user, minlength=len(rows))
