"""What a finished set of examples says about itself: catalogue, vocabularies, counts."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairness_losses.config import UNKNOWN
from pipelines.config import SliceConfig
from pipelines.examples.arrow_ipc import from_bytes, to_bytes
from pipelines.examples.histories import history_column
from pipelines.examples.inputs import FREQUENCY, GROUP
from pipelines.examples.record_files import RecordFile
from pipelines.examples.splits import HASH
from pipelines.file_systems import StrPath, join, whole_file, write_json
from pipelines.slicing import divide, reading_order
from towers.config import (
    ITEM_ID,
    USER_ID,
    CategoricalFeature,
    Feature,
    FeaturesConfig,
    IdFeature,
)

_ROW_GROUP = 65_536

_DENSE = 32
"""Counting by place is faster than sorting for numbers up to so many times their count."""


@dataclasses.dataclass(frozen=True)
class ShardReport:
    """What became of one shard.

    Attributes:
        written: Part to the file of its examples.
        user_counts: Row of the users table, code of the items' group and number of training
            examples, int64 `[3, n]`.
        item_counts: Row of the items table and number of training examples, int64 `[2, n]`.
        choices: What `histories.last_choices` found, as Arrow bytes; no rows without a history
            feature.
    """

    written: dict[str, RecordFile]
    user_counts: np.ndarray
    item_counts: np.ndarray
    choices: bytes


@dataclasses.dataclass(frozen=True)
class UsersSummary:
    """What some of the users amount to; those of all users follow by addition.

    Attributes:
        users: How many they are.
        vocabularies: Column to its values and their training examples, as Arrow bytes.
        positives: Slice and value to `users`, those with training examples, and `positives`, these
            per group of the items.
    """

    users: int
    vocabularies: dict[str, bytes]
    positives: dict[str, dict[str, dict[str, Any]]]


@dataclasses.dataclass(frozen=True)
class ItemsSummary:
    """What some of the items amount to; those of all items follow by addition.

    Attributes:
        vocabularies: Column to its values and their training examples, as Arrow bytes.
        groups: Group to its items and their training examples.
    """

    vocabularies: dict[str, bytes]
    groups: dict[str, tuple[int, int]]


def count_rows(rows: np.ndarray) -> np.ndarray:
    """Returns the distinct values, increasing, and how often each occurs, int64 `[2, distinct]`.

    Args:
        rows: Whole numbers `[num_rows]`.
    """
    if len(rows) and rows.min() >= 0 and rows.max() < _DENSE * len(rows):
        counts = np.bincount(rows)
        present = np.flatnonzero(counts)
        return np.stack([present, counts[present]])
    return np.stack(np.unique(rows, return_counts=True)).astype(np.int64)


def group_codes(items: pa.Table) -> tuple[list[str], np.ndarray]:
    """Returns the groups' labels, and of every item the position of its own, int64 `[num_items]`.

    Args:
        items: The checked items table.
    """
    labels, codes = np.unique(items[GROUP].to_numpy().astype(str), return_inverse=True)
    return labels.tolist(), codes


def summarise_users(
    users: pa.Table,
    user_counts: np.ndarray,
    groups: Sequence[str],
    features: FeaturesConfig,
    slices: Sequence[SliceConfig],
) -> UsersSummary:
    """Summarises users.

    Args:
        users: Rows of the checked users table.
        user_counts: As in `ShardReport`, of all examples of these users.
        groups: What the codes in `user_counts` stand for.
        features: The features of both sides.
        slices: The divisions of the users.
    """
    examples = total_counts([user_counts[[0, 2]]], len(users))
    return UsersSummary(
        users=len(users),
        vocabularies=_vocabularies(users, examples, _numbered_columns(features.query)),
        positives=_positives(users, user_counts, groups, slices),
    )


def summarise_items(
    items: pa.Table, item_counts: np.ndarray, features: FeaturesConfig
) -> ItemsSummary:
    """Summarises items.

    Args:
        items: Rows of the checked items table.
        item_counts: Training examples of every item, int64 `[num_items]`.
        features: The features of both sides.
    """
    # Items of a history are numbered even if the candidate tower does not see their ids.
    columns = _numbered_columns(features.candidate) | ({ITEM_ID} if features.history else set())
    labels, codes = group_codes(items)
    of_group = [np.bincount(codes, weights, len(labels)) for weights in (None, item_counts)]
    return ItemsSummary(
        vocabularies=_vocabularies(items, item_counts, columns),
        groups={
            label: (int(size), int(examples))
            for label, size, examples in zip(labels, *of_group, strict=True)
        },
    )


def write_summaries(
    folder: StrPath,
    users: Sequence[UsersSummary],
    items: Sequence[ItemsSummary],
    files: Iterable[RecordFile],
    slices: Sequence[SliceConfig],
) -> None:
    """Writes what describes the examples.

    That is `vocabularies/`, `groups.json`, `positives.json`, training examples of every group in
    every slice, and `shards.json`, what the files hold.

    Args:
        folder: Where.
        users: Summaries of all users.
        items: Summaries of all items.
        files: All files of examples.
        slices: The divisions of the users.
    """
    for part in (users, items):
        for column in {column for summary in part for column in summary.vocabularies}:
            counts = pa.concat_tables(from_bytes(s.vocabularies[column]) for s in part)
            path = join(folder, "vocabularies", f"{column}.parquet")
            _write_table(path, _merged_vocabulary(counts))
    groups = _merged_groups(items)
    write_json(join(folder, "groups.json"), _group_shares(groups))
    write_json(join(folder, "positives.json"), _merged_positives(users, sorted(groups), slices))
    shards = {
        file.name: {"records": file.records, "sha256": file.sha256}
        for file in sorted(files, key=lambda file: file.name)
    }
    write_json(join(folder, "shards.json"), shards)


def write_users(
    path: StrPath,
    users: pa.Table,
    items: pa.Table,
    shards: Sequence[ShardReport],
    features: FeaturesConfig,
) -> None:
    """Writes rows of the users table, with the column of the history feature, if there is one.

    Args:
        path: The file.
        users: Rows of the checked users table, with `HASH`, which is left out.
        items: Rows of the checked items table, all that these users have chosen.
        shards: Reports of all examples of these users.
        features: The features of both sides.
    """
    if features.history:
        choices = (from_bytes(shard.choices) for shard in shards)
        lists = history_column(choices, len(users), items[ITEM_ID].combine_chunks())
        users = users.append_column(features.history.column, lists)
    _write_table(path, users.drop([HASH]))


def write_items(path: StrPath, items: pa.Table, item_counts: np.ndarray) -> None:
    """Writes rows of the catalogue: the checked items, without `HASH`, and training examples."""
    _write_table(path, items.drop([HASH]).add_column(2, FREQUENCY, pa.array(item_counts)))


def total_counts(counts: Iterable[np.ndarray], num_rows: int) -> np.ndarray:
    """Adds up rows and their counts, `[2, n]` each, to a count for every row, int64."""
    total = np.zeros(num_rows, np.int64)
    for rows, values in counts:
        np.add.at(total, rows, values)
    return total


def _write_table(path: StrPath, table: pa.Table) -> None:
    # Small row groups, so that several workers can read the file.
    with whole_file(path) as file:
        pq.write_table(table, file, row_group_size=_ROW_GROUP)


def _numbered_columns(features: Sequence[Feature]) -> set[str]:
    """Columns whose values have an embedding each; hashed ones need no vocabulary."""
    kinds = IdFeature | CategoricalFeature
    return {f.column for f in features if isinstance(f, kinds) and f.bins is None}


def _vocabularies(
    table: pa.Table, examples: np.ndarray, columns: Collection[str]
) -> dict[str, bytes]:
    """Values of columns that occur in training and how often, given every row's examples."""
    return {column: to_bytes(_vocabulary(table[column], examples)) for column in columns}


