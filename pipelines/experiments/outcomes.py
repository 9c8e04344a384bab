"""What followed: outcomes of the users of an experiment, summed per user."""

from __future__ import annotations

import dataclasses
from collections import Counter

import numpy as np
import pyarrow as pa

from fairness_losses.errors import InvalidInputError
from pipelines.examples.checks import as_numbers, as_seconds, as_strings, is_missing
from pipelines.examples.splits import id_hashes
from pipelines.experiments.lists import SEED, TIMESTAMP
from pipelines.experiments.users import Users, per_day
from pipelines.readers.chunks import Chunk
from pipelines.readers.files import check_columns, column_names, find_files, plan_chunks, read_chunk
from serving.experiments.config import Experiment
from serving.experiments.metrics import LISTS, OUTCOMES
from towers.config import USER_ID

OUTCOME_ID = "outcome_id"
"""Column that tells repeated outcomes; without it, none is taken for a repetition."""

_DAY = 86_400


@dataclasses.dataclass(frozen=True)
class Outcomes:
    """Sums of the outcomes.

    Attributes:
        totals: By column, and for `outcomes` and `lists`, float64 `[num_users]`.
        before: The same before the start, without `lists`; empty without a covariate.
        daily: By column of the primary metric, float64 `[num_users, num_days]`.
        last: Second of the last outcome.
        counts: `read`, `used`, `used_before` and `left_out` by reason, which add up.
    """

    totals: dict[str, np.ndarray]
    before: dict[str, np.ndarray]
    daily: dict[str, np.ndarray]
    last: int
    counts: dict[str, object]


def read_outcomes(pattern: str | None, experiment: Experiment, users: Users) -> Outcomes:
    """Reads outcomes and sums those that belong to a user's time in the experiment.

    An outcome is left out, with a reason that is counted, if it repeats another (by `outcome_id`),
    has no user, no time or a value that is no number, is of nobody who was served a list of the
    experiment, or of somebody who was left out, or is not between the user's first list (less
    `clock_skew_seconds`) and the end. Those of the `covariate_days` before the start count there.

    Args:
        pattern: Files of any format that examples are built from, with `user_id`, `timestamp` and
            the columns of the metrics; None where metrics need no outcomes.
        experiment: With the metrics.
        users: Who was served.

    Raises:
        InvalidInputError: A file is damaged or lacks a column, or there is none and a metric
            needs it.
    """
    sums = _Sums(experiment, users)
    if pattern is None:
        _check_not_needed(experiment)
        return sums.result()
    files = find_files(pattern, "--outcomes")
    columns = [USER_ID, TIMESTAMP, *experiment.columns]
    columns += [OUTCOME_ID] if OUTCOME_ID in column_names(files[0]) else []
    check_columns(files, dict.fromkeys(columns, "--outcomes"))
    for chunk in plan_chunks(files):
        for block in read_chunk(chunk, columns):
            sums.add(block.table, chunk)
            sums.left_out["unreadable row"] += len(block.unreadable)
            sums.read += len(block.unreadable)
    return sums.result()


def _check_not_needed(experiment: Experiment) -> None:
    needed = experiment.columns or [
        OUTCOMES for m in experiment.metrics.all if OUTCOMES in m.model_dump().values()
    ]
    if needed:
        raise InvalidInputError(
            f"the metrics of `{experiment.name}` are made of `{needed[0]}`. Give `--outcomes`, "
            "files with the outcomes of the users."
        )


