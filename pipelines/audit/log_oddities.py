"""What is odd in a serving log and changes no figure: impossible times, lists without an arm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipelines.examples.checks import as_seconds, is_missing
from pipelines.readers.chunks import open_file, readable
from serving.log.lists import PROCESS, SEQUENCE

TOLERANCE = 60.0
"""Seconds by which clocks may differ, and lists of one process be out of order."""

_TIME, _ARM = "timestamp", "arm"
_COLUMNS = (PROCESS, SEQUENCE, _TIME, _ARM)


def find_oddities(files: Sequence[str], now: float) -> dict[str, Any]:
    """Counts lists of a log whose time or arm is odd. They are audited like any other.

    Args:
        files: Of the log, `serving.log.lists.SCHEMA`.
        now: Seconds since 1970.

    Returns:
        `clock`: `backwards`, lists that are said to have been served over a minute before an
        earlier one of the same process, by their numbers; `ahead`, over a minute after `now`; and
        `without_time`; and `without_arm`, if some lists have an arm (else None).

    Raises:
        InvalidInputError: A file is damaged.
    """
    clock = dict.fromkeys(("backwards", "ahead", "without_time"), 0)
    lists = without_arm = 0
    latest: dict[str, float] = {}
    for part in _in_order(files):
        seconds, valid = as_seconds(part[_TIME], f"column `{_TIME}`")
        clock["without_time"] += int((~valid).sum())
        clock["ahead"] += int((seconds[valid] > now + TOLERANCE).sum())
        lists += len(part)
        without_arm += int(is_missing(part[_ARM].combine_chunks()).sum())
        process = part[PROCESS].combine_chunks().dictionary_encode()
        codes = pc.fill_null(process.indices, -1).to_numpy()
        order = np.argsort(part[SEQUENCE].to_numpy(), kind="stable")
        for code, name in enumerate(process.dictionary.to_pylist()):
            mine = order[(codes[order] == code) & valid[order]]
            if not len(mine):
                continue
            so_far = np.maximum.accumulate(np.append(latest.get(name, -np.inf), seconds[mine]))
            clock["backwards"] += int((seconds[mine] < so_far[:-1] - TOLERANCE).sum())
            latest[name] = float(so_far[-1])
    return {"clock": clock, "without_arm": without_arm if without_arm < lists else None}


def _in_order(files: Sequence[str]) -> Iterator[pa.Table]:
    """The columns of every row group, in the order of the lists' numbers."""
    groups: list[tuple[Any, str, int]] = []
    for path in files:
        with readable(path), open_file(path) as stream:
            file = pq.ParquetFile(stream)
            schema = file.metadata.schema
            place = [schema.column(i).path for i in range(len(schema))].index(SEQUENCE)
            for number in range(file.num_row_groups):
                statistics = file.metadata.row_group(number).column(place).statistics
                known = statistics is not None and statistics.has_min_max
                groups.append((statistics.min if known else 0, path, number))
    for _, path, number in sorted(groups):
        with readable(path), open_file(path) as stream:
            file = pq.ParquetFile(stream)
            there = [name for name in _COLUMNS if name in file.schema_arrow.names]
            table = file.read_row_group(number, columns=there)
        for name in (name for name in _COLUMNS if name not in there):
            table = table.append_column(name, pa.nulls(len(table), pa.string()))
        yield table
