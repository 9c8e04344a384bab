"""What is kept of a window while lists can come to it: which it had, and their sums."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.coders import BytesCoder, PickleCoder
from apache_beam.transforms.timeutil import TimeDomain
from apache_beam.transforms.userstate import (
    BagStateSpec,
    ReadModifyWriteStateSpec,
    TimerSpec,
    on_timer,
)

from pipelines.audit.accumulator import Accumulator
from pipelines.audit.list_files import LIST_ID
from pipelines.audit.read_lists import came_before, dead_lists, repeats_another
from pipelines.audit.transforms import AddUp
from pipelines.examples.arrow_ipc import from_bytes, to_bytes
from pipelines.examples.checks import Rejections
from towers.config import USER_ID

IDS = (USER_ID, LIST_ID)
"""What a list is told apart by."""

HASH = "__hash"
"""Column with what tells lists apart, uint64, see `list_files.list_hashes`."""

Sums = tuple[int, Accumulator]
"""Sums with their key, or with the number of totals of their window before them."""

# State of the window and shard, and of the window.
_SEEN = beam.DoFn.StateParam(BagStateSpec("seen", BytesCoder()))
_TOTAL = beam.DoFn.StateParam(ReadModifyWriteStateSpec("total", PickleCoder()))

# Timers, each of one step: the end of a window, and when no more can come to it.
_END = TimerSpec("end", TimeDomain.WATERMARK)
_TOTAL_EXPIRY = TimerSpec("expiry", TimeDomain.WATERMARK)
_SEEN_EXPIRY = TimerSpec("expiry", TimeDomain.WATERMARK)


class Distinct(beam.DoFn):
    """Tables to the lists that their window has not had yet, the first of each.

    Args:
        allowed_lateness: Seconds after a window's end for which its lists are remembered.
    """

    def __init__(self, allowed_lateness: int) -> None:
        self._allowed_lateness = allowed_lateness

    def process(
        self,
        part: tuple[int, bytes],
        window: Any = beam.DoFn.WindowParam,
        seen: Any = _SEEN,
        expiry: Any = beam.DoFn.TimerParam(_SEEN_EXPIRY),  # noqa: B008
    ) -> Iterator[Any]:
        """See the class."""
        expiry.set(window.max_timestamp() + self._allowed_lateness)
        lists = from_bytes(part[1])
        hashes = lists[HASH].to_numpy()
        earlier = b"".join(seen.read())
        again = came_before(hashes) | np.isin(hashes, np.frombuffer(earlier, np.uint64))
        rejections = Rejections(len(lists))
        rejections.add(again, repeats_another(IDS))
        if again.any():
            yield dead_lists(rejections.dead(lists))
            lists = lists.filter(pa.array(~again))
        if len(lists):
            seen.add(hashes[~again].tobytes())
            yield to_bytes(lists)

    @on_timer(_SEEN_EXPIRY)
    def forget(self, seen: Any = _SEEN) -> None:
        """Forgets the lists of a window that no more can come to."""
        seen.clear()


class RunningTotal(beam.DoFn):
    """Sums of lists to the total of their window, with the number of totals before it.

    There is one when the watermark passes the window's end, and one more for all sums that come
    later. The total alone is kept, and only until no more can come.

    Args:
        allowed_lateness: Seconds after a window's end for which its total is kept.
    """

    def __init__(self, allowed_lateness: int) -> None:
        self._allowed_lateness = allowed_lateness

    def process(
        self,
        part: Sums,
        window: Any = beam.DoFn.WindowParam,
        kept: Any = _TOTAL,
        end: Any = beam.DoFn.TimerParam(_END),  # noqa: B008
        expiry: Any = beam.DoFn.TimerParam(_TOTAL_EXPIRY),  # noqa: B008
    ) -> Iterator[Sums]:
        """See the class."""
        number, total = kept.read() or (0, None)
        total = AddUp().add_input(total, part[1])
        if number:
            yield number, total
            number += 1
        else:
            end.set(window.end)
            expiry.set(window.max_timestamp() + self._allowed_lateness)
        kept.write((number, total))

    @on_timer(_END)
    def end(self, kept: Any = _TOTAL) -> Iterator[Sums]:
        """Yields the first total of a window."""
        number, total = kept.read()
        yield number, total
        kept.write((number + 1, total))

    @on_timer(_TOTAL_EXPIRY)
    def forget(self, kept: Any = _TOTAL) -> None:
        """Forgets the total of a window that no more can come to."""
        kept.clear()
