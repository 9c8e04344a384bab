"""The steps of the pipeline that builds examples; `pipelines.examples.pipeline` puts them together.

Tables travel as Arrow bytes. Rejected rows and counts leave a step by outputs of their own.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import TaggedOutput

from pipelines.config import SliceConfig, SplitConfig
from pipelines.examples.arrow_ipc import from_bytes, to_bytes
from pipelines.examples.checks import PARTS, check_interactions
from pipelines.examples.histories import last_choices
from pipelines.examples.inputs import GROUP, TIMESTAMP, Log, Table
from pipelines.examples.joins import hashed_ids, in_order, look_up
from pipelines.examples.record_files import shard_path, write_records
from pipelines.examples.splits import (
    HASH,
    ITEM_ROW,
    USER_ROW,
    TimeThresholds,
    assign_parts,
    time_thresholds,
)
from pipelines.examples.summaries import (
    ShardReport,
    count_rows,
    group_codes,
    write_dead_letters,
    write_summaries,
)
from pipelines.examples.tables import ids_table, load_table
from pipelines.examples.tf_examples import encode_examples, merge_examples
from pipelines.file_systems import StrPath, join, write_json
from pipelines.readers.chunks import Chunk
from pipelines.readers.files import read_chunk
from towers.config import FeaturesConfig

METRICS = "fairtowers.examples"
"""Namespace of the pipeline's counters."""

INPUTS = ("interactions", "users", "items")
"""Names of the inputs."""

GOOD, DEAD, READ, REPEATED, TIMES = "good", "dead", "read", "repeated", "times"
"""Outputs of the steps: usable rows; `(input, dead letters)`; `(input, number of rows)`; number of
repeated rows; counts of times."""

_EXAMPLE, _GROUP_CODE = "example", "group_code"
_ROWS_PER_BATCH = 16_384


def _count(name: str, what: str, rows: int) -> None:
    """Adds to a counter of the pipeline, which a runner shows while it runs."""
    Metrics.counter(METRICS, f"{name}_{what}").inc(rows)


class ReadLog(beam.DoFn):
    """Chunks to their usable rows.

    Args:
        log: What to read.
        wanted_ids: Columns whose distinct values are an output, too.
    """

    def __init__(self, log: Log, wanted_ids: Collection[str]) -> None:
        self._log, self._wanted_ids = log, wanted_ids

    def process(self, chunk: Chunk) -> Iterator[Any]:
        """See the class."""
        for block in read_chunk(chunk, self._log.columns):
            checked = check_interactions(block, self._log, chunk.file)
            rows = len(block.table) + len(block.unreadable)
            _count("interactions", READ, rows)
            _count("interactions", DEAD, len(checked.dead))
            yield TaggedOutput(READ, ("interactions", rows))
            yield TaggedOutput(DEAD, ("interactions", to_bytes(checked.dead)))
            for id_name in self._wanted_ids:
                ids = checked.good.select([id_name]).group_by(id_name).aggregate([])
                yield TaggedOutput(id_name, to_bytes(ids))
            yield to_bytes(checked.good)


class LookUp(beam.DoFn):
    """Usable rows to those with a known user and item, shard by shard."""

    def __init__(self, num_shards: int) -> None:
        self._num_shards = num_shards

    def process(self, log: bytes, users: bytes, items: bytes) -> Iterator[Any]:
        """See the class."""
        found = look_up(from_bytes(log), from_bytes(users), from_bytes(items))
        _count("interactions", DEAD, len(found.dead))
        yield TaggedOutput(DEAD, ("interactions", to_bytes(found.dead)))
        # Numbers of 16 bits are sorted in linear time.
        shard = (found.user_hashes % self._num_shards).astype(np.uint16)
        order = np.argsort(shard, kind="stable")
        bounds = np.searchsorted(shard[order], np.arange(self._num_shards + 1, dtype=np.uint16))
        good = found.good.take(order)
        # Every shard gets a table, so that each one is written even if it is empty.
        for number, (start, end) in enumerate(itertools.pairwise(bounds.tolist())):
            yield number, to_bytes(good.slice(start, end - start))


class OrderShard(beam.DoFn):
    """All rows of a shard, in order and without repetitions.

    Args:
        counts_times: Whether it counts how many of them are of which time.
    """

    def __init__(self, counts_times: bool) -> None:
        self._counts_times = counts_times

    def process(self, shard: tuple[int, Iterable[bytes]]) -> Iterator[Any]:
        """See the class."""
        number, parts = shard
        log, repeated = in_order(pa.concat_tables([from_bytes(part) for part in parts]))
        _count("interactions", REPEATED, repeated)
        yield number, to_bytes(log)
        yield TaggedOutput(REPEATED, repeated)
        if self._counts_times:
            yield TaggedOutput(TIMES, count_rows(log[TIMESTAMP].to_numpy()))