def _vocabulary(column: pa.ChunkedArray, examples: np.ndarray) -> pa.Table:
    values, weights = column.combine_chunks(), examples
    if pa.types.is_list(values.type):
        weights = weights[pc.list_parent_indices(values).to_numpy()]
        values = pc.list_flatten(values)
    return _merged_vocabulary(pa.table({"value": values, "count": weights}))


def _merged_vocabulary(counts: pa.Table) -> pa.Table:
    """Distinct values, the most frequent first; none that does not occur."""
    totals = counts.group_by("value").aggregate([("count", "sum")])
    vocabulary = pa.table({"value": totals["value"], "count": totals["count_sum"]})
    vocabulary = vocabulary.filter(pc.greater(vocabulary["count"], 0))
    return vocabulary.sort_by([("count", "descending"), ("value", "ascending")])


def _positives(
    users: pa.Table, user_counts: np.ndarray, groups: Sequence[str], slices: Sequence[SliceConfig]
) -> dict[str, dict[str, dict[str, Any]]]:
    """As in `UsersSummary`."""
    user, group, count = user_counts
    active = np.unique(user)
    positives: dict[str, dict[str, dict[str, Any]]] = {}
    for name, of_slice in divide(users[USER_ID].combine_chunks(), users, slices).slices.items():
        cell_of_user = np.zeros(len(users), np.int64)
        for cell, rows in enumerate(of_slice.values()):
            cell_of_user[rows] = cell
        counts = np.zeros((len(of_slice), len(groups)), np.int64)
        np.add.at(counts, (cell_of_user[user], group), count)
        num_users = np.bincount(cell_of_user[active], minlength=len(of_slice))
        positives[name] = {
            value: {
                "users": int(num_users[cell]),
                "positives": dict(zip(groups, counts[cell].tolist(), strict=True)),
            }
            for cell, value in enumerate(of_slice)
        }
    return positives


def _merged_positives(
    parts: Sequence[UsersSummary], groups: Sequence[str], slices: Sequence[SliceConfig]
) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name in [cut.name for cut in slices]:
        values = {value for part in parts for value in part.positives[name]}
        merged[name] = {
            value: _sum_of_cells([part.positives[name].get(value) for part in parts], groups)
            for value in sorted(values, key=reading_order)
        }
    return merged


def _sum_of_cells(cells: Sequence[dict[str, Any] | None], groups: Sequence[str]) -> dict[str, Any]:
    there = [cell for cell in cells if cell]
    return {
        "users": sum(cell["users"] for cell in there),
        "positives": {g: sum(cell["positives"].get(g, 0) for cell in there) for g in groups},
    }


def _merged_groups(parts: Sequence[ItemsSummary]) -> dict[str, tuple[int, int]]:
    """Items and training examples per group, `unknown` last."""
    labels = {label for part in parts for label in part.groups}
    return {
        label: tuple(np.sum([p.groups[label] for p in parts if label in p.groups], axis=0).tolist())
        for label in sorted(labels, key=lambda label: (label == UNKNOWN, label))
    }


def _group_shares(groups: Mapping[str, tuple[int, int]]) -> dict[str, Any]:
    all_items, all_examples = (sum(counts[i] for counts in groups.values()) for i in range(2))
    return {
        "labels": list(groups),
        "catalogue_share": {label: n / all_items for label, (n, _) in groups.items()},
        "train_share": {label: n / max(all_examples, 1) for label, (_, n) in groups.items()},
    }
