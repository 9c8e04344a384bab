"""Reads files of lists with Beam: each list once, and why others are left out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsIter, AsMultiMap, TaggedOutput

from pipelines.audit.list_files import LIST_ID, ListFiles
from pipelines.examples.arrow_ipc import to_bytes
from pipelines.examples.checks import Rejections
from pipelines.readers.chunks import Chunk

DEAD, READ = "dead", "read"
"""Outputs besides the tables: dead letters, as Arrow bytes; number of lists read."""

BY_PROGRAM = "the user has more lists than `audit.max_lists_per_user`"
"""Reason of dead letters that is no fault of the lists."""

_USERS = "users"
"""Output of the first pass: users and how many lists they have."""

METRICS = "fairtowers.audit"
"""Namespace of the counters `lists_read`, `lists_audited` and `lists_dead`."""

_SHARDS = 16
"""Ids are compared in so many parts."""


def dead_lists(dead: pa.Table) -> TaggedOutput:
    """Returns lists that do not count, `checks.DEAD_SCHEMA`, as the output `DEAD`."""
    Metrics.counter(METRICS, "lists_dead").inc(len(dead))
    return TaggedOutput(DEAD, to_bytes(dead))


class ReadLists(beam.PTransform):
    """Chunks of the files to their lists, as Arrow tables; what repeats an earlier one is dead.

    Which list repeats another is found by hashes of 64 bits, 8 bytes a list, in a first pass over
    the ids alone. With a billion lists, the chance that one is taken for another is 3 %. Dead are
    also the lists of users with so many that they are programs.

    Args:
        files: What to read.
        most_lists: Of a user; None for any number.
        ids: Whether the tables have the column `list_id`, if the files do.
    """

    def __init__(self, files: ListFiles, most_lists: int | None = None, ids: bool = False) -> None:
        super().__init__()
        self._files, self._most = files, most_lists
        self._others = [LIST_ID] if ids and LIST_ID in files.ids else []

    def expand(self, chunks: beam.PCollection) -> Any:
        """Returns the tables, and the outputs `DEAD` and `READ`."""
        ids = chunks | "Ids of lists" >> beam.ParDo(_ReadIds(self._files)).with_outputs(
            _USERS, main="lists"
        )
        repeats = (
            ids["lists"]
            | "Ids of a shard" >> beam.GroupByKey()
            | "Find repetitions" >> beam.FlatMap(find_repeats)
        )
        programs = (
            ids[_USERS]
            | "Users of a shard" >> beam.GroupByKey()
            | "Find programs" >> beam.FlatMap(find_programs, self._most)
        )
        return chunks | "Read lists" >> beam.ParDo(
            _Read(self._files, self._others), repeats=AsMultiMap(repeats), programs=AsIter(programs)
        ).with_outputs(DEAD, READ, main="lists")


Ids = tuple[int, int, bytes]
"""File and first row of a chunk, and hashes, uint64, distinct and ascending."""


class _ReadIds(beam.DoFn):
    """Chunks to the ids of their lists, divided into ranges that are compared on their own."""

    def __init__(self, files: ListFiles) -> None:
        self._files = files

    def process(self, chunk: Chunk) -> Iterator[Any]:
        """See the class."""
        ids = self._files.ids_of(chunk)
        for shard, (hashes, _) in enumerate(_by_shard(ids.lists)):
            yield shard, (chunk.file, chunk.first_row, hashes.tobytes())
        # Without ids of their own every user has one list.
        if len(self._files.ids) > 1:
            for shard, (users, counts) in enumerate(_by_shard(ids.users)):
                yield TaggedOutput(_USERS, (shard, (users.tobytes(), counts.tobytes())))


def _by_shard(hashes: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Distinct hashes, ascending, and how often they occur, per range."""
    distinct, counts = np.unique(hashes, return_counts=True)
    bounds = np.arange(1, _SHARDS, dtype=np.uint64) * np.uint64(2**64 // _SHARDS)
    ends = np.searchsorted(distinct, bounds)
    yield from zip(np.split(distinct, ends), np.split(counts, ends), strict=True)


def find_programs(
    shard: tuple[int, Iterable[tuple[bytes, bytes]]], most_lists: int | None
) -> Iterator[bytes]:
    """Yields the users, uint64, who have more lists than one may have, if there are any.

    Args:
        shard: Of every chunk the users, uint64, and how many lists each has, int64.
        most_lists: None for any number.
    """
    if most_lists is None:
        return
    parts = list(shard[1])
    users = np.frombuffer(b"".join(users for users, _ in parts), np.uint64)
    counts = np.frombuffer(b"".join(counts for _, counts in parts), np.int64)
    distinct, place = np.unique(users, return_inverse=True)
    many = distinct[np.bincount(place, counts, minlength=len(distinct)) > most_lists]
    if len(many):
        yield many.tobytes()


def find_repeats(shard: tuple[int, Iterable[Ids]]) -> Iterator[tuple[tuple[int, int], bytes]]:
    """Yields, by file and first row of a chunk, hashes that a chunk before it has, too."""
    ids = sorted(shard[1])
    hashes = [np.frombuffer(data, np.uint64) for _, _, data in ids]
    chunk = np.repeat(np.arange(len(ids)), [len(part) for part in hashes])
    together = np.concatenate(hashes)
    again = came_before(together)
    for number in np.unique(chunk[again]):
        file, first_row, _ = ids[number]
        yield (file, first_row), together[again & (chunk == number)].tobytes()


def came_before(hashes: np.ndarray) -> np.ndarray:
    """Whether each value is there before its own place, too, bool `[num_hashes]`."""
    ordered = np.sort(hashes)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    # Few repeat, if any: only they are looked for.
    places = np.flatnonzero(np.isin(hashes, twice)) if len(twice) else np.zeros(0, np.int64)
    again = np.zeros(len(hashes), bool)
    again[places] = True
    again[places[np.unique(hashes[places], return_index=True)[1]]] = False
    return again


def repeats_another(ids: Sequence[str]) -> str:
    """Returns why a list is left out whose ids another one has, too."""
    return f"another list has the same {' and '.join(f'`{name}`' for name in ids)}"


class _Read(beam.DoFn):
    """Chunks to lists, less those that repeat and those of programs."""

    def __init__(self, files: ListFiles, others: Sequence[str]) -> None:
        self._files, self._others = files, others

    def process(self, chunk: Chunk, repeats: Any, programs: Iterable[bytes]) -> Iterator[Any]:
        """See the class."""
        ids = self._files.ids_of(chunk)
        again = came_before(ids.lists)
        for earlier in repeats[chunk.file, chunk.first_row]:
            again |= np.isin(ids.lists, np.frombuffer(earlier, np.uint64))
        by_program = np.zeros(len(ids.users), bool)
        for users in programs:
            by_program |= np.isin(ids.users, np.frombuffer(users, np.uint64))
        done = 0
        for table in self._files.tables(chunk, self._others):
            here = slice(done, done + len(table))
            rejections = Rejections(len(table))
            # Lists that nothing tells apart do not repeat one another: this goes first.
            for name, rows in ids.missing.items():
                rejections.add(rows[here], f"`{name}` is empty")
            rejections.add(again[here], repeats_another(self._files.ids))
            rejections.add(by_program[here], BY_PROGRAM)
            done = here.stop
            Metrics.counter(METRICS, "lists_read").inc(len(table))
            yield TaggedOutput(READ, len(table))
            if not rejections.ok.all():
                yield dead_lists(rejections.dead(table))
                table = table.filter(pa.array(rejections.ok))
            yield to_bytes(table)