class WriteShard(beam.DoFn):
    """A shard to the example files of every part."""

    def __init__(
        self, split: SplitConfig, out_dir: StrPath, num_shards: int, max_history: int
    ) -> None:
        self._split, self._out_dir, self._num_shards = split, out_dir, num_shards
        self._max_history = max_history

    def process(
        self,
        shard: tuple[int, bytes],
        users: bytes,
        items: bytes,
        thresholds: TimeThresholds,
    ) -> Iterator[ShardReport]:
        """See the class."""
        number, log = shard[0], from_bytes(shard[1])
        catalogue = from_bytes(items)
        encoded = {USER_ROW: from_bytes(users)[_EXAMPLE], ITEM_ROW: catalogue[_EXAMPLE]}
        hashes = log[HASH].to_numpy()
        parts = assign_parts(log, self._split, thresholds, hashes)
        # Neighbours in a file share a batch: by hash, a batch is a mixture of users.
        order = np.argsort(hashes, kind="stable")
        written = {}
        for part, name in enumerate(PARTS):
            examples = _examples(log.take(order[parts[order] == part]), encoded)
            path = shard_path(self._out_dir, name, number, self._num_shards)
            written[name] = write_records(path, examples)
            _count("interactions", f"written_{name}", written[name].records)
        train = log.filter(pa.array(parts == PARTS.index("train")))
        yield ShardReport(
            written,
            user_counts=_count_users_by_group(train, catalogue[_GROUP_CODE].to_numpy()),
            item_counts=count_rows(train[ITEM_ROW].to_numpy()),
            choices=to_bytes(last_choices(train, self._max_history)),
        )


def hash_ids(table: bytes, seed: int) -> bytes:
    """Returns what `LookUp` needs of a checked table."""
    return to_bytes(hashed_ids(from_bytes(table), seed))


def encode_table(table: bytes) -> bytes:
    """Returns the serialized example of every row of a checked table, and of items the group."""
    checked = from_bytes(table)
    columns = {_EXAMPLE: encode_examples(checked)}
    if GROUP in checked.column_names:
        columns[_GROUP_CODE] = pa.array(group_codes(checked)[1])
    return to_bytes(pa.table(columns))


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


class ReadTable(beam.DoFn):
    """A plan to the checked table, as one element."""

    def process(self, plan: Table) -> Iterator[Any]:
        """See the class."""
        checked = load_table(plan)
        rows = len(checked.good) + len(checked.dead)
        _count(plan.name, READ, rows)
        _count(plan.name, DEAD, len(checked.dead))
        yield to_bytes(checked.good)
        yield TaggedOutput(DEAD, (plan.name, to_bytes(checked.dead)))
        yield TaggedOutput(READ, (plan.name, rows))


class TableOfIds(beam.DoFn):
    """The ids of the log to the table of an input that has no files."""

    def __init__(self, name: str) -> None:
        self._name = name

    def process(self, ids: bytes) -> Iterator[Any]:
        """See the class."""
        table = from_bytes(ids)
        yield to_bytes(ids_table(table.column_names[0], table.column(0).combine_chunks()))
        yield TaggedOutput(READ, (self._name, len(table)))


def merge_ids(id_name: str, tables: Iterable[bytes]) -> bytes:
    """Returns the distinct ids of all tables, as a table of one column."""
    empty = pa.schema([(id_name, pa.string())]).empty_table()
    merged = pa.concat_tables([empty, *map(from_bytes, tables)])
    return to_bytes(merged.group_by(id_name).aggregate([]))


def merge_times(counts: Iterable[np.ndarray]) -> np.ndarray:
    """Adds up counts of times; both as `count_rows` makes them."""
    merged = np.concatenate([np.zeros((2, 0), np.int64), *counts], axis=1)
    seconds, inverse = np.unique(merged[0], return_inverse=True)
    totals = np.zeros(len(seconds), np.int64)
    np.add.at(totals, inverse, merged[1])
    return np.stack([seconds, totals])


def find_thresholds(counts: np.ndarray, split: SplitConfig) -> TimeThresholds:
    """Returns where the held-out parts begin, given counts as `merge_times` makes them."""
    return time_thresholds(counts[0], counts[1], split)


def write_letters(
    letters: tuple[str, Iterable[bytes]], out_dir: StrPath, files: dict[str, list[str]]
) -> tuple[str, dict[str, int]]:
    """Writes the dead letters of an input and returns its name with its reasons' counts."""
    name, tables = letters
    dead = pa.concat_tables([from_bytes(table) for table in tables])
    path = join(out_dir, "dead_letter", f"{name}.jsonl")
    return name, write_dead_letters(path, dead, files.get(name, []))


def finish(
    _: None,
    features: FeaturesConfig,
    slices: Sequence[SliceConfig],
    out_dir: StrPath,
    users: bytes,
    items: bytes,
    shards: Iterable[ShardReport],
    read: Iterable[tuple[str, int]],
    repeated: Iterable[int],
    dead: Iterable[tuple[str, dict[str, int]]],
) -> None:
    """Writes what describes the examples, once they are all there."""
    tables = {"users": from_bytes(users), "items": from_bytes(items)}
    reports = list(shards)
    write_summaries(out_dir, tables["users"], tables["items"], reports, features, slices)
    written = {part: sum(r.written[part].records for r in reports) for part in PARTS}
    letters, read = dict(dead), list(read)
    counts = {
        name: {
            "read": sum(count for source, count in read if source == name),
            "written": len(tables[name]) if name in tables else written,
            "dead": letters[name],
            "duplicates": 0 if name in tables else sum(repeated),
        }
        for name in INPUTS
    }
    # The last file: where it is, all of them are.
    write_json(join(out_dir, "counts.json"), counts)
