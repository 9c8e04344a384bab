"""Files of served lists: found, checked, and read some lists at a time, each list once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsMultiMap, TaggedOutput

from fairness_losses.errors import InvalidInputError
from pipelines.audit.list_checks import CANDIDATES, MODEL_VERSION, POLICY
from pipelines.examples.arrow_ipc import to_bytes
from pipelines.examples.checks import Rejections, as_strings
from pipelines.examples.splits import id_hashes, pair_hashes
from pipelines.readers.chunks import Chunk, open_file, readable, with_origin
from pipelines.readers.files import check_columns, find_files, plan_chunks
from towers.config import USER_ID

LIST_ID = "list_id"
"""Column that tells the lists of a user apart, if a user may have several."""

DEAD, READ = "dead", "read"
"""Outputs besides the tables: dead letters, as Arrow bytes; number of lists read."""

METRICS = "fairtowers.audit"
"""Namespace of the counters `lists_read`, `lists_audited` and `lists_dead`."""

_LISTS_PER_TABLE = 32_768
_SHARDS = 16
"""Ids are compared in so many parts."""


@dataclasses.dataclass(frozen=True)
class ListFiles:
    """Parquet files of lists, one row each.

    `user_id` is a string, `candidate_ids` a list of strings, best first; `policy` and
    `model_version` say what served it. Where there is a column `list_id`, a user may have several
    lists with different ones; else one.

    Attributes:
        pattern: What they were found by.
        files: Paths, sorted.
        chunks: What a worker reads at once.
        ids: Columns that a list is told apart by.
        seed: Of hashes.
    """

    pattern: str
    files: list[str]
    chunks: list[Chunk]
    ids: tuple[str, ...]
    seed: int

    @classmethod
    def find(cls, pattern: str, seed: int) -> ListFiles:
        """Finds files and checks what columns they have.

        Args:
            pattern: Path or glob, of any file system that Beam knows.
            seed: Of hashes.

        Raises:
            InvalidInputError: There is no file, or one is of no use.
        """
        files = find_files(pattern, "--lists")
        needed = dict.fromkeys((USER_ID, CANDIDATES, POLICY, MODEL_VERSION), "--lists")
        schemas = [_schema(path) for path in files]
        check_columns(files, needed)
        for path, schema in zip(files, schemas, strict=True):
            kind = schema.field(CANDIDATES).type
            if not (pa.types.is_list(kind) and pa.types.is_string(kind.value_type)):
                raise InvalidInputError(
                    f"{path}: the column `{CANDIDATES}` should be a list of strings. Received: "
                    f"{kind}. Convert it."
                )
        with_id = [LIST_ID in schema.names for schema in schemas]
        if any(with_id) and not all(with_id):
            raise InvalidInputError(
                f"{files[with_id.index(False)]}: there is no column `{LIST_ID}`, which other files "
                "have. Add it, or audit these files on their own."
            )
        ids = (USER_ID, LIST_ID) if all(with_id) else (USER_ID,)
        return cls(pattern, files, plan_chunks(files), ids, seed)

    def state(self) -> list[list[Any]]:
        """Returns what changes when a file does: path, size and time of every file."""
        found = FileSystems.match([self.pattern])[0].metadata_list
        return sorted([f.path, f.size_in_bytes, f.last_updated_in_seconds] for f in found)

    def id_hashes(self, chunk: Chunk) -> np.ndarray:
        """Returns what tells the lists of a chunk apart, uint64 `[lists]`."""
        with readable(chunk.path), open_file(chunk.path) as stream:
            table = pq.ParquetFile(stream).read_row_groups(chunk.row_groups, columns=list(self.ids))
        for name in self.ids:
            table = _with_strings(table, name, chunk.path)
        return list_hashes(table, self.ids, self.seed)

    def tables(self, chunk: Chunk, others: Sequence[str] = ()) -> Iterator[pa.Table]:
        """Yields the lists of a chunk with their origin, some at a time.

        Args:
            chunk: What to read.
            others: Columns that are wanted besides those of a list, as they are.
        """
        columns = [USER_ID, CANDIDATES, POLICY, MODEL_VERSION, *others]
        row = chunk.first_row + 1
        with readable(chunk.path), open_file(chunk.path) as stream:
            leaves = pq.ParquetFile(stream).schema
            # An item is in many lists: its id is decoded, and looked up, once.
            encoded = [leaf.path for leaf in leaves if leaf.path.startswith(f"{CANDIDATES}.")]
            file = pq.ParquetFile(stream, read_dictionary=encoded)
            # Every row group has a dictionary of its own, and Arrow cannot merge those of lists.
            for batch in itertools.chain.from_iterable(
                file.iter_batches(_LISTS_PER_TABLE, [group], columns, use_threads=False)
                for group in chunk.row_groups
            ):
                table = pa.Table.from_batches([batch]).select(columns)
                table = _with_strings(table, USER_ID, chunk.path)
                yield with_origin(table, chunk.file, row + np.arange(len(table)))
                row += len(table)


def _with_strings(table: pa.Table, name: str, path: str) -> pa.Table:
    strings = as_strings(table[name], f"{path}, column `{name}`")
    return table.set_column(table.column_names.index(name), name, strings)


def list_hashes(lists: pa.Table, ids: Sequence[str], seed: int) -> np.ndarray:
    """Returns what tells lists apart, uint64 `[num_lists]`.

    Args:
        lists: With the string columns `ids`.
        ids: `user_id`, or `user_id` and `list_id`.
        seed: Of the hashes.
    """
    hashes = [id_hashes(pc.fill_null(lists[n].combine_chunks(), ""), seed) for n in ids]
    return hashes[0] if len(hashes) == 1 else pair_hashes(*hashes)


def _schema(path: str) -> pa.Schema:
    if not path.lower().endswith(".parquet"):
        raise InvalidInputError(
            f"`--lists`: {path} is no Parquet file. Lists should be in Parquet."
        )
    with readable(path), open_file(path) as stream:
        return pq.ParquetFile(stream).schema_arrow


def dead_lists(dead: pa.Table) -> TaggedOutput:
    """Returns lists that do not count, `checks.DEAD_SCHEMA`, as the output `DEAD`."""
    Metrics.counter(METRICS, "lists_dead").inc(len(dead))
    return TaggedOutput(DEAD, to_bytes(dead))


class ReadLists(beam.PTransform):
    """Chunks of the files to their lists, as Arrow tables; what repeats an earlier one is dead.

    Which list repeats another is found by hashes of 64 bits, 8 bytes a list, in a first pass over
    the ids alone. With a billion lists, the chance that one is taken for another is 3 %.

    Args:
        files: What to read.
    """

    def __init__(self, files: ListFiles) -> None:
        super().__init__()
        self._files = files

    def expand(self, chunks: beam.PCollection) -> Any:
        """Returns the tables, and the outputs `DEAD` and `READ`."""
        repeats = (
            chunks
            | "Ids of lists" >> beam.FlatMap(ids_by_shard, self._files)
            | "Ids of a shard" >> beam.GroupByKey()
            | "Find repetitions" >> beam.FlatMap(find_repeats)
        )
        return chunks | "Read lists" >> beam.ParDo(
            _Read(self._files), repeats=AsMultiMap(repeats)
        ).with_outputs(DEAD, READ, main="lists")


Ids = tuple[int, int, bytes]
"""File and first row of a chunk, and hashes, uint64, distinct and ascending."""


def ids_by_shard(chunk: Chunk, files: ListFiles) -> Iterator[tuple[int, Ids]]:
    """Yields the ids of a chunk, divided into ranges that are compared on their own."""
    hashes = np.unique(files.id_hashes(chunk))
    bounds = np.arange(1, _SHARDS, dtype=np.uint64) * np.uint64(2**64 // _SHARDS)
    for shard, part in enumerate(np.split(hashes, np.searchsorted(hashes, bounds))):
        yield shard, (chunk.file, chunk.first_row, part.tobytes())


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
    """Chunks to lists, less those that repeat."""

    def __init__(self, files: ListFiles) -> None:
        self._files = files

    def process(self, chunk: Chunk, repeats: Any) -> Iterator[Any]:
        """See the class."""
        hashes = self._files.id_hashes(chunk)
        again = came_before(hashes)
        for earlier in repeats[chunk.file, chunk.first_row]:
            again |= np.isin(hashes, np.frombuffer(earlier, np.uint64))
        reason = "another list has the same " + " and ".join(
            f"`{name}`" for name in self._files.ids
        )
        done = 0
        for table in self._files.tables(chunk):
            rejections = Rejections(len(table))
            rejections.add(again[done : done + len(table)], reason)
            done += len(table)
            Metrics.counter(METRICS, "lists_read").inc(len(table))
            yield TaggedOutput(READ, len(table))
            if not rejections.ok.all():
                yield dead_lists(rejections.dead(table))
                table = table.filter(pa.array(rejections.ok))
            yield to_bytes(table)
