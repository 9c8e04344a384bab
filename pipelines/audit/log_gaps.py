"""What is missing from a serving log, as far as the numbers of its lists tell."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.audit.pseudonyms import Pseudonyms
from pipelines.readers.chunks import open_file, readable
from serving.log.lists import PROCESS, SALT, SEQUENCE

_COLUMNS = (PROCESS, SEQUENCE, SALT)


@dataclasses.dataclass(frozen=True)
class LogGaps:
    """Gaps of the files that were read.

    Attributes:
        processes: Number of the servers' processes that wrote the files.
        missing: Lists between the first and the last of a process that are in no file: dropped
            because there was no room, malformed, or in files that were not given. What a process
            was to write when it was killed has no number after it, and is not among them.
        periods_without_salt: First second of the periods whose salts have been deleted: the slices
            of their users are `unknown`.
    """

    processes: int
    missing: int
    periods_without_salt: list[int]


def find_gaps(files: Sequence[str], pseudonyms: Pseudonyms) -> LogGaps:
    """Finds the gaps of a log; it reads no more than the ends of the files, as a rule.

    Args:
        files: Of the log, `serving.log.lists.SCHEMA`.
        pseudonyms: With the salts.

    Raises:
        InvalidInputError: A file is damaged.
    """
    ranges = [part for path in files for part in _ranges(path)]
    first: dict[str, int] = {}
    last: dict[str, int] = {}
    rows: dict[str, int] = {}
    for process, low, high, number, _ in ranges:
        first[process] = min(low, first.get(process, low))
        last[process] = max(high, last.get(process, high))
        rows[process] = number + rows.get(process, 0)
    periods = sorted({start for *_, salts in ranges for start in salts})
    return LogGaps(
        processes=len(rows),
        missing=sum(max(last[p] - first[p] + 1 - rows[p], 0) for p in rows),
        periods_without_salt=[start for start in periods if not pseudonyms.has_salt(start)],
    )


_Range = tuple[str, int, int, int, set[int]]
"""Process, first and last number, rows, and periods."""


def _ranges(path: str) -> Iterator[_Range]:
    with readable(path), open_file(path) as stream:
        file = pq.ParquetFile(stream)
        leaf = {file.metadata.schema.column(i).path: i for i in range(len(file.metadata.schema))}
        place = [leaf[name] for name in _COLUMNS]
        for number in range(file.num_row_groups):
            group = file.metadata.row_group(number)
            process, sequence, salt = (group.column(i).statistics for i in place)
            known = all(s is not None and s.has_min_max for s in (process, sequence, salt))
            if known and process.min == process.max:
                salts = {salt.min, salt.max}
                yield process.min, sequence.min, sequence.max, group.num_rows, salts
            else:  # Files that somebody has put together.
                yield from _ranges_of(file.read_row_group(number, columns=list(_COLUMNS)))


def _ranges_of(lists: pa.Table) -> Iterator[_Range]:
    salts = set(lists[SALT].to_pylist())
    found = lists.group_by(PROCESS).aggregate(
        [(SEQUENCE, "min"), (SEQUENCE, "max"), (SEQUENCE, "count")]
    )
    for row in found.to_pylist():
        low, high, rows = (row[f"{SEQUENCE}_{what}"] for what in ("min", "max", "count"))
        yield row[PROCESS], low, high, rows, salts
