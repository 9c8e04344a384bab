"""Files of lists that arrive in a folder, as a stream with a watermark.

Beam's runners in Python that work in this process cannot run an unbounded source: `FnApiRunner`
runs one stage after the other to its end, and the direct runner holds the watermark of a
splittable DoFn back until it ends. What the direct runner can follow is a `TestStream` whose
events come from a service, which is how Interactive Beam replays recorded streams. So the folder is
such a service here. On a cluster, the lists come from its own sources.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import pathlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pyarrow.parquet as pq
from apache_beam.coders import PickleCoder
from apache_beam.io.filesystems import FileSystems
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.testing.test_stream import TestStream
from apache_beam.testing.test_stream_service import TestStreamServiceController
from apache_beam.utils.timestamp import Timestamp

from fairness_losses.errors import InvalidInputError
from pipelines.audit.list_files import LIST_ID, ListFiles
from pipelines.audit.pseudonyms import Pseudonyms
from pipelines.examples.checks import as_seconds
from pipelines.examples.inputs import TIMESTAMP
from pipelines.readers.chunks import Chunk, open_file, readable

_Event = beam_runner_api_pb2.TestStreamPayload.Event
_TAG = "None"  # Of the main output, as the service spells it.
_LOG = logging.getLogger(__name__)

LISTINGS = 12
"""So often in a row a folder may fail to be listed, as one on a network does for a while."""


@dataclasses.dataclass(frozen=True)
class Arrival:
    """A part of a file that has arrived.

    Attributes:
        files: The file, alone.
        chunk: The part.
        watermark: Second up to which everything was thought to have arrived before.
    """

    files: ListFiles
    chunk: Chunk
    watermark: float


class FolderStream:
    """The events of a folder; it is what the service reads from.

    A file is read once, when its name matches: write it elsewhere, or under another name, and
    rename it when it is complete. The watermark is the latest time in any file, but not in the
    future, less `max_delay`.

    Args:
        pattern: Glob of Parquet files, of any file system that Beam knows.
        log: Where a line is added for every file: `file`, its path, `lists`, their number, and
            `problem`, if it cannot be read. Its lines are numbered from 0, as the files are.
        seed: Of the lists' hashes.
        max_delay: Seconds by which lists may be out of order.
        poll: Seconds between looks at the folder, fewer than the 30 that the runner waits.
        stop: Ends the stream when it is set; every window is reported then.
        idle: Ends the stream when no file has come for so many seconds; never, if None.
        pseudonyms: Where the hashes of a serving log lead back to users.
    """

    def __init__(
        self,
        pattern: str,
        log: pathlib.Path,
        seed: int,
        max_delay: int,
        poll: float,
        stop: threading.Event,
        idle: float | None,
        pseudonyms: Pseudonyms | None = None,
    ) -> None:
        self._pattern, self._log = pattern, log
        self._seed, self._max_delay = seed, max_delay
        self._poll, self._stop, self._idle = poll, stop, idle
        self._pseudonyms = pseudonyms
        self._error: Exception | None = None
        self._coder = PickleCoder()
        self._controller = TestStreamServiceController(self)

    def __enter__(self) -> beam.PTransform:
        """Starts the service and returns the transform of its `Arrival`s."""
        self._controller.start()
        return TestStream(coder=self._coder, endpoint=self._controller.endpoint)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Stops the service and raises what ended the stream, if that was an error."""
        self._controller.stop()
        if kind is None and self._error is not None:
            raise self._error

    def read_multiple(self, _: Any) -> Iterator[Any]:
        """Yields events until the stream ends; called by the service."""
        try:
            yield from self._events()
        except Exception as error:
            # For the runner a service that fails is a stream that ends.
            self._error = error

    def _events(self) -> Iterator[Any]:
        known: dict[str, int] = {}
        watermark, waited, failed = float("-inf"), 0.0, 0
        while not self._stop.is_set() and (self._idle is None or waited < self._idle):
            try:
                files, failed = self._files(), 0
            except Exception as error:  # Beam wraps whatever the file system raises.
                files, failed = [], failed + 1
                if failed == LISTINGS:
                    raise
                _LOG.warning("%s cannot be listed, trying again: %s", self._pattern, error)
            new = [path for path in files if path not in known]
            latest = float("-inf")
            for path in new:
                number = known.setdefault(path, len(known))
                for arrival, earliest, last in self._arrivals(path, number, watermark):
                    yield self._element(arrival, earliest)
                    latest = max(latest, last)
            # A clock that is ahead should not make all other lists late.
            latest = min(latest, int(time.time()))
            if latest - self._max_delay > watermark:
                watermark = latest - self._max_delay
                yield _watermark(watermark)
            # The runner gives up on a service that is silent.
            yield _tick(self._poll)
            waited = 0.0 if new else waited + self._poll
            self._stop.wait(self._poll)

    def _files(self) -> list[str]:
        return sorted(f.path for f in FileSystems.match([self._pattern])[0].metadata_list)

    def _arrivals(self, path: str, number: int, watermark: float) -> list[tuple[Arrival, int, int]]:
        """The parts of a file with the first and the last second of their lists."""
        found, problem = [], None
        try:
            files = ListFiles.find(path, self._seed, self._pseudonyms)
            for chunk in files.chunks:
                chunk = dataclasses.replace(chunk, file=number)
                found.append((Arrival(files, chunk, watermark), *_seconds(chunk)))
        except InvalidInputError as error:
            # One broken file should not end the watch over all others.
            found, problem = [], str(error)
        with self._log.open("a", encoding="utf-8") as log:
            line = {"file": path, "lists": sum(f[0].chunk.rows for f in found), "problem": problem}
            log.write(json.dumps(line, ensure_ascii=False) + "\n")
        return found

    def _element(self, arrival: Arrival, second: int) -> Any:
        element = beam_runner_api_pb2.TestStreamPayload.TimestampedElement(
            encoded_element=self._coder.encode(arrival), timestamp=Timestamp(second).micros
        )
        return _Event(element_event=_Event.AddElements(elements=[element], tag=_TAG))


def _seconds(chunk: Chunk) -> tuple[int, int]:
    with readable(chunk.path), open_file(chunk.path) as stream:
        file = pq.ParquetFile(stream)
        for name in (TIMESTAMP, LIST_ID):
            if name not in file.schema_arrow.names:
                raise InvalidInputError(f"{chunk.path}: there is no column `{name}`.")
        times = file.read_row_groups(chunk.row_groups, columns=[TIMESTAMP])[TIMESTAMP]
    seconds, valid = as_seconds(times, f"{chunk.path}, column `{TIMESTAMP}`")
    usable = seconds[valid]
    return (int(usable.min()), int(usable.max())) if len(usable) else (0, 0)


def _watermark(second: float) -> Any:
    moment = Timestamp(second).micros
    return _Event(watermark_event=_Event.AdvanceWatermark(new_watermark=moment, tag=_TAG))


def _tick(seconds: float) -> Any:
    passed = int(seconds * 1e6)
    return _Event(processing_time_event=_Event.AdvanceProcessingTime(advance_duration=passed))
