"""Exact evaluation: every user's best items out of the whole catalogue."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from fairness_losses.browsing import dcg_weights
from fairness_losses.exposure import exposure_ratio, list_exposure
from fairness_losses.groups import Groups
from fairness_losses.metrics.ranking import ndcg_at_k, recall_at_k
from towers.catalogue import EntityTable
from towers.exact_search import ExactSearch

_SCORES_PER_BLOCK = 20_000_000
"""Scores held in memory at a time."""


@dataclasses.dataclass(frozen=True)
class Positives:
    """Sets of items per user, as a sorted list of pairs.

    Attributes:
        rows: int64 `[num_pairs]`, positions of the users, ascending.
        items: int64 `[num_pairs]`, rows of the catalogue.
        num_users: Number of users that positions run over.
    """

    rows: np.ndarray
    items: np.ndarray
    num_users: int

    @classmethod
    def from_pairs(cls, rows: np.ndarray, items: np.ndarray, num_users: int) -> Positives:
        """Sorts pairs by user and drops repetitions."""
        pairs = np.unique(np.stack([rows, items], axis=1).astype(np.int64), axis=0)
        return cls(pairs[:, 0], pairs[:, 1], num_users)

    def counts(self) -> np.ndarray:
        """Items per user, int64 `[num_users]`."""
        return np.bincount(self.rows, minlength=self.num_users)

    def pairs(self, start: int, stop: int) -> np.ndarray:
        """The sets of some users, int64 `[n, 2]`: user, counted from `start`, and item."""
        first, last = np.searchsorted(self.rows, [start, stop])
        return np.stack([self.rows[first:last] - start, self.items[first:last]], axis=1)

    def holds(self, start: int, lists: np.ndarray) -> np.ndarray:
        """Which items on the lists of users from `start` on are in their sets.

        Args:
            start: Position of the first list's user.
            lists: int `[num_lists, k]`, -1 for none.

        Returns:
            Bool `[num_lists, k]`.
        """
        pairs = self.pairs(start, start + len(lists))
        if not len(pairs):
            return np.zeros(lists.shape, dtype=bool)
        # One number for a user and an item; the one below a user's first is no item of the last.
        width = 2 + max(pairs[:, 1].max(), lists.max(initial=0))
        keys = pairs[:, 0] * width + pairs[:, 1]
        wanted = np.arange(len(lists))[:, None] * width + lists
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        return keys[found] == wanted


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """Users to evaluate, what they chose afterwards, and what they had chosen before.

    Attributes:
        columns: Looked-up query features, `[num_users]` or `[num_users, values]` each.
        slices: str `[num_users]` per slice column.
        relevant: Held-out items per user.
        seen: Items per user that are left out of the lists.
    """

    columns: Mapping[str, np.ndarray]
    slices: Mapping[str, np.ndarray]
    relevant: Positives
    seen: Positives

    @classmethod
    def build(
        cls,
        users: EntityTable,
        relevant: tuple[np.ndarray, np.ndarray],
        seen: tuple[np.ndarray, np.ndarray],
        max_users: int,
    ) -> HeldOut:
        """Collects the users with something held out.

        What a user had chosen before is left out of the lists, so it cannot be relevant either.

        Args:
            users: All users.
            relevant: User rows and item rows, `[n]` each, of the held-out part.
            seen: User rows and item rows, `[m]` each, of the training part.
            max_users: Evaluates at most so many users, evenly spread over the table.
        """
        relevant = _without(relevant, seen)
        who = np.unique(relevant[0])
        if len(who) > max_users:
            who = who[np.linspace(0, len(who) - 1, max_users).astype(int)]
        position = np.full(len(users), -1)
        position[who] = np.arange(len(who))

        def positives(pairs: tuple[np.ndarray, np.ndarray]) -> Positives:
            rows = position[pairs[0]]
            return Positives.from_pairs(rows[rows >= 0], pairs[1][rows >= 0], len(who))

        return cls(
            columns={name: column[who] for name, column in users.columns.items()},
            slices={name: labels[who] for name, labels in users.labels.items()},
            relevant=positives(relevant),
            seen=positives(seen),
        )

    def __len__(self) -> int:
        return self.relevant.num_users


def _without(
    pairs: tuple[np.ndarray, np.ndarray], known: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """The pairs that are not among the known ones."""
    num_items = 1 + max(pairs[1].max(initial=0), known[1].max(initial=0))
    pair, old = (rows.astype(np.int64) * num_items + items for rows, items in (pairs, known))
    new = ~np.isin(pair, old)
    return pairs[0][new], pairs[1][new]


def exact_lists(
    query: np.ndarray, candidate: np.ndarray, seen: Positives, k: int
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields the best unseen items of blocks of users.

    Args:
        query: float32 `[num_users, dim]`.
        candidate: float32 `[num_items, dim]`.
        seen: Items per user to leave out.
        k: Length of the lists, at most `num_items`.

    Yields:
        Position of the block's first user, and int32 `[block, k]` rows of the catalogue, best
        first, ties by row; -1 where a user has fewer than `k` unseen items.
    """
    block = max(1, _SCORES_PER_BLOCK // len(candidate))
    search = ExactSearch(candidate, k)
    for start in range(0, len(query), block):
        stop = min(start + block, len(query))
        yield start, search(query[start:stop], seen.pairs(start, stop))


def evaluate(
    query: np.ndarray,
    candidate: np.ndarray,
    held_out: HeldOut,
    ks: Sequence[int],
    groups: Groups | None = None,
    target: np.ndarray | None = None,
    min_users: int = 20,
) -> dict[str, float]:
    """Recall and NDCG overall and per user slice, and exposure per item group.

    Args:
        query: float32 `[num_users, dim]`, vectors of `held_out`'s users.
        candidate: float32 `[num_items, dim]`, the whole catalogue.
        held_out: Users, and what is relevant to them.
        ks: Cutoffs; exposure is counted to the largest.
        groups: Groups of the items.
        target: Target shares `[num_groups]`.
        min_users: Slices of fewer users are left out.

    Returns:
        `recall@k` and `ndcg@k`; the same with `[column=value]` behind per slice; and
        `exposure_ratio[group]` per group with a target.
    """
    depth = min(max(ks), len(candidate))
    hits = np.zeros((len(held_out), depth), dtype=bool)
    exposure = np.zeros(len(groups.labels) if groups else 0)
    weights = dcg_weights(depth)
    for start, lists in exact_lists(query, candidate, held_out.seen, depth):
        hits[start : start + len(lists)] = held_out.relevant.holds(start, lists)
        if groups is not None:
            exposure += list_exposure(lists, groups.membership, weights).sum(axis=0)
    metrics = _quality(hits, held_out, ks, min_users)
    if groups is not None and target is not None:
        ratios = exposure_ratio(exposure, target)
        metrics |= {
            f"exposure_ratio[{label}]": float(ratio)
            for label, ratio, share in zip(groups.labels, ratios, target, strict=True)
            if share > 0
        }
    return metrics


def _quality(
    hits: np.ndarray, held_out: HeldOut, ks: Sequence[int], min_users: int
) -> dict[str, float]:
    counts, depth = held_out.relevant.counts(), hits.shape[1]
    slices = {
        f"[{column}={label}]": labels == label
        for column, labels in held_out.slices.items()
        for label, users in zip(*np.unique(labels, return_counts=True), strict=True)
        if users >= min_users
    }
    metrics = {}
    for k in ks:
        for name, metric in (("recall", recall_at_k), ("ndcg", ndcg_at_k)):
            values = metric(hits, counts, min(k, depth))
            metrics[f"{name}@{k}"] = float(values.mean())
            for where, users in slices.items():
                metrics[f"{name}@{k}{where}"] = float(values[users].mean())
    return metrics
