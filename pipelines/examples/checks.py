"""Vectorised checks of rows: what can be used, and why the rest cannot."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fairness_losses.errors import InvalidInputError
from pipelines.examples.inputs import TIMESTAMP, Log
from pipelines.readers.chunks import FILE, ROW, Block
from pipelines.readers.types import is_number
from towers.config import ITEM_ID, USER_ID

SPLIT = "split"
"""Column of the checked log with the split that it states itself."""

PARTS = ("train", "validation", "test")
"""The parts of a split."""

REASON = "reason"
"""Column of dead letters with what is wrong."""

DEAD_SCHEMA = pa.schema(
    [
        (FILE, pa.int32()),
        (ROW, pa.int64()),
        (REASON, pa.string()),
        (USER_ID, pa.string()),
        (ITEM_ID, pa.string()),
    ]
)
"""Dead letters hold no other values, since any column may be sensitive."""

# Years 1 and 9999: beyond them a time was hardly meant as seconds.
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
_ISO_8601 = r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?$"


@dataclasses.dataclass(frozen=True)
class Checked:
    """Rows after the checks.

    Attributes:
        good: The usable rows.
        dead: The other ones, as `DEAD_SCHEMA`.
    """

    good: pa.Table
    dead: pa.Table


class Rejections:
    """Notes per row the first reason why it cannot be used."""

    def __init__(self, num_rows: int) -> None:
        self._code = np.zeros(num_rows, np.int16)
        self._reasons: list[str] = []

    def add(self, rows: np.ndarray, reason: str) -> None:
        """Rejects rows.

        Args:
            rows: bool `[num_rows]`.
            reason: What is wrong with them; names columns, never values.
        """
        self._reasons.append(reason)
        self._code[rows & self.ok] = len(self._reasons)

    @property
    def ok(self) -> np.ndarray:
        """Bool `[num_rows]`, true for rows that nothing was wrong with."""
        return self._code == 0

    def dead(self, table: pa.Table) -> pa.Table:
        """Returns the rejected rows of the table as dead letters, `DEAD_SCHEMA`."""
        rejected = np.flatnonzero(~self.ok)
        reasons = [self._reasons[code - 1] for code in self._code[rejected]]
        columns = {n: table[n] for n in DEAD_SCHEMA.names if n in table.column_names}
        return dead_letters({**pa.table(columns).take(rejected).to_pydict(), REASON: reasons})


def dead_letters(columns: Mapping[str, object]) -> pa.Table:
    """Returns a table of dead letters; columns that are not given are null."""
    num_rows = len(columns[ROW])  # type: ignore[arg-type]
    return pa.table(
        [
            pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(num_rows, f.type)
            for f in DEAD_SCHEMA
        ],
        schema=DEAD_SCHEMA,
    )


def unreadable_rows(block: Block, file: int) -> pa.Table:
    """Returns the rows of a block that could not be taken apart as dead letters."""
    count = len(block.unreadable)
    columns = {FILE: [file] * count, ROW: block.unreadable, REASON: [block.reason] * count}
    return dead_letters(columns)


def check_interactions(block: Block, log: Log, file: int) -> Checked:
    """Checks rows of the log.

    Args:
        block: The rows.
        log: Names of the columns.
        file: Number of the file.

    Returns:
        Usable rows with `user_id`, `item_id` (string), `timestamp` (int64 seconds, if the log has
        times), `split` (int8 index into `PARTS`, if the log says it), `FILE` and `ROW`.

    Raises:
        InvalidInputError: A column is of a type that cannot be what it should be.
    """
    table = block.table
    rejections = Rejections(len(table))
    columns = {FILE: table[FILE], ROW: table[ROW]}
    for name, column in log.ids.items():
        columns[name] = as_strings(table[column], f"data.interactions, column `{column}`")
        rejections.add(is_missing(columns[name]), f"`{column}` is empty")
    if log.timestamp:
        seconds, valid = as_seconds(
            table[log.timestamp], f"data.interactions, column `{log.timestamp}`"
        )
        rejections.add(
            ~valid, f"`{log.timestamp}` is neither seconds since 1970 nor an ISO 8601 date or time"
        )
        columns[TIMESTAMP] = pa.array(seconds)
    if log.split:
        parts = as_strings(table[log.split], f"data.interactions, column `{log.split}`")
        part = pc.fill_null(pc.index_in(parts, pa.array(PARTS)), -1).to_numpy(zero_copy_only=False)
        rejections.add(part < 0, f"`{log.split}` is not train, validation or test")
        columns[SPLIT] = pa.array(part.astype(np.int8))
    checked = pa.table(columns)
    dead = pa.concat_tables([rejections.dead(checked), unreadable_rows(block, file)])
    return Checked(checked.filter(pa.array(rejections.ok)), dead)


def is_missing(strings: pa.Array, values: tuple[str, ...] = ("",)) -> np.ndarray:
    """Returns bool `[num_rows]`, true where a string is null or one of the values."""
    missing = pc.or_kleene(pc.is_null(strings), pc.is_in(strings, pa.array(values, pa.string())))
    return missing.to_numpy(zero_copy_only=False)


def as_strings(column: pa.ChunkedArray | pa.Array, where: str) -> pa.Array:
    """Returns a column of scalars as strings; whole numbers have no decimals, null stays null.

    Raises:
        InvalidInputError: The column holds something else; the message begins with `where`.
    """
    values = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_dictionary(values.type):
        values = values.dictionary_decode()
    if pa.types.is_null(values.type) or pa.types.is_string(values.type):
        return values.cast(pa.string())
    if pa.types.is_floating(values.type):
        values = values.cast(pa.float64())
        # Ids with gaps become floats in pandas: 7.0 means 7. Beyond 2^53 they mean nothing.
        whole = pc.and_(pc.equal(pc.floor(values), values), pc.less(pc.abs(values), 2.0**53))
        integers = pc.if_else(whole, values, None).cast(pa.int64()).cast(pa.string())
        fractions = pc.if_else(pc.is_nan(values), None, values).cast(pa.string())
        return pc.coalesce(integers, fractions)
    try:
        if pa.types.is_nested(values.type):
            raise pa.ArrowInvalid("nested")
        return values.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidInputError(
            f"{where}: should hold strings or numbers. Received: {values.type}."
        ) from error


def as_numbers(column: pa.ChunkedArray, where: str) -> np.ndarray:
    """Returns a column as float64 `[num_rows]`, NaN for what is missing or not a number.

    Raises:
        InvalidInputError: The column's type cannot hold numbers; the message begins with `where`.
    """
    if is_number(column.type):
        return column.cast(pa.float64(), safe=False).to_numpy().astype(np.float64)
    strings = as_strings(column, where)
    try:
        return strings.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:  # Arrow is faster, but does not say which strings are no numbers.
        return pd.to_numeric(strings.to_pandas(), errors="coerce").to_numpy(np.float64)


def as_seconds(column: pa.ChunkedArray, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns times as seconds since 1970, rounded down.

    Args:
        column: Seconds, ISO 8601 strings, or Arrow dates or timestamps. Without a time zone UTC
            is meant.
        where: Beginning of the error message.

    Returns:
        int64 `[num_rows]` seconds, and bool `[num_rows]`, false where there is no valid time.

    Raises:
        InvalidInputError: The column's type cannot hold times.
    """
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        zone = getattr(column.type, "tz", None)
        times = column.cast(pa.timestamp("us", tz=zone), safe=False).cast(pa.int64())
        seconds = np.floor(times.to_numpy().astype(np.float64) / 1e6)
    else:
        seconds = as_numbers(column, where)
        if not is_number(column.type):
            strings = as_strings(column, where)
            iso = pc.fill_null(pc.match_substring_regex(strings, _ISO_8601), False)
            rows = iso.to_numpy(zero_copy_only=False)
            if rows.any():
                seconds[rows] = _parse_iso(strings.filter(iso))
    with np.errstate(invalid="ignore"):
        valid = (seconds >= _FIRST_SECOND) & (seconds <= _LAST_SECOND)
    return np.where(valid, np.floor(seconds), 0).astype(np.int64), valid


def _parse_iso(strings: pa.Array) -> np.ndarray:
    times = pd.to_datetime(strings.to_pandas(), errors="coerce", utc=True)
    seconds = times.astype("int64").to_numpy() / 1e9
    return np.where(times.isna(), np.nan, seconds)
