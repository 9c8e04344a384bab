"""Merges requests that come at the same time into one call of the graph.

The rules are those of TensorFlow Serving's `BatchingSession`, so that what works here works there.
Two things are better: a request that makes a batch fail does not make its neighbours fail, and
inputs without any values are not merged with others, where TensorFlow Serving answers an error.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections import deque
from collections.abc import Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from serving.server.errors import Code, StatusError, from_exception
from serving.server.metrics import Metrics
from serving.server.runners import Arrays, Call, check_size
from serving.server.text_protos import Batching

_LOG = logging.getLogger(__name__)

_MAX_PADDED_VALUES = 1 << 20
"""Values of one input of a batch after padding: one long list must not blow up its neighbours."""


@dataclasses.dataclass
class _Task:
    inputs: Arrays
    rows: int
    answer: asyncio.Future


@dataclasses.dataclass
class _Batch:
    call: Call
    kind: Hashable
    due: float
    tasks: list[_Task] = dataclasses.field(default_factory=list)
    rows: int = 0
    lengths: dict[str, tuple[int, ...]] = dataclasses.field(default_factory=dict)

    def takes(self, task: _Task, max_rows: int) -> bool:
        rows = self.rows + task.rows
        widths = (_widest(self.lengths[n], a.shape[1:]) for n, a in task.inputs.items())
        largest = max(rows * int(np.prod(w, dtype=np.int64)) for w in widths)
        return rows <= max_rows and largest <= _MAX_PADDED_VALUES

    def add(self, task: _Task) -> None:
        for name, array in task.inputs.items():
            shape = array.shape[1:]
            self.lengths[name] = _widest(self.lengths.get(name, shape), shape)
        self.tasks.append(task)
        self.rows += task.rows


class BatchingRunner:
    """Merges requests to the same version and signature, for the same outputs.

    All but `_compute` runs on the event loop, so nothing is locked.
    """

    def __init__(self, settings: Batching, metrics: Metrics) -> None:
        """Initialises the runner with the settings of `batching.config`."""
        self._settings = settings
        self._metrics = metrics
        self._executor = ThreadPoolExecutor(settings.num_batch_threads, thread_name_prefix="batch")
        self._idle = settings.num_batch_threads
        # Batches that wait for a thread, oldest first, and those of them that take more requests.
        self._waiting: deque[_Batch] = deque()
        self._open: dict[Hashable, _Batch] = {}
        self._running: set[asyncio.Future] = set()

    async def run(self, call: Call, inputs: Arrays, rows: int) -> Arrays:
        """See `Runner`."""
        check_size(rows, self._settings.max_batch_size)
        loop = asyncio.get_running_loop()
        task = _Task(inputs, rows, loop.create_future())
        if not (call.signature.has_rows and rows):
            self._enqueue(_Batch(call, None, loop.time()), task)
        else:
            kind = self._kind(call, inputs)
            open_batch = self._open.get(kind)
            if open_batch is not None and open_batch.takes(task, self._settings.max_batch_size):
                open_batch.add(task)
            else:
                due = loop.time() + self._settings.batch_timeout_micros / 1e6
                batch = _Batch(call, kind, due)
                self._enqueue(batch, task)
                self._open[kind] = batch
                loop.call_at(due, self._start_ready)
        self._start_ready()
        return await task.answer

    def _kind(self, call: Call, inputs: Arrays) -> Hashable:
        """Requests of one kind share a batch."""
        pad = self._settings.pad_variable_length_inputs
        # There is nothing to pad an empty array with.
        shapes = [
            inputs[n].ndim if pad and inputs[n].size else inputs[n].shape[1:]
            for n in call.signature.inputs
        ]
        return (call.servable, call.signature.name, call.outputs, *shapes)

    def _enqueue(self, batch: _Batch, task: _Task) -> None:
        ahead = sum(
            b.call.servable is batch.call.servable
            and b.call.signature.name == batch.call.signature.name
            for b in self._waiting
        )
        if ahead >= self._settings.max_enqueued_batches:
            raise StatusError(
                Code.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; task size "
                f"is {task.rows} (num_enqueued_batches={ahead}, "
                f"max_enqueued_batches={self._settings.max_enqueued_batches})",
            )
        batch.add(task)
        self._waiting.append(batch)

    def _start_ready(self) -> None:
        """Gives batches to idle threads: those that are full, superseded, or old enough."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            batch = next((b for b in self._waiting if self._is_ready(b, now)), None)
            if batch is None:
                return
            self._waiting.remove(batch)
            if self._open.get(batch.kind) is batch:
                del self._open[batch.kind]
            batch.tasks = [t for t in batch.tasks if not t.answer.done()]
            if batch.tasks:
                self._start(batch)

    def _is_ready(self, batch: _Batch, now: float) -> bool:
        return (
            batch.due <= now
            or self._open.get(batch.kind) is not batch
            or batch.rows >= self._settings.max_batch_size
        )

    def _start(self, batch: _Batch) -> None:
        self._idle -= 1
        model = batch.call.servable.name
        self._metrics.batch_rows.labels(model).observe(sum(t.rows for t in batch.tasks))
        self._metrics.batch_requests.labels(model).observe(len(batch.tasks))
        computed = asyncio.get_running_loop().run_in_executor(
            self._executor, _compute, batch.call, [(t.inputs, t.rows) for t in batch.tasks]
        )
        self._running.add(computed)

        def finish(future: asyncio.Future) -> None:
            self._running.discard(future)
            self._idle += 1
            for task, answer in zip(batch.tasks, future.result(), strict=True):
                if task.answer.done():
                    continue
                if isinstance(answer, StatusError):
                    task.answer.set_exception(answer)
                else:
                    task.answer.set_result(answer)
            self._start_ready()

        computed.add_done_callback(finish)

    def close(self) -> None:
        """See `Runner`."""
        self._executor.shutdown()


