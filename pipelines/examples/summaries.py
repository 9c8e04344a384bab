"""What a finished set of examples says about itself: catalogue, vocabularies, counts."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairness_losses.errors import InvalidInputError
from fairness_losses.groups import Groups
from pipelines.config import SliceConfig
from pipelines.examples.arrow_ipc import from_bytes
from pipelines.examples.checks import REASON
from pipelines.examples.histories import history_column
from pipelines.examples.inputs import FREQUENCY, GROUP
from pipelines.examples.record_files import RecordFile
from pipelines.file_systems import StrPath, is_remote, join, whole_file, write_json
from pipelines.readers.chunks import FILE, ROW, open_file
from pipelines.slicing import divide
from towers.config import (
    ITEM_ID,
    USER_ID,
    CategoricalFeature,
    Feature,
    FeaturesConfig,
    IdFeature,
)

_MESSAGE_REASONS = 5

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


def write_summaries(
    folder: StrPath,
    users: pa.Table,
    items: pa.Table,
    shards: Iterable[ShardReport],
    features: FeaturesConfig,
    slices: Sequence[SliceConfig],
) -> None:
    """Writes what describes the examples.

    That is `catalogue.parquet`, `users.parquet`, `vocabularies/`, `groups.json`, `positives.json`,
    training examples of every group in every slice, and `shards.json`, what the files hold.

    Args:
        folder: Where.
        users: The checked users table.
        items: The checked items table.
        shards: Reports of all shards.
        features: The features of both sides.
        slices: The divisions of the users.
    """
    reports = list(shards)
    user_counts = _total((r.user_counts[[0, 2]] for r in reports), len(users))
    item_counts = _total((r.item_counts for r in reports), len(items))
    frequency = pa.array(item_counts)
    _write_table(join(folder, "catalogue.parquet"), items.add_column(2, FREQUENCY, frequency))
    _write_table(join(folder, "users.parquet"), _with_history(users, items, reports, features))
    # Items of a history are numbered even if the candidate tower does not see their ids.
    of_history = {ITEM_ID} if features.history else set()
    for table, counts, columns in (
        (users, user_counts, _numbered_columns(features.query)),
        (items, item_counts, _numbered_columns(features.candidate) | of_history),
    ):
        for column in columns:
            path = join(folder, "vocabularies", f"{column}.parquet")
            _write_table(path, _vocabulary(table[column], counts))
    write_json(join(folder, "groups.json"), _group_shares(items, item_counts))
    write_json(join(folder, "positives.json"), _positives(users, items, reports, slices))
    files = sorted((f for r in reports for f in r.written.values()), key=lambda f: f.name)
    shards_of = {f.name: {"records": f.records, "sha256": f.sha256} for f in files}
    write_json(join(folder, "shards.json"), shards_of)


def write_dead_letters(path: StrPath, dead: pa.Table, files: Sequence[str]) -> dict[str, int]:
    """Writes one JSON object per rejected row, in order of file and row.

    Without any, there is an empty file on a local disk, and none elsewhere.

    Args:
        path: The `.jsonl` file.
        dead: As `checks.DEAD_SCHEMA`.
        files: Names of the files that the dead letters number.

    Returns:
        Reason to its count, most frequent first.
    """
    if not len(dead) and is_remote(path):
        return {}  # Beam's client of S3 cannot write an empty file.
    dead = dead.sort_by([(FILE, "ascending"), (ROW, "ascending")])
    with whole_file(path) as out:
        for row in dead.to_pylist():
            letter = {"file": files[row[FILE]], "row": row[ROW], "reason": row[REASON]}
            letter |= {name: row[name] for name in (USER_ID, ITEM_ID) if row[name]}
            out.write(f"{json.dumps(letter, ensure_ascii=False)}\n".encode())
    return dict(Counter(dead[REASON].to_pylist()).most_common())


def check_counts(
    counts: dict[str, Any], dead_letter_dir: StrPath, max_dead_letter_share: float
) -> None:
    """Checks that no row got lost and that enough could be used.

    Args:
        counts: The content of `counts.json`.
        dead_letter_dir: Where the dead letters are.
        max_dead_letter_share: Largest share of an input's rows that may be unusable.

    Raises:
        InvalidInputError: An input has no rows or too many unusable ones, or no examples came out
            for training or for the test.
        RuntimeError: Rows read are not the rows written, rejected and repeated.
    """
    # A useless table makes the log useless, too, so the tables come first.
    for name, count in sorted(counts.items(), reverse=True):
        written, read, dead = count["written"], count["read"], sum(count["dead"].values())
        kept = sum(written.values()) if isinstance(written, dict) else written
        if read != kept + dead + count["duplicates"]:
            raise RuntimeError(f"rows of {name} got lost: {count}. Please report this.")
        if not read:
            raise InvalidInputError(f"data.{name}: there are no rows in the files.")
        if dead <= max_dead_letter_share * read and kept:
            continue
        raise InvalidInputError(
            f"data.{name}: {dead:,} of {read:,} rows ({dead / read:.1%}) could not be used; "
            f"`data.max_dead_letter_share` is {max_dead_letter_share:.1%}. Most common: "
            f"{_most_common(count['dead'], join(dead_letter_dir, f'{name}.jsonl'))}. "
            "Correct the rows or the configuration."
        )
    written = counts["interactions"]["written"]
    for part, purpose in (("train", "training"), ("test", "the test")):
        if not written[part]:
            raise InvalidInputError(
                f"no interaction is left for {purpose}: "
                f"{', '.join(f'{n:,} {name}' for name, n in written.items())}. Change `split`, or "
                "give more data."
            )


def _most_common(reasons: Mapping[str, int], dead_letters: str) -> str:
    first: dict[str, str] = {}
    with open_file(dead_letters) as lines:
        for letter in map(json.loads, lines):
            first.setdefault(letter["reason"], f"{letter['file']}, row {letter['row']}")
    most = list(reasons.items())[:_MESSAGE_REASONS]
    return "; ".join(f"{reason} ({count:,}, first in {first[reason]})" for reason, count in most)


def _write_table(path: str, table: pa.Table) -> None:
    with whole_file(path) as file:
        pq.write_table(table, file)


def _with_history(
    users: pa.Table, items: pa.Table, shards: Sequence[ShardReport], features: FeaturesConfig
) -> pa.Table:
    """The users table with the column of its history feature, if there is one."""
    if features.history is None:
        return users
    choices = (from_bytes(shard.choices) for shard in shards)
    lists = history_column(choices, len(users), items[ITEM_ID].combine_chunks())
    return users.append_column(features.history.column, lists)


def _numbered_columns(features: Sequence[Feature]) -> set[str]:
    """Columns whose values have an embedding each; hashed ones need no vocabulary."""
    kinds = IdFeature | CategoricalFeature
    return {f.column for f in features if isinstance(f, kinds) and f.bins is None}


def _total(counts: Iterable[np.ndarray], num_rows: int) -> np.ndarray:
    total = np.zeros(num_rows, np.int64)
    for rows, values in counts:
        np.add.at(total, rows, values)
    return total


def _vocabulary(column: pa.ChunkedArray, counts: np.ndarray) -> pa.Table:
    """Values that occur in training, the most frequent first."""
    values, weights = column.combine_chunks(), counts
    if pa.types.is_list(values.type):
        weights = weights[pc.list_parent_indices(values).to_numpy()]
        values = pc.list_flatten(values)
    totals = (
        pa.table({"value": values, "count": weights})
        .group_by("value")
        .aggregate([("count", "sum")])
    )
    vocabulary = pa.table({"value": totals["value"], "count": totals["count_sum"]})
    vocabulary = vocabulary.filter(pc.greater(vocabulary["count"], 0))
    return vocabulary.sort_by([("count", "descending"), ("value", "ascending")])


def _positives(
    users: pa.Table,
    items: pa.Table,
    reports: Sequence[ShardReport],
    slices: Sequence[SliceConfig],
) -> dict[str, Any]:
    """Per slice and value the users with training examples, and these per group of the items."""
    groups = group_codes(items)[0]
    user, group, count = np.concatenate(
        [np.zeros((3, 0), np.int64), *(report.user_counts for report in reports)], axis=1
    )
    active = np.unique(user)
    positives: dict[str, Any] = {}
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


def _group_shares(items: pa.Table, item_counts: np.ndarray) -> dict[str, Any]:
    groups = Groups.from_labels(items[GROUP].to_pylist())
    membership = groups.membership.astype(np.float64)
    shares = {
        "catalogue_share": membership.sum(axis=0) / max(len(items), 1),
        "train_share": item_counts @ membership / max(item_counts.sum(), 1),
    }
    by_label = {n: dict(zip(groups.labels, s.tolist(), strict=True)) for n, s in shares.items()}
    return {"labels": list(groups.labels), **by_label}
