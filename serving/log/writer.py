"""The bounded asynchronous writer of the serving log.

`append` returns at once. True means accepted: the lists wait in memory, and a thread of its own
writes them into a Parquet file, which appears whole or not at all, after `rotate_seconds` at the
latest, or when `flush` is called. A process that is killed loses what it had not written by then,
and nothing else. False means dropped: there was no room, because the disk is full or slower than
the requests. At any time, accepted = written + pending + failed; and lists are numbered, so that
the audit sees how many are missing.
"""

from __future__ import annotations

import atexit
import dataclasses
import logging
import math
import pathlib
import secrets
import threading
import time
from collections import deque

import pyarrow as pa

from fairness_losses.errors import InvalidInputError
from serving.log.answer import Answer
from serving.log.config import LogConfig
from serving.log.counts import LogCounts
from serving.log.lists import as_tables, num_lists
from serving.log.salts import Salts
from serving.whole_files import remove_leftovers, write_json, write_table

_BEAT = 0.1
"""Seconds between looks at what has come: a request does not have to wake the writer."""

_RETRY = 1.0
"""Seconds before the next attempt after one that failed."""

_log = logging.getLogger(__name__)


class ListLog:
    """Writes lists to files of a folder; an `AnswerLog`. Any number of threads may append.

    Args:
        config: With `directory` and `salts`.

    Raises:
        InvalidInputError: A folder cannot be made, or that of the salts is open to others.
    """

    def __init__(self, config: LogConfig) -> None:
        if config.directory is None or config.salts is None:
            raise InvalidInputError("`serving.log` needs `directory` and `salts`: give both.")
        self._config = config
        self._folder = pathlib.Path(config.directory)
        self._salts = Salts(pathlib.Path(config.salts), config.salt_period, config.keep_salts)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            remove_leftovers(self._folder)
        except OSError as error:
            raise InvalidInputError(
                f"{self._folder}: cannot hold the serving log ({error.strerror}). Give another "
                "`serving.log.directory`."
            ) from error
        self._process = time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + secrets.token_hex(4)
        self._changed = threading.Condition()
        self._wake = threading.Event()
        # Of the requests, under the lock.
        self._accepted = self._written = self._failed = self._dropped = 0
        self._queue: deque[tuple[int, Answer]] = deque()
        self._flush_up_to = 0
        self._deadline: float | None = None
        # Of the writer's thread alone.
        self._answers: list[tuple[int, Answer]] = []
        self._tables: list[pa.Table] = []
        self._oldest = self._retry_at = 0.0
        self._troubled = False
        self._thread = threading.Thread(target=self._run, name="serving-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @property
    def counts(self) -> LogCounts:
        """What became of the lists until now."""
        with self._changed:
            return LogCounts(self._accepted, self._written, self._failed, self._dropped)

    def append(self, answer: Answer) -> bool:
        """Takes an answer without waiting for anything; one without lists needs no room.

        Args:
            answer: What was answered.

        Returns:
            Whether its lists were accepted, see the module.
        """
        lists = num_lists(answer)
        if not lists:
            return True
        with self._changed:
            pending = self._accepted - self._settled()
            if self._deadline is not None or pending + lists > self._config.max_pending:
                self._dropped += lists
                return False
            self._queue.append((self._accepted + self._dropped, answer))
            self._accepted += lists
        return True

    def flush(self, timeout: float) -> bool:
        """Writes what was accepted until now.

        Args:
            timeout: Seconds to wait for it.

        Returns:
            Whether it is all in files by then, or counted as failed.
        """
        with self._changed:
            target = self._flush_up_to = self._accepted
            self._wake.set()
            return self._changed.wait_for(lambda: self._settled() >= target, timeout)

    def close(self, timeout: float = 30.0) -> LogCounts:
        """Writes what is left and ends the log: later answers are dropped.

        Args:
            timeout: Seconds for which a full disk is tried again; then what is left is failed.

        Returns:
            The counts, with nothing pending.
        """
        with self._changed:
            if self._deadline is None:
                self._deadline = time.monotonic() + timeout
        self._wake.set()
        self._thread.join()
        atexit.unregister(self.close)
        return self.counts

    def _settled(self) -> int:
        return self._written + self._failed

    def _run(self) -> None:
        closing = False
        while not (closing and not self._answers and not self._tables):
            self._wake.wait(_BEAT)
            self._wake.clear()
            with self._changed:
                self._answers += self._queue
                self._queue.clear()
                deadline, closing = self._deadline, self._deadline is not None
                forced = closing or self._flush_up_to > self._settled()
            if time.monotonic() >= self._retry_at:
                self._collect()
                if self._tables and (forced or self._is_due()):
                    self._write()
            if deadline is not None and time.monotonic() > deadline:
                self._give_up()
        self._write_counts(closed=True)

    def _is_due(self) -> bool:
        rows = sum(table.num_rows for table in self._tables)
        size = sum(table.nbytes for table in self._tables)
        return (
            rows >= self._config.rotate_rows
            or size >= self._config.rotate_mb * 1e6
            or time.monotonic() >= self._oldest + self._config.rotate_seconds
        )

    def _collect(self) -> None:
        """Turns answers into tables, which take less memory."""
        if not self._answers:
            return
        times = [answer.unix_seconds for _, answer in self._answers]
        try:
            # Apart from the rest: answers should not fail for want of a salt.
            for start in {self._salts.start_of(at) for at in times if math.isfinite(at)}:
                self._salts.salt(start)
        except OSError as error:
            self._try_again(error)
            return
        if not self._tables:
            self._oldest = time.monotonic()
        tables, failed = as_tables(self._answers, self._process, self._salts)
        self._tables += tables
        self._answers = []
        self._settle(failed=failed)

    def _write(self) -> None:
        table = pa.concat_tables(self._tables)
        name = f"{self._process}-{table['sequence'][0]}.parquet"
        try:
            write_table(table, self._folder / name)
        except OSError as error:
            self._try_again(error)
            return
        except Exception:
            _log.exception("%d lists could not be written.", table.num_rows)
            self._tables = []
            self._settle(failed=table.num_rows)
            return
        if self._troubled:
            _log.warning("the serving log can be written again.")
        self._troubled, self._tables = False, []
        self._settle(written=table.num_rows)
        self._write_counts(closed=False)

    def _try_again(self, error: OSError) -> None:
        self._retry_at = time.monotonic() + _RETRY
        if not self._troubled:
            self._troubled = True
            _log.error(
                "the serving log cannot be written (%s). Lists are kept up to "
                "`serving.log.max_pending`, then dropped, until it can be.",
                error.strerror,
            )

    def _give_up(self) -> None:
        left = self.counts.pending
        if left:
            _log.error("the serving log was closed with %d lists that were not written.", left)
        self._answers, self._tables = [], []
        self._settle(failed=left)

    def _settle(self, written: int = 0, failed: int = 0) -> None:
        with self._changed:
            self._written += written
            self._failed += failed
            self._changed.notify_all()

    def _write_counts(self, closed: bool) -> None:
        counts = self.counts
        content = {**dataclasses.asdict(counts), "pending": counts.pending, "closed": closed}
        try:
            write_json(content, self._folder / f"{self._process}.json")
        except OSError as error:
            self._try_again(error)