def _compute(call: Call, tasks: Sequence[tuple[Arrays, int]]) -> list[Arrays | StatusError]:
    """Computes a batch; when it fails, every request by itself. Never raises."""
    if len(tasks) > 1:
        try:
            return _merged(call, tasks)
        except Exception:
            _LOG.debug("A batch failed; its requests are computed one by one.", exc_info=True)
    return [_alone(call, inputs) for inputs, _ in tasks]


def _alone(call: Call, inputs: Arrays) -> Arrays | StatusError:
    try:
        return call.run(inputs)
    except Exception as error:
        return from_exception(error)


def _merged(call: Call, tasks: Sequence[tuple[Arrays, int]]) -> list[Arrays | StatusError]:
    merged = {n: _concatenate([inputs[n] for inputs, _ in tasks]) for n in call.signature.inputs}
    outputs = call.run(merged)
    sizes = [rows for _, rows in tasks]
    if any(array.shape[:1] != (sum(sizes),) for array in outputs.values()):
        raise StatusError(
            Code.FAILED_PRECONDITION,
            "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
            "sizes of the input tensors",
        )
    ends = np.cumsum(sizes)[:-1]
    parts = {n: np.split(array, ends) for n, array in outputs.items()}
    return [{n: part[i] for n, part in parts.items()} for i in range(len(tasks))]


def _concatenate(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Joins arrays along the first dimension; shorter ones are padded with their first value."""
    shapes = {a.shape[1:] for a in arrays}
    if len(shapes) > 1:
        widest: tuple[int, ...] = _widest(*shapes)
        arrays = [
            np.pad(
                a,
                [(0, 0), *((0, w - n) for w, n in zip(widest, a.shape[1:], strict=True))],
                constant_values=a.flat[0],
            )
            for a in arrays
        ]
    return np.concatenate(arrays)


def _widest(*shapes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(map(max, *shapes)) if len(shapes) > 1 else shapes[0]
