"""The join of a log with tables that do not fit into memory: no worker sees a table whole.

The log and the users are brought together by a hash of the user. Of the items a shard gets those
that its rows name: every chunk of the log says which they are, and the items, divided by a hash of
their own, answer. From there on a shard is joined as if its users and items were all there are, so
the examples are those of `broadcast_join`. What describes users and items is written shard by
shard, `users.parquet` and `catalogue.parquet` being folders of files.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.pvalue import AsSingleton, PCollection, TaggedOutput

from pipelines.config import RunConfig, SliceConfig
from pipelines.examples.arrow_ipc import from_bytes, to_bytes
from pipelines.examples.checks import check_interactions, unreadable_rows
from pipelines.examples.inputs import GROUP, TIMESTAMP, Inputs, Log, Table
from pipelines.examples.joins import by_shard, in_order, look_up, with_hashes
from pipelines.examples.shard_writer import EXAMPLE, GROUP_CODE, ShardWriter, encode_table
from pipelines.examples.sources import Chunks
from pipelines.examples.splits import HASH, TimeThresholds, id_hashes
from pipelines.examples.steps import (
    DEAD,
    GOOD,
    READ,
    REPEATED,
    TIMES,
    Joined,
    ReadLog,
    count,
    thresholds,
    with_counts,
)
from pipelines.examples.summaries import (
    count_rows,
    group_codes,
    summarise_items,
    summarise_users,
    total_counts,
    write_items,
    write_users,
)
from pipelines.examples.tables import (
    Shape,
    check_rows,
    common_shape,
    ids_table,
    no_rows,
    shape_of,
    without_repeats,
)
from pipelines.file_systems import StrPath
from pipelines.file_systems import join as path_in
from pipelines.readers.chunks import Block, Chunk, empty_table
from pipelines.readers.files import read_chunk
from towers.config import ITEM_ID, USER_ID, FeaturesConfig

_USERS, _ITEMS, _LOG = "users", "items", "log"
_WANTED, _SHAPES, _CATALOGUE, _COUNTS = "wanted", "shapes", "catalogue", "counts"
_SHARD, _COUNT = "shard", "count"

_PAIRS = pa.schema([(ITEM_ID, pa.string()), (_SHARD, pa.uint16())])
_ENCODED_ITEMS = pa.schema(
    [(ITEM_ID, pa.string()), (GROUP, pa.string()), (EXAMPLE, pa.binary()), (HASH, pa.uint64())]
)


def join(
    pipeline: beam.Pipeline,
    chunks: PCollection,
    config: RunConfig,
    inputs: Inputs,
    out_dir: StrPath,
    num_shards: int,
) -> Joined:
    """Adds the steps from the chunks of the log to the files of examples."""
    log = chunks | "Read log" >> with_counts(ReadLog(inputs.log))
    by_user = log[GOOD] | "Divide the log" >> beam.ParDo(
        DivideLog(config.seed, num_shards)
    ).with_outputs(_WANTED, main=GOOD)
    users = _table(pipeline, inputs.users, _USERS, config.seed, num_shards)
    items = _table(pipeline, inputs.items, _ITEMS, config.seed, num_shards)
    answers = (
        {_ITEMS: items[GOOD], _WANTED: by_user[_WANTED]}
        | "Items and who wants them" >> beam.CoGroupByKey()
        | "Send items" >> with_counts(SendItems(inputs.items, config.seed, num_shards), _CATALOGUE)
    )
    joined = (
        {_LOG: by_user[GOOD], _USERS: users[GOOD], _ITEMS: answers[GOOD]}
        | "All of a shard" >> beam.CoGroupByKey()
        | "Join shards"
        >> with_counts(
            JoinShard(inputs.log, inputs.users, config.seed, config.split.by == "time"),
            REPEATED,
            TIMES,
        )
    )
    writer = ShardWriter.of(config, out_dir, num_shards)
    written = joined[GOOD] | "Write shards" >> beam.ParDo(
        WriteJoined(writer, config.features, config.slices),
        thresholds=thresholds(joined[TIMES], config.split),
    ).with_outputs(_USERS, _COUNTS, main=GOOD)
    catalogue = (
        {_ITEMS: answers[_CATALOGUE], _COUNTS: written[_COUNTS]}
        | "Items and their counts" >> beam.CoGroupByKey()
        | "Write items" >> beam.ParDo(WriteItems(config.features, out_dir, num_shards))
    )
    return Joined(
        files=written[GOOD],
        users=written[_USERS],
        items=catalogue,
        read=(log[READ], users[READ], items[READ], answers[READ], joined[READ]),
        dead=(log[DEAD], users[DEAD], items[DEAD], answers[DEAD], joined[DEAD]),
        repeated=joined[REPEATED],
    )


def _table(
    pipeline: beam.Pipeline, plan: Table | None, name: str, seed: int, num_shards: int
) -> Mapping[str, PCollection]:
    """The checked rows of a table, shard by shard, with its rows read and dead letters."""
    if plan is None:
        nothing = pipeline | f"No {name}" >> beam.Create([])
        return {GOOD: nothing, READ: nothing, DEAD: nothing}
    rows = (
        pipeline
        | f"Chunks of {name}" >> Chunks(plan)
        | f"Read {name}" >> with_counts(ReadRows(plan), _SHAPES)
    )
    shape = (
        rows[_SHAPES]
        | f"Shapes of {name}" >> beam.combiners.ToList()
        | f"Shape of {name}" >> beam.Map(common_shape, plan)
    )
    checked = rows[GOOD] | f"Check {name}" >> with_counts(
        CheckRows(plan, seed, num_shards), shape=AsSingleton(shape)
    )
    return {
        GOOD: checked[GOOD],
        READ: rows[READ],
        DEAD: (rows[DEAD], checked[DEAD]) | f"Dead {name}" >> beam.Flatten(),
    }


class DivideLog(beam.DoFn):
    """Usable rows to those of every shard, and the items that each shard will want."""

    def __init__(self, seed: int, num_shards: int) -> None:
        self._seed, self._num_shards = seed, num_shards

    def process(self, log: bytes) -> Iterator[Any]:
        """See the class."""
        table = from_bytes(log).combine_chunks()
        users = self._hashes(table[USER_ID])
        for number, rows in by_shard(table, users, self._num_shards):
            yield number, to_bytes(rows, "zstd")
        pairs = pa.table(
            {ITEM_ID: table[ITEM_ID], _SHARD: (users % self._num_shards).astype(np.uint16)}
        )
        pairs = pairs.group_by([ITEM_ID, _SHARD]).aggregate([])
        for number, rows in by_shard(pairs, self._hashes(pairs[ITEM_ID]), self._num_shards):
            yield TaggedOutput(_WANTED, (number, to_bytes(rows, "zstd")))

    def _hashes(self, ids: pa.ChunkedArray) -> np.ndarray:
        encoded = ids.combine_chunks().dictionary_encode()
        return id_hashes(encoded.dictionary, self._seed)[encoded.indices.to_numpy()]


class ReadRows(beam.DoFn):
    """Chunks of a table to their rows as they are, and the shape of these."""

    def __init__(self, plan: Table) -> None:
        self._plan = plan

    def process(self, chunk: Chunk) -> Iterator[Any]:
        """See the class."""
        plan = self._plan
        for block in read_chunk(chunk, plan.columns):
            rows = len(block.table) + len(block.unreadable)
            count(plan.name, READ, rows)
            count(plan.name, DEAD, len(block.unreadable))
            yield TaggedOutput(READ, (plan.name, rows))
            yield TaggedOutput(DEAD, (plan.name, to_bytes(unreadable_rows(block, chunk.file))))
            yield TaggedOutput(_SHAPES, shape_of(block.table, plan))
            yield to_bytes(block.table)


class CheckRows(beam.DoFn):
    """Rows of a table to the usable ones, shard by shard."""

    def __init__(self, plan: Table, seed: int, num_shards: int) -> None:
        self._plan, self._seed, self._num_shards = plan, seed, num_shards

    def process(self, rows: bytes, shape: Shape) -> Iterator[Any]:
        """See the class."""
        plan = self._plan
        checked = check_rows(from_bytes(rows), plan, shape)
        count(plan.name, DEAD, len(checked.dead))
        yield TaggedOutput(DEAD, (plan.name, to_bytes(checked.dead)))
        hashed = with_hashes(checked.good, self._seed)
        for number, good in by_shard(hashed, hashed[HASH].to_numpy(), self._num_shards):
            yield number, to_bytes(good, "zstd")


class SendItems(beam.DoFn):
    """Items, and who wants them, to the items of every shard of the log.

    Args:
        plan: The items table, if there is one; else the items are those that are wanted.
        seed: Of the hashes.
        num_shards: Of the log.
    """

    def __init__(self, plan: Table | None, seed: int, num_shards: int) -> None:
        self._plan, self._seed, self._num_shards = plan, seed, num_shards

    def process(self, element: tuple[int, dict[str, Iterable[bytes]]]) -> Iterator[Any]:
        """See the class."""
        number, parts = element
        wanted = _concatenated(parts[_WANTED], _PAIRS.empty_table)
        items, said = _table_of(_ITEMS, self._plan, parts[_ITEMS], wanted[ITEM_ID], self._seed)
        yield said
        yield TaggedOutput(_CATALOGUE, (number, to_bytes(items)))
        encoded = encode_table(items)
        for name in (GROUP, ITEM_ID):
            encoded = encoded.add_column(0, name, items[name])
        encoded = encoded.select(_ENCODED_ITEMS.names).combine_chunks()
        found = pc.index_in(wanted[ITEM_ID], encoded[ITEM_ID].combine_chunks())
        rows = pc.fill_null(found, -1).to_numpy().astype(np.int64)
        shards = wanted[_SHARD].to_numpy().astype(np.int64)
        known = np.unique((shards * len(encoded) + rows)[rows >= 0])
        bounds = np.searchsorted(known, np.arange(self._num_shards + 1) * len(encoded))
        for shard, (start, end) in enumerate(itertools.pairwise(bounds)):
            sent = encoded.take(known[start:end] % max(len(encoded), 1))
            yield shard, to_bytes(sent, "zstd")


class JoinShard(beam.DoFn):
    """All of a shard to its rows, in order and without repetitions, its users and its items.

    Args:
        log: The log.
        plan: The users table, if there is one; else the users are those of the log.
        seed: Of the hashes.
        counts_times: Whether it counts how many of the rows are of which time.
    """

    def __init__(self, log: Log, plan: Table | None, seed: int, counts_times: bool) -> None:
        self._log, self._plan, self._seed, self._counts_times = log, plan, seed, counts_times

    def process(self, element: tuple[int, dict[str, Iterable[bytes]]]) -> Iterator[Any]:
        """See the class."""
        number, parts = element
        log = _concatenated(parts[_LOG], self._empty_log)
        users, said = _table_of(_USERS, self._plan, parts[_USERS], log[USER_ID], self._seed)
        yield said
        items = _concatenated(parts[_ITEMS], _ENCODED_ITEMS.empty_table)
        # Sorted as the whole table would be, since ties in time are broken by the item's row.
        items = items.sort_by(ITEM_ID)
        found = look_up(log, users, items)
        count("interactions", DEAD, len(found.dead))
        yield TaggedOutput(DEAD, ("interactions", to_bytes(found.dead)))
        ordered, repeated = in_order(found.good)
        count("interactions", REPEATED, repeated)
        yield TaggedOutput(REPEATED, repeated)
        if self._counts_times:
            yield TaggedOutput(TIMES, count_rows(ordered[TIMESTAMP].to_numpy()))
        yield number, tuple(map(to_bytes, (ordered, users, items)))

    def _empty_log(self) -> pa.Table:
        nothing = Block(empty_table(self._log.columns, 0))
        return check_interactions(nothing, self._log, 0).good


class WriteJoined(beam.DoFn):
    """A joined shard to its example files, its users and their summary, and counts of its items."""

    def __init__(
        self, writer: ShardWriter, features: FeaturesConfig, slices: Sequence[SliceConfig]
    ) -> None:
        self._writer, self._features, self._slices = writer, features, slices

    def process(
        self, shard: tuple[int, tuple[bytes, bytes, bytes]], thresholds: TimeThresholds
    ) -> Iterator[Any]:
        """See the class."""
        number, tables = shard
        log, users, items = map(from_bytes, tables)
        groups, codes = group_codes(items)
        encoded_items = items.append_column(GROUP_CODE, pa.array(codes))
        report = self._writer.write(number, log, encode_table(users), encoded_items, thresholds)
        yield from report.written.values()
        num_shards = self._writer.num_shards
        path = _part(path_in(self._writer.out_dir, "users.parquet"), number, num_shards)
        write_users(path, users, items, [report], self._features)
        summary = summarise_users(users, report.user_counts, groups, self._features, self._slices)
        yield TaggedOutput(_USERS, summary)
        rows, counts = report.item_counts
        chosen = items.select([ITEM_ID, HASH]).take(pa.array(rows))
        of_items = pa.table({ITEM_ID: chosen[ITEM_ID], _COUNT: counts})
        for item_shard, part in by_shard(of_items, chosen[HASH].to_numpy(), num_shards):
            yield TaggedOutput(_COUNTS, (item_shard, to_bytes(part)))


class WriteItems(beam.DoFn):
    """Items and their training examples to a file of the catalogue and a summary."""

    def __init__(self, features: FeaturesConfig, out_dir: StrPath, num_shards: int) -> None:
        self._features, self._out_dir, self._num_shards = features, out_dir, num_shards

    def process(self, element: tuple[int, dict[str, Iterable[bytes]]]) -> Iterator[Any]:
        """See the class."""
        number, parts = element
        items = _concatenated(parts[_ITEMS], self._no_items)
        ids = items[ITEM_ID].combine_chunks()
        counts = (
            np.stack([pc.index_in(part[ITEM_ID], ids).to_numpy(), part[_COUNT].to_numpy()])
            for part in map(from_bytes, parts[_COUNTS])
        )
        examples = total_counts(counts, len(items))
        path = _part(path_in(self._out_dir, "catalogue.parquet"), number, self._num_shards)
        write_items(path, items, examples)
        yield summarise_items(items, examples, self._features)

    @staticmethod
    def _no_items() -> pa.Table:
        return with_hashes(ids_table(ITEM_ID, pa.array([], pa.string())), 0)


def _concatenated(tables: Iterable[bytes], empty: Callable[[], pa.Table]) -> pa.Table:
    parts = [from_bytes(table) for table in tables]
    return pa.concat_tables(parts or [empty()]).combine_chunks()


def _table_of(
    name: str, plan: Table | None, rows: Iterable[bytes], ids: pa.ChunkedArray, seed: int
) -> tuple[pa.Table, TaggedOutput]:
    """The users or items whose ids have a hash in common, each once, and what is to be said.

    Args:
        name: Of the input.
        plan: Of its table, if there is one; else the log's ids are all there are.
        rows: Checked rows of the table.
        ids: Those in the log.
        seed: Of the hashes.
    """
    if plan is None:
        table = ids_table(USER_ID if name == _USERS else ITEM_ID, pc.unique(ids))
        return with_hashes(table, seed), TaggedOutput(READ, (name, len(table)))
    nothing = functools.partial(_no_rows, plan, seed)
    unique = without_repeats(_concatenated(rows, nothing))
    count(name, DEAD, len(unique.dead))
    return unique.good, TaggedOutput(DEAD, (name, to_bytes(unique.dead)))


def _no_rows(plan: Table, seed: int) -> pa.Table:
    return with_hashes(no_rows(plan), seed)


def _part(folder: str, number: int, num_parts: int) -> str:
    return path_in(folder, f"part-{number:05d}-of-{num_parts:05d}.parquet")
