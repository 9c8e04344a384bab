"""The steps that build examples whichever way the log and the tables are joined.

Tables travel as Arrow bytes. Rejected rows and counts leave a step by outputs of their own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsIter, AsSingleton, PCollection, TaggedOutput

from pipelines.config import RunConfig, SliceConfig, SplitConfig
from pipelines.examples.arrow_ipc import from_bytes, to_bytes
from pipelines.examples.checks import PARTS, check_interactions
from pipelines.examples.dead_letters import write_dead_letters
from pipelines.examples.histories import last_choices
from pipelines.examples.inputs import GROUP, TIMESTAMP, Log
from pipelines.examples.record_files import RecordFile, shard_path, write_records
from pipelines.examples.splits import (
    HASH,
    ITEM_ROW,
    USER_ROW,
    TimeThresholds,
    assign_parts,
    id_hashes,
    pair_hashes,
    time_thresholds,
)
from pipelines.examples.summaries import (
    ItemsSummary,
    ShardReport,
    UsersSummary,
    count_rows,
    group_codes,
    write_summaries,
)
from pipelines.examples.tf_examples import encode_examples, merge_examples
from pipelines.file_systems import StrPath, join, write_json
from pipelines.readers.chunks import Chunk
from pipelines.readers.files import read_chunk

METRICS = "fairtowers.examples"
"""Namespace of the pipeline's counters."""

INPUTS = ("interactions", "users", "items")
"""Names of the inputs."""

GOOD, DEAD, READ, REPEATED, TIMES = "good", "dead", "read", "repeated", "times"
"""Outputs of the steps: usable rows; `(input, dead letters)`; `(input, number of rows)`; number of
repeated rows; counts of times."""

EXAMPLE, GROUP_CODE = "example", "group_code"
"""Columns with the serialized example of a user or item, and with the code of an item's group."""

_ROWS_PER_BATCH = 16_384


@dataclasses.dataclass(frozen=True)
class Joined:
    """What a join of the log with the tables leaves to be finished.

    Attributes:
        files: The files of examples, a `RecordFile` each.
        users: `UsersSummary`s of all users.
        items: `ItemsSummary`s of all items.
        read: `(input, number of rows)`.
        dead: `(input, dead letters)`.
        repeated: Numbers of repeated interactions.
    """

    files: PCollection
    users: PCollection
    items: PCollection
    read: Sequence[PCollection]
    dead: Sequence[PCollection]
    repeated: PCollection


def count(name: str, what: str, rows: int) -> None:
    """Adds to a counter of the pipeline, which a runner shows while it runs."""
    Metrics.counter(METRICS, f"{name}_{what}").inc(rows)


def with_counts(step: beam.DoFn, *outputs: str, **side_inputs: AsSingleton) -> beam.PTransform:
    """Returns a step with outputs for dead letters and counts besides its main one, `GOOD`."""
    return beam.ParDo(step, **side_inputs).with_outputs(DEAD, READ, *outputs, main=GOOD)


class ReadLog(beam.DoFn):
    """Chunks to their usable rows.

    Args:
        log: What to read.
        wanted_ids: Columns whose distinct values are an output, too.
    """

    def __init__(self, log: Log, wanted_ids: Collection[str] = ()) -> None:
        self._log, self._wanted_ids = log, wanted_ids

    def process(self, chunk: Chunk) -> Iterator[Any]:
        """See the class."""
        for block in read_chunk(chunk, self._log.columns):
            checked = check_interactions(block, self._log, chunk.file)
            rows = len(block.table) + len(block.unreadable)
            count("interactions", READ, rows)
            count("interactions", DEAD, len(checked.dead))
            yield TaggedOutput(READ, ("interactions", rows))
            yield TaggedOutput(DEAD, ("interactions", to_bytes(checked.dead)))
            for id_name in self._wanted_ids:
                ids = checked.good.select([id_name]).group_by(id_name).aggregate([])
                yield TaggedOutput(id_name, to_bytes(ids))
            yield to_bytes(checked.good)


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


def encode_table(checked: pa.Table, seed: int) -> pa.Table:
    """Returns what the examples need of a checked table.

    Args:
        checked: The table.
        seed: Of the hashes.

    Returns:
        `EXAMPLE`, `HASH` of the id, and `GROUP_CODE` of items.
    """
    ids = checked.column(0).combine_chunks()
    columns = {EXAMPLE: encode_examples(checked), HASH: pa.array(id_hashes(ids, seed))}
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


def thresholds(times: PCollection, split: SplitConfig) -> AsSingleton | TimeThresholds:
    """Returns where the held-out parts begin, given counts of times as `count_rows` makes them."""
    if split.by != "time":
        # Without waiting for all rows to be in order, a worker goes on with those that it has.
        return _find_thresholds(_merge_times([]), split)
    return AsSingleton(
        times
        | "Merge times" >> beam.CombineGlobally(_merge_times)
        | "Find thresholds" >> beam.Map(_find_thresholds, split)
    )


def _merge_times(counts: Iterable[np.ndarray]) -> np.ndarray:
    merged = np.concatenate([np.zeros((2, 0), np.int64), *counts], axis=1)
    seconds, inverse = np.unique(merged[0], return_inverse=True)
    totals = np.zeros(len(seconds), np.int64)
    np.add.at(totals, inverse, merged[1])
    return np.stack([seconds, totals])


def _find_thresholds(counts: np.ndarray, split: SplitConfig) -> TimeThresholds:
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
    pipeline: beam.Pipeline,
    joined: Joined,
    dead: PCollection,
    slices: Sequence[SliceConfig],
    out_dir: StrPath,
) -> None:
    """Adds the step that writes what describes the examples, once they are all there.

    Args:
        pipeline: The pipeline.
        joined: What there is to be described.
        dead: Per input the counts of its dead letters' reasons, from `write_letters`.
        slices: The divisions of the users.
        out_dir: Where.
    """
    _ = (
        pipeline
        | "Once" >> beam.Create([None])
        | "Finish"
        >> beam.Map(
            _write_descriptions,
            slices,
            out_dir,
            files=AsIter(joined.files),
            users=AsIter(joined.users),
            items=AsIter(joined.items),
            read=AsIter(joined.read | "Rows read" >> beam.Flatten()),
            repeated=AsIter(joined.repeated),
            dead=AsIter(dead),
        )
    )


def _write_descriptions(
    _: None,
    slices: Sequence[SliceConfig],
    out_dir: StrPath,
    files: Iterable[RecordFile],
    users: Iterable[UsersSummary],
    items: Iterable[ItemsSummary],
    read: Iterable[tuple[str, int]],
    repeated: Iterable[int],
    dead: Iterable[tuple[str, dict[str, int]]],
) -> None:
    users, items, files, read = list(users), list(items), list(files), list(read)
    write_summaries(out_dir, users, items, files, slices)
    written = {
        "interactions": {
            part: sum(f.records for f in files if f.name.startswith(part)) for part in PARTS
        },
        "users": sum(summary.users for summary in users),
        "items": sum(size for summary in items for size, _ in summary.groups.values()),
    }
    letters = dict(dead)
    counts = {
        name: {
            "read": sum(number for source, number in read if source == name),
            "written": written[name],
            "dead": letters[name],
            "duplicates": sum(repeated) if name == "interactions" else 0,
        }
        for name in INPUTS
    }
    # The last file: where it is, all of them are.
    write_json(join(out_dir, "counts.json"), counts)
