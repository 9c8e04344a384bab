"""Items and the groups they belong to."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from fairness_losses.config import UNKNOWN


@dataclasses.dataclass(frozen=True)
class Groups:
    """The groups of a catalogue.

    Attributes:
        labels: Group names, sorted, with `unknown` last where it occurs.
        membership: float32 `[num_items, num_groups]`; each row sums to 1. An item of two groups
            (a film with two directors) has a fraction in each.
    """

    labels: tuple[str, ...]
    membership: np.ndarray

    def __post_init__(self) -> None:
        if self.membership.ndim != 2 or self.membership.shape[1] != len(self.labels):
            raise ValueError(
                f"`membership` should have the shape [num_items, {len(self.labels)}], one column "
                f"per label. Received: {list(self.membership.shape)}."
            )

    @classmethod
    def from_labels(cls, labels: Sequence[str] | np.ndarray) -> Groups:
        """Groups of items that belong to one group each.

        Args:
            labels: Group of every item, `[num_items]`; `unknown` where nobody stated it.
        """
        names, codes = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
        order = np.argsort(names == UNKNOWN, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        membership = np.eye(len(names), dtype=np.float32)[rank[codes]]
        return cls(tuple(str(n) for n in names[order]), membership)

    @property
    def codes(self) -> np.ndarray:
        """Number of the label with the largest part of an item, int32 `[num_items]`."""
        return self.membership.argmax(axis=1).astype(np.int32)

    @classmethod
    def from_sets(cls, labels: Sequence[Sequence[str]]) -> Groups:
        """Groups of items that belong to several at once, equal parts to each.

        Args:
            labels: The groups of every item, `[num_items]` lists; `unknown` for an empty one. A
                label that occurs twice counts twice: of three directors two may be women.
        """
        sets = [list(of_item) or [UNKNOWN] for of_item in labels]
        sizes = np.array([len(of_item) for of_item in sets], dtype=np.int64)
        parts = cls.from_labels([label for of_item in sets for label in of_item])
        membership = np.zeros((len(sets), len(parts.labels)), np.float32)
        item = np.repeat(np.arange(len(sets)), sizes)
        np.add.at(membership, item, parts.membership / sizes[item, None])
        return cls(parts.labels, membership)

    def crossed(self, other: Groups) -> Groups:
        """Intersections with the groups of another attribute of the same items.

        An item with the fractions `a` and `b` in two groups has `a * b` in their intersection.
        What is unknown in either attribute is `unknown`; intersections without items are left out.

        Args:
            other: Groups of the same items by another attribute.

        Raises:
            ValueError: The attributes are of different numbers of items.
        """
        if len(self.membership) != len(other.membership):
            raise ValueError(
                f"`other` should have {len(self.membership)} items. "
                f"Received: {len(other.membership)}."
            )
        products = self.membership[:, :, None] * other.membership[:, None, :]
        known = ~(self.is_unknown[:, None] | other.is_unknown)
        columns = {
            f"{self.labels[i]} × {other.labels[j]}": products[:, i, j]
            for i, j in zip(*np.nonzero(known), strict=True)
        }
        columns[UNKNOWN] = products[:, ~known].sum(axis=1)
        present = {label: column for label, column in columns.items() if column.any()}
        ordered = sorted(present, key=lambda label: (label == UNKNOWN, label))
        membership = np.stack([present[label] for label in ordered], axis=1)
        return Groups(tuple(ordered), membership.astype(np.float32))

    @property
    def catalogue_share(self) -> np.ndarray:
        """Share of the catalogue per group, float64 `[num_groups]`, `unknown` included."""
        return self.membership.mean(axis=0, dtype=np.float64)

    @property
    def is_unknown(self) -> np.ndarray:
        """Bool `[num_groups]`, true for the group `unknown`."""
        return np.array([label == UNKNOWN for label in self.labels], dtype=bool)
