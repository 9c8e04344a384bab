"""Writes the examples of a shard whose rows, users and items are all known."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from pipelines.config import RunConfig, SplitConfig
from pipelines.examples.arrow_ipc import to_bytes
from pipelines.examples.checks import PARTS
from pipelines.examples.histories import last_choices
from pipelines.examples.inputs import GROUP, TIMESTAMP
from pipelines.examples.record_files import shard_path, write_records
from pipelines.examples.splits import (
    HASH,
    ITEM_ROW,
    USER_ROW,
    TimeThresholds,
    assign_parts,
    pair_hashes,
)
from pipelines.examples.steps import count
from pipelines.examples.summaries import ShardReport, count_rows, group_codes
from pipelines.examples.tf_examples import encode_examples, merge_examples
from pipelines.file_systems import StrPath

EXAMPLE, GROUP_CODE = "example", "group_code"
"""Columns with the serialized example of a user or item, and with the code of an item's group."""

_ROWS_PER_BATCH = 16_384


@dataclasses.dataclass(frozen=True)
class ShardWriter:
    """Writes the examples of a shard.

    Attributes:
        split: Which of them are for what.
        out_dir: Where.
        num_shards: How many shards there are.
        max_history: Length of the histories.
    """

    split: SplitConfig
    out_dir: StrPath
    num_shards: int
    max_history: int

    @classmethod
    def of(cls, config: RunConfig, out_dir: StrPath, num_shards: int) -> ShardWriter:
        """Returns the writer for a run."""
        history = config.features.history
        return cls(config.split, out_dir, num_shards, history.max_items if history else 0)

    def write(
        self,
        number: int,
        log: pa.Table,
        users: pa.Table,
        items: pa.Table,
        thresholds: TimeThresholds,
    ) -> ShardReport:
        """Writes the files of every part.

        Args:
            number: Of the shard.
            log: Its rows, from `joins.in_order`.
            users: The users that `USER_ROW` counts in, from `encode_table`.
            items: The items that `ITEM_ROW` counts in, from `encode_table`.
            thresholds: For a split by time.
        """
        hashes = pair_hashes(
            users[HASH].to_numpy()[log[USER_ROW].to_numpy()],
            items[HASH].to_numpy()[log[ITEM_ROW].to_numpy()],
        )
        parts = assign_parts(log, self.split, thresholds, hashes)
        # Neighbours in a file share a batch: by hash, a batch is a mixture of users.
        order = np.argsort(hashes, kind="stable")
        encoded = {USER_ROW: users[EXAMPLE], ITEM_ROW: items[EXAMPLE]}
        written = {}
        for part, name in enumerate(PARTS):
            examples = _examples(log.take(order[parts[order] == part]), encoded)
            path = shard_path(self.out_dir, name, number, self.num_shards)
            written[name] = write_records(path, examples)
            count("interactions", f"written_{name}", written[name].records)
        train = log.filter(pa.array(parts == PARTS.index("train")))
        return ShardReport(
            written,
            user_counts=_count_users_by_group(train, items[GROUP_CODE].to_numpy()),
            item_counts=count_rows(train[ITEM_ROW].to_numpy()),
            choices=to_bytes(last_choices(train, self.max_history)),
        )


def encode_table(checked: pa.Table) -> pa.Table:
    """Returns what the examples need of a checked table.

    Args:
        checked: The table, with `HASH`.

    Returns:
        `EXAMPLE`, `HASH`, and `GROUP_CODE` of items.
    """
    columns = {EXAMPLE: encode_examples(checked.drop([HASH])), HASH: checked[HASH]}
    if GROUP in checked.column_names:
        columns[GROUP_CODE] = pa.array(group_codes(checked)[1])
    return pa.table(columns)


def _count_users_by_group(train: pa.Table, code_of_item: np.ndarray) -> np.ndarray:
    """Training examples of every user with items of every group, as `ShardReport` holds them."""
    num_groups = int(code_of_item.max(initial=0)) + 1
    codes = code_of_item[train[ITEM_ROW].to_numpy()]
    pairs, counts = count_rows(train[USER_ROW].to_numpy().astype(np.int64) * num_groups + codes)
    return np.stack([pairs // num_groups, pairs % num_groups, counts])


def _examples(log: pa.Table, encoded: dict[str, pa.ChunkedArray]) -> Iterator[pa.Array]:
    """Serialized examples in batches, so that memory does not grow with the shard."""
    for batch in log.to_batches(max_chunksize=_ROWS_PER_BATCH):
        parts = [examples.take(batch[row]).combine_chunks() for row, examples in encoded.items()]
        if TIMESTAMP in batch.schema.names:
            parts.append(encode_examples(pa.table({TIMESTAMP: batch[TIMESTAMP]})))
        yield merge_examples(*parts)
