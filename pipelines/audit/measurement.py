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
from fairness_losses.metrics.divergence import awrf, ndkl
from fairness_losses.metrics.diversity import diversity_at_k
from fairness_losses.metrics.ranking import (
    hit_rate_at_k,
    ndcg_at_k,
    recall_at_k,
    reciprocal_rank_at_k,
)
from fairness_losses.metrics.skew import max_skew, min_skew
from fairness_losses.targets import target_shares
from pipelines.config import RunConfig
from pipelines.slicing import Cells, divide
from towers.config import ITEM_ID, USER_ID

Statistics = dict[tuple[str, ...], np.ndarray]
"""Figures by their path in a cell of the report, each `[...]` for sums `[..., num_sums]`."""

_QUALITY = {
    "recall": recall_at_k,
    "ndcg": ndcg_at_k,
    "mrr": reciprocal_rank_at_k,
    "hit_rate": hit_rate_at_k,
}
_LIST_METRICS = ("diversity", "ndkl")
"""Figures of a list's groups that are averaged over lists, and so need a column each."""


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
        sums: float64 `[num_users, num_metrics + 1 + 4 + 2 * num_groups]`: the metrics (0 for a user
            without a positive), whether the user has a positive; diversity and NDKL (0 where
            undefined), whether each is defined; exposure per group, candidate slots per group.
    """

    run: Mapping[str, Any]
    user_ids: np.ndarray
    cells: Cells
    groups: Groups
    target: np.ndarray
    metrics: tuple[str, ...]
    sums: np.ndarray

    def split(self, sums: np.ndarray) -> list[np.ndarray]:
        """Splits sums into quality, positives, list metrics, where defined, exposure and slots."""
        lengths = [len(self.metrics), 1, *[len(_LIST_METRICS)] * 2, len(self.groups.labels)]
        return np.split(sums, np.cumsum(lengths), axis=-1)

    def statistics(self, sums: np.ndarray) -> Statistics:
        """Returns every figure of a cell from its users' sums, `[..., num_sums]`."""
        quality, positives, of_lists, defined, exposure, slots = self.split(sums)
        with np.errstate(invalid="ignore", divide="ignore"):
            quality, of_lists = quality / positives, of_lists / defined
        figures: Statistics = {
            ("quality", name): quality[..., i] for i, name in enumerate(self.metrics)
        }
        if not self.groups.labels:
            return figures
        by_group = {
            "candidate_share": exposure_share(slots, self.target),
            "exposure_share": exposure_share(exposure, self.target),
            "exposure_ratio": exposure_ratio(exposure, self.target),
        }
        for i, label in enumerate(self.groups.labels):
            for name, values in by_group.items():
                figures["groups", label, name] = values[..., i]
        # Resamples of an extreme or a divergence lie further from the target than the sample does:
        # near the target these intervals lean away from it and may leave the value out.
        across_groups = {
            "min_skew": min_skew(slots, self.target),
            "max_skew": max_skew(slots, self.target),
            "awrf": awrf(exposure, self.target),
            **{name: of_lists[..., i] for i, name in enumerate(_LIST_METRICS)},
        }
        return figures | {("across_groups", name): v for name, v in across_groups.items()}

    def counts(self, sums: np.ndarray) -> dict[tuple[str, ...], int]:
        """Returns what the figures of a cell rest on, by the first two steps of their paths.

        Those of a group rest on its candidate slots, all others on users.

        Args:
            sums: float64 `[num_sums]`, of the cell's users.
        """
        _, positives, _, defined, _, slots = self.split(sums)
        # Diversity is defined for every list, and its count is the number of users.
        users = dict.fromkeys(("min_skew", "max_skew", "awrf"), defined[0])
        of_lists = dict(zip(_LIST_METRICS, defined, strict=True))
        of_groups = zip(self.groups.labels, slots, strict=True)
        counts = {
            **{("quality", name): positives[0] for name in self.metrics},
            **{("across_groups", name): n for name, n in (users | of_lists).items()},
            **{("groups", label): n for label, n in of_groups},
        }
        return {path: round(float(count)) for path, count in counts.items()}


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
        for name, metric in _QUALITY.items()
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
                _list_metrics(rows, groups, target),
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


def _list_metrics(rows: np.ndarray, groups: Groups, target: np.ndarray) -> np.ndarray:
    """The list metrics of every list (0 where undefined) and whether each is defined."""
    if not groups.labels:
        return np.zeros((len(rows), 2 * len(_LIST_METRICS)))
    values = np.column_stack(
        [
            diversity_at_k(rows, groups.membership, target, rows.shape[1]),
            ndkl(rows, groups.membership, target),
        ]
    )
    return np.hstack([np.nan_to_num(values), ~np.isnan(values)])


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