class _Sums:
    """Adds up the outcomes, some rows at a time."""

    def __init__(self, experiment: Experiment, users: Users) -> None:
        self._experiment, self._users = experiment, users
        self._start, self._end = (int(t.timestamp()) for t in (experiment.start, experiment.end))
        columns = [OUTCOMES, *experiment.columns]
        number, days = users.daily_lists.shape
        self._totals = {column: np.zeros(number) for column in columns}
        self._before = {column: np.zeros(number) for column in columns}
        primary = experiment.metrics.primary
        parts = (
            [primary.value] if primary.kind == "mean" else [primary.numerator, primary.denominator]
        )
        self._daily = {part: np.zeros((number, days)) for part in parts if part != LISTS}
        self._has_lists_daily = LISTS in parts
        self._ids: list[np.ndarray] = []
        self._last = users.last
        self.left_out: Counter[str] = Counter()
        self.read = self._used = self._used_before = 0

    def add(self, table: pa.Table, chunk: Chunk) -> None:
        """Adds rows."""
        where = f"{chunk.path}, column"
        user_ids = as_strings(table[USER_ID], f"{where} `{USER_ID}`")
        seconds, has_time = as_seconds(table[TIMESTAMP], f"{where} `{TIMESTAMP}`")
        values = {c: as_numbers(table[c], f"{where} `{c}`") for c in self._experiment.columns}
        user = id_hashes(user_ids.fill_null(""), SEED)
        row, is_known = _look_up(user, self._users.user)
        first = np.append(self._users.first, 0)[row]
        experiment = self._experiment
        is_in = seconds >= first - experiment.clock_skew_seconds
        days_before = experiment.covariate_days or 0
        is_before = (seconds < self._start) & (seconds >= self._start - days_before * _DAY) & ~is_in
        kept = np.ones(len(user), bool)
        self.read += len(user)
        for reason, applies in {
            "no user": is_missing(user_ids),
            "no time": ~has_time,
            "value is no number": ~np.all(
                [np.isfinite(v) for v in values.values()] or [np.ones(len(user), bool)], axis=0
            ),
            "repeats another outcome": self._repeats(table, where),
            "of a user who was left out": np.isin(user, self._users.left_out),
            "of nobody who was served": ~is_known,
            "after the end": seconds >= self._end,
            "before the user's first list": ~is_in & ~is_before,
        }.items():
            self.left_out[reason] += int((kept & applies).sum())
            kept &= ~applies
        self._sum(row, seconds, values, kept & is_in, kept & is_before)

    def _sum(
        self,
        row: np.ndarray,
        seconds: np.ndarray,
        values: dict[str, np.ndarray],
        is_in: np.ndarray,
        is_before: np.ndarray,
    ) -> None:
        number = len(self._users.user)
        values = {OUTCOMES: np.ones(len(row)), **values}
        for column, value in values.items():
            for sums, rows in ((self._totals, is_in), (self._before, is_before)):
                sums[column] += np.bincount(row[rows], value[rows], minlength=number)[:number]
        since = np.maximum(seconds[is_in] - self._users.first[row[is_in]], 0) // _DAY
        for column, sums_of_days in self._daily.items():
            shape = (number, sums_of_days.shape[1])
            sums_of_days += per_day(row[is_in], since, values[column][is_in], shape)
        self._used += int(is_in.sum())
        self._used_before += int(is_before.sum())
        if is_in.any():
            self._last = max(self._last, int(seconds[is_in].max()))

    def _repeats(self, table: pa.Table, where: str) -> np.ndarray:
        """Which rows repeat an outcome of the same or an earlier chunk."""
        if OUTCOME_ID not in table.column_names:
            return np.zeros(len(table), bool)
        ids = as_strings(table[OUTCOME_ID], f"{where} `{OUTCOME_ID}`")
        # An outcome without an id repeats none.
        named = ~is_missing(ids)
        hashes = id_hashes(ids.fill_null(""), SEED)
        again = np.ones(len(hashes), bool)
        again[np.unique(hashes, return_index=True)[1]] = False
        for earlier in self._ids:
            again |= np.isin(hashes, earlier)
        self._ids.append(np.unique(hashes[named]))
        return again & named

    def result(self) -> Outcomes:
        """The sums."""
        lists, daily_lists = self._users.lists, self._users.daily_lists
        daily = {**self._daily, **({LISTS: daily_lists} if self._has_lists_daily else {})}
        counts = {
            "read": self.read,
            "used": self._used,
            "used_before": self._used_before,
            "left_out": {reason: n for reason, n in self.left_out.items() if n},
        }
        before = self._before if self._experiment.covariate_days else {}
        return Outcomes({**self._totals, LISTS: lists}, before, daily, self._last, counts)


def _look_up(user: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the users, and whether they are there; the row of others is one too many."""
    place = np.searchsorted(known, user)
    found = np.append(known, 0)[place] == user
    found &= place < len(known)
    return np.where(found, place, len(known)), found
