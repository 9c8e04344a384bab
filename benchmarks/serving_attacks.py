"""What a server on a network has to bear: too much, too slow, too many, and no sense at all."""

from __future__ import annotations

import contextlib
import dataclasses
import resource
import socket
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

_CONNECTIONS = 10_000


@dataclasses.dataclass(frozen=True)
class Attack:
    """Something that is done to a server.

    Attributes:
        name: What.
        run: Does it, and returns what came of it.
    """

    name: str
    run: Callable[[], str]


def attacks(grpc_address: str, rest_url: str) -> Iterator[Attack]:
    """Lists the attacks.

    Args:
        grpc_address: `host:port`.
        rest_url: Of `:predict`.
    """
    url = urllib.parse.urlsplit(rest_url)
    host, grpc_port = grpc_address.split(":")
    ports = {"gRPC": (host, int(grpc_port)), "REST": (host, url.port or 80)}
    head = f"POST {url.path} HTTP/1.1\r\nHost: x\r\n".encode()
    yield Attack("100 bodies of 100 MB", lambda: _large_bodies(ports["REST"], head))
    yield Attack("100 endless chunked bodies", lambda: _endless_bodies(ports["REST"], head))
    yield Attack("500 slow clients", lambda: _slow_clients(ports["REST"], head))
    for name, address in ports.items():
        yield Attack(f"random bytes to {name}, 1,000 times", lambda a=address: _random_bytes(a))
    for name, address in ports.items():
        yield Attack(f"{_CONNECTIONS:,} connections to {name}", lambda a=address: _connections(a))


def _large_bodies(address: tuple[str, int], head: bytes) -> str:
    answers: Counter[str] = Counter()
    for _ in range(100):
        with _connected(address) as connection:
            connection.sendall(head + b"Content-Length: 100000000\r\n\r\n")
            answers[_send_until_refused(connection, b" " * 65536, 1600)] += 1
    return _show(answers)


def _endless_bodies(address: tuple[str, int], head: bytes) -> str:
    answers: Counter[str] = Counter()
    for _ in range(100):
        with _connected(address) as connection:
            connection.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")
            chunk = b"10000\r\n" + b" " * 65536 + b"\r\n"
            answers[_send_until_refused(connection, chunk, 1600)] += 1
    return _show(answers)


def _send_until_refused(connection: socket.socket, chunk: bytes, times: int) -> str:
    with contextlib.suppress(OSError):
        for _ in range(times):
            connection.sendall(chunk)
    return _status(connection)


def _slow_clients(address: tuple[str, int], head: bytes) -> str:
    """Heads and bodies that come byte by byte, for 15 seconds."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(_connected(address)) for _ in range(500)]
        for number, client in enumerate(clients):
            client.sendall(head + (b"Content-Length: 1000\r\n\r\n" if number % 2 else b""))
        end = time.monotonic() + 15
        while time.monotonic() < end:
            for number, client in enumerate(clients):
                with contextlib.suppress(OSError):
                    client.sendall(b" " if number % 2 else b"X: y\r\n")
            time.sleep(1)
        answers: Counter[str] = Counter()
        for client in clients:
            client.settimeout(0.01)
            answers[_status(client)] += 1
    return _show(answers)


def _random_bytes(address: tuple[str, int]) -> str:
    rng = np.random.default_rng(0)
    for _ in range(1000):
        with contextlib.suppress(OSError), _connected(address) as connection:
            connection.sendall(rng.bytes(int(rng.integers(1, 20_000))))
            connection.shutdown(socket.SHUT_WR)
            _status(connection)
    return "nothing"


def _connections(address: tuple[str, int]) -> str:
    """Opens connections that say nothing, and holds them for five seconds."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    answers: Counter[str] = Counter()
    with contextlib.ExitStack() as stack:
        opened = []
        for _ in range(_CONNECTIONS):
            try:
                opened.append(stack.enter_context(_connected(address)))
            except OSError as error:
                answers[type(error).__name__] += 1
        time.sleep(5)
        for connection in opened:
            connection.settimeout(0)
            answers[_status(connection)] += 1
    return _show(answers)


def _connected(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=20)


def _status(connection: socket.socket) -> str:
    """What the server answered: a status, or that it hung up or says nothing."""
    try:
        answer = connection.recv(4096)
    except (TimeoutError, BlockingIOError):
        return "silence"
    except OSError:
        return "hung up"
    if answer.startswith(b"HTTP"):
        return answer[9:12].decode("ascii", "replace")
    # The first thing that a gRPC server says are its settings.
    return "silence" if answer else "hung up"


def _show(answers: Counter[str]) -> str:
    return ", ".join(f"{count:,} × {answer}" for answer, count in answers.most_common())
