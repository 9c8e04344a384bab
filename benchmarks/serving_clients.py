"""Clients that ask a server as fast as it answers, in processes of their own."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import multiprocessing
import time
from collections.abc import Awaitable, Callable

import numpy as np

_PROCESSES = 2
_PREDICT = "/tensorflow.serving.PredictionService/Predict"


@dataclasses.dataclass(frozen=True)
class Target:
    """What is asked, already written, so that clients cost little.

    Attributes:
        address: `host:port` for gRPC, a URL for REST.
        body: A serialized `PredictRequest`, or JSON.
    """

    address: str
    body: bytes

    @property
    def is_rest(self) -> bool:
        """Whether it is asked over HTTP."""
        return self.address.startswith("http://")


@dataclasses.dataclass(frozen=True)
class Load:
    """What clients saw.

    Attributes:
        seconds: Latency of every answer, `[num_answers]`.
        errors: What went wrong, one text per failure.
        duration: Seconds from the first request to the last answer.
    """

    seconds: np.ndarray
    errors: list[str]
    duration: float

    def row(self, name: str) -> str:
        """Returns a row of a table."""
        p50, p95, p99 = np.percentile(self.seconds, [50, 95, 99]) * 1e3
        rate = len(self.seconds) / self.duration
        return (
            f"| {name} | {len(self.seconds):,} | {len(self.errors)} | {rate:,.0f} | {p50:.1f} | "
            f"{p95:.1f} | {p99:.1f} |"
        )


HEADING = (
    "| | answers | errors | a second | p50 ms | p95 ms | p99 ms |\n|---|---|---|---|---|---|---|"
)


class Clients:
    """Clients that ask until they are told to stop."""

    def __init__(self, target: Target, num_clients: int) -> None:
        """Starts the clients."""
        context = multiprocessing.get_context("spawn")
        self._manager = context.Manager()
        self._stop = self._manager.Event()
        self._pool = concurrent.futures.ProcessPoolExecutor(_PROCESSES, mp_context=context)
        share = num_clients // _PROCESSES
        self._started = [self._manager.Event() for _ in range(_PROCESSES)]
        self._futures = [
            self._pool.submit(_ask_until, target, share, self._stop, started)
            for started in self._started
        ]
        for started in self._started:
            started.wait()

    def stop(self) -> Load:
        """Stops the clients and returns what they saw."""
        self._stop.set()
        parts = [future.result() for future in self._futures]
        self._pool.shutdown()
        self._manager.shutdown()
        return Load(
            np.concatenate([p.seconds for p in parts]),
            [e for p in parts for e in p.errors],
            max(p.duration for p in parts),
        )


def run_for(target: Target, num_clients: int, seconds: float) -> Load:
    """Asks for some time."""
    clients = Clients(target, num_clients)
    time.sleep(seconds)
    return clients.stop()


def _ask_until(target: Target, num_clients: int, stop: object, started: object) -> Load:
    return asyncio.run(_ask(target, num_clients, stop, started))


async def _ask(target: Target, num_clients: int, stop: object, started: object) -> Load:
    stopped = asyncio.Event()

    async def watch() -> None:
        await asyncio.to_thread(stop.wait)  # type: ignore[attr-defined]
        stopped.set()

    seconds: list[float] = []
    errors: list[str] = []

    async def client(call: Callable[[], Awaitable[str]]) -> None:
        while not stopped.is_set():
            begin = time.perf_counter()
            error = await call()
            if error:
                errors.append(error)
            else:
                seconds.append(time.perf_counter() - begin)

    watching = asyncio.create_task(watch())
    run = _over_rest if target.is_rest else _over_grpc
    started.set()  # type: ignore[attr-defined]
    begin = time.perf_counter()
    await run(target, num_clients, client)
    await watching
    return Load(np.array(seconds), errors, time.perf_counter() - begin)


async def _over_grpc(target: Target, num_clients: int, client: Callable) -> None:
    import grpc

    # A client each: a channel with an option of its own does not share a connection.
    channels = [
        grpc.aio.insecure_channel(target.address, [("benchmark.number", n)])
        for n in range(num_clients)
    ]

    def make_call(channel: grpc.aio.Channel) -> Callable[[], Awaitable[str]]:
        predict = channel.unary_unary(_PREDICT)

        async def call() -> str:
            try:
                await predict(target.body, timeout=30)
            except grpc.RpcError as error:
                return f"{error.code()}: {error.details()}"
            return ""

        return call

    await asyncio.gather(*(client(make_call(channel)) for channel in channels))
    for channel in channels:
        await channel.close()


async def _over_rest(target: Target, num_clients: int, client: Callable) -> None:
    import aiohttp

    connector = aiohttp.TCPConnector(limit=num_clients)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def call() -> str:
            try:
                async with session.post(target.address, data=target.body) as response:
                    body = await response.read()
                    return "" if response.status == 200 else f"{response.status}: {body[:200]!r}"
            except aiohttp.ClientError as error:
                return repr(error)

        await asyncio.gather(*(client(call) for _ in range(num_clients)))
