"""The join of a log with tables that fit into memory: every worker gets them whole.

Ids are replaced by rows of the tables before the shuffle, so that only numbers travel.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.pvalue import AsIter, AsSingleton, PCollection, TaggedOutput

from pipelines.config import RunConfig, SliceConfig
from pipelines.examples.arrow_ipc import from_bytes, to_bytes
from pipelines.examples.inputs import TIMESTAMP, Inputs, Table
from pipelines.examples.joins import by_shard, in_order, look_up, with_hashes
from pipelines.examples.shard_writer import ShardWriter, encode_table
from pipelines.examples.sources import Plan
from pipelines.examples.splits import HASH, TimeThresholds
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
    ShardReport,
    count_rows,
    group_codes,
    summarise_items,
    summarise_users,
    total_counts,
    write_items,
    write_users,
)
from pipelines.examples.tables import ids_table, load_table
from pipelines.file_systems import StrPath
from pipelines.file_systems import join as path_in
from towers.config import ITEM_ID, USER_ID, FeaturesConfig

_USERS, _ITEMS = "users", "items"


def join(
    pipeline: beam.Pipeline,
    chunks: PCollection,
    config: RunConfig,
    inputs: Inputs,
    out_dir: StrPath,
    num_shards: int,
) -> Joined:
    """Adds the steps from the chunks of the log to the files of examples."""
    tables_of = {USER_ID: inputs.users, ITEM_ID: inputs.items}
    without_table = [id_name for id_name, table in tables_of.items() if table is None]
    log = chunks | "Read log" >> with_counts(ReadLog(inputs.log, without_table), USER_ID, ITEM_ID)
    users = _table(pipeline, inputs.users, _USERS, log[USER_ID], config.seed)
    items = _table(pipeline, inputs.items, _ITEMS, log[ITEM_ID], config.seed)
    found = log[GOOD] | "Look ids up" >> with_counts(
        LookUp(num_shards),
        users=AsSingleton(users[GOOD] | "User ids" >> beam.Map(_columns, [USER_ID, HASH])),
        items=AsSingleton(items[GOOD] | "Item ids" >> beam.Map(_columns, [ITEM_ID])),
    )
    ordered = (
        found[GOOD]
        | "Rows of a shard" >> beam.GroupByKey()
        | "Order rows" >> with_counts(OrderShard(config.split.by == "time"), REPEATED, TIMES)
    )
    shards = ordered[GOOD] | "Write shards" >> beam.ParDo(
        WriteShard(ShardWriter.of(config, out_dir, num_shards)),
        users=AsSingleton(users[GOOD] | "Encode users" >> beam.Map(_encode)),
        items=AsSingleton(items[GOOD] | "Encode items" >> beam.Map(_encode)),
        thresholds=thresholds(ordered[TIMES], config.split),
    )
    summaries = (
        pipeline
        | "All at once" >> beam.Create([None])
        | "Summarise"
        >> beam.ParDo(
            Summarise(config.features, config.slices, out_dir),
            users=AsSingleton(users[GOOD]),
            items=AsSingleton(items[GOOD]),
            shards=AsIter(shards),
        ).with_outputs(_USERS, _ITEMS)
    )
    return Joined(
        files=shards | "Files" >> beam.FlatMap(lambda report: report.written.values()),
        users=summaries[_USERS],
        items=summaries[_ITEMS],
        read=(log[READ], users[READ], items[READ]),
        dead=(log[DEAD], found[DEAD], users[DEAD], items[DEAD]),
        repeated=ordered[REPEATED],
    )


def _table(
    pipeline: beam.Pipeline, plan: Table | None, name: str, ids: PCollection, seed: int
) -> Mapping[str, PCollection]:
    """A checked table as one element, with its rows read and dead letters."""
    if plan:
        read = with_counts(ReadTable(seed))
        return pipeline | f"Plan of {name}" >> Plan(plan) | f"Read {name}" >> read
    id_name = USER_ID if name == _USERS else ITEM_ID
    return (
        ids
        | f"Ids of {name}" >> beam.CombineGlobally(functools.partial(_merge_ids, id_name))
        | f"Table of {name}" >> with_counts(TableOfIds(name, seed))
    )


class ReadTable(beam.DoFn):
    """A plan to the checked table with `HASH`, as one element."""

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def process(self, plan: Table) -> Iterator[Any]:
        """See the class."""
        checked = load_table(plan)
        rows = len(checked.good) + len(checked.dead)
        count(plan.name, READ, rows)
        count(plan.name, DEAD, len(checked.dead))
        yield to_bytes(with_hashes(checked.good, self._seed))
        yield TaggedOutput(DEAD, (plan.name, to_bytes(checked.dead)))
        yield TaggedOutput(READ, (plan.name, rows))


class TableOfIds(beam.DoFn):
    """The ids of the log to the table of an input that has no files, with `HASH`."""

    def __init__(self, name: str, seed: int) -> None:
        self._name, self._seed = name, seed

    def process(self, ids: bytes) -> Iterator[Any]:
        """See the class."""
        distinct = from_bytes(ids)
        table = ids_table(distinct.column_names[0], distinct.column(0).combine_chunks())
        yield to_bytes(with_hashes(table, self._seed))
        yield TaggedOutput(READ, (self._name, len(table)))


class LookUp(beam.DoFn):
    """Usable rows to those with a known user and item, shard by shard."""

    def __init__(self, num_shards: int) -> None:
        self._num_shards = num_shards

    def process(self, log: bytes, users: bytes, items: bytes) -> Iterator[Any]:
        """See the class."""
        found = look_up(from_bytes(log), from_bytes(users), from_bytes(items))
        count("interactions", DEAD, len(found.dead))
        yield TaggedOutput(DEAD, ("interactions", to_bytes(found.dead)))
        for number, rows in by_shard(found.good, found.user_hashes, self._num_shards):
            yield number, to_bytes(rows)


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
        count("interactions", REPEATED, repeated)
        yield number, to_bytes(log)
        yield TaggedOutput(REPEATED, repeated)
        if self._counts_times:
            yield TaggedOutput(TIMES, count_rows(log[TIMESTAMP].to_numpy()))


class WriteShard(beam.DoFn):
    """A shard to the example files of every part."""

    def __init__(self, writer: ShardWriter) -> None:
        self._writer = writer

    def process(
        self, shard: tuple[int, bytes], users: bytes, items: bytes, thresholds: TimeThresholds
    ) -> Iterator[ShardReport]:
        """See the class."""
        log, people, catalogue = map(from_bytes, (shard[1], users, items))
        yield self._writer.write(shard[0], log, people, catalogue, thresholds)


class Summarise(beam.DoFn):
    """Writes the tables, with what training tells of them, and yields their summaries."""

    def __init__(
        self, features: FeaturesConfig, slices: Sequence[SliceConfig], out_dir: StrPath
    ) -> None:
        self._features, self._slices, self._out_dir = features, slices, out_dir

    def process(
        self, _: None, users: bytes, items: bytes, shards: Iterable[ShardReport]
    ) -> Iterator[TaggedOutput]:
        """See the class."""
        people, catalogue, reports = from_bytes(users), from_bytes(items), list(shards)
        write_users(
            path_in(self._out_dir, "users.parquet"), people, catalogue, reports, self._features
        )
        item_counts = total_counts((r.item_counts for r in reports), len(catalogue))
        write_items(path_in(self._out_dir, "catalogue.parquet"), catalogue, item_counts)
        counts = [np.zeros((3, 0), np.int64), *(r.user_counts for r in reports)]
        yield TaggedOutput(
            _USERS,
            summarise_users(
                people,
                np.concatenate(counts, axis=1),
                group_codes(catalogue)[0],
                self._features,
                self._slices,
            ),
        )
        yield TaggedOutput(_ITEMS, summarise_items(catalogue, item_counts, self._features))


def _merge_ids(id_name: str, tables: Iterable[bytes]) -> bytes:
    """The distinct ids of all tables, as a table of one column."""
    empty = pa.schema([(id_name, pa.string())]).empty_table()
    merged = pa.concat_tables([empty, *map(from_bytes, tables)])
    return to_bytes(merged.group_by(id_name).aggregate([]))


def _columns(table: bytes, names: list[str]) -> bytes:
    return to_bytes(from_bytes(table).select(names))


def _encode(table: bytes) -> bytes:
    return to_bytes(encode_table(from_bytes(table)))
