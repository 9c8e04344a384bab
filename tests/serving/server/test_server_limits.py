"""Slow, large and many clients do no harm, and stopping loses no request."""

import concurrent.futures
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import grpc
import numpy as np
import pytest
import requests
from grpc_health.v1 import health_pb2, health_pb2_grpc
from small_server import make_files, model_config, models_config, predict_request, run_server

from fairness_losses.errors import InvalidInputError
from serving.server.loader import LoadedVersion

PLAIN = models_config(model_config("plain"))
HEAD = b"POST /v1/models/plain:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n"


@pytest.fixture
def gate(monkeypatch):
    """Holds computations back: `entered` counts them, `open` lets them go on."""

    class Gate:
        entered = threading.Semaphore(0)
        open = threading.Event()

    run = LoadedVersion.run

    def gated(self, *args):
        Gate.entered.release()
        assert Gate.open.wait(30)
        return run(self, *args)

    monkeypatch.setattr(LoadedVersion, "run", gated)
    yield Gate
    Gate.open.set()


def connect(server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.server.rest_port), timeout=20)


def until_closed(connection: socket.socket) -> bytes:
    received = b""
    with contextlib.suppress(ConnectionError):
        while chunk := connection.recv(65536):
            received += chunk
    return received


def is_well(server) -> bool:
    response = requests.post(
        f"{server.url}/v1/models/plain:predict", json={"instances": [1.0]}, timeout=20
    )
    return response.json() == {"predictions": [2.5]}


def test_a_client_that_is_slow_with_its_head_or_body_is_cut_off(saved_models):
    files = make_files(saved_models, PLAIN)
    with run_server(files, body_seconds=0.3, idle_seconds=0.5) as server:
        with connect(server) as nothing, connect(server) as head, connect(server) as body:
            head.sendall(HEAD)
            body.sendall(HEAD + b"\r\n{")
            assert until_closed(nothing) == b""
            assert until_closed(head) == b""
            answer = until_closed(body)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"did not arrive within 0.3 seconds" in answer
        assert is_well(server)


def test_only_so_many_connections_are_open(saved_models):
    with run_server(make_files(saved_models, PLAIN), max_connections=5) as server:
        with contextlib.ExitStack() as stack:
            silent = [stack.enter_context(connect(server)) for _ in range(5)]
            for connection in silent:  # each is known to the server once it was answered
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
            for _ in range(20):
                with connect(server) as one_more:
                    answer = until_closed(one_more)
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert b"as many connections as it takes" in answer
        for _ in range(100):
            if len(server.server._runner.server.connections) < 5:
                break
            time.sleep(0.05)
        assert is_well(server)


def test_bodies_held_at_once_are_bounded(saved_models):
    limits = {"max_request_bytes": 2000, "max_body_bytes_at_once": 3000, "body_seconds": 20}
    with run_server(make_files(saved_models, PLAIN), **limits) as server:
        with connect(server) as first, connect(server) as second:
            for connection in (first, second):
                connection.sendall(HEAD.replace(b"100", b"2000") + b"\r\n" + b" " * 1900)
                if connection is first:
                    while server.call(_held(server)) < 1900:
                        pass
            assert second.recv(1000).startswith(b"HTTP/1.1 503 ")
            first.sendall(b" " * 100)
            assert first.recv(1000).startswith(b"HTTP/1.1 400 ")
        assert is_well(server)
        assert server.call(_held(server)) == 0


async def _held(server) -> int:
    return server.server._rest._bodies._held


def test_only_so_many_requests_are_under_way(saved_models, gate):
    files = make_files(saved_models, PLAIN)
    gate.open.set()
    with (
        run_server(files, max_requests_at_once=2) as server,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        while gate.entered.acquire(blocking=False):
            pass
        gate.open.clear()
        ask = lambda: requests.post(  # noqa: E731
            f"{server.url}/v1/models/plain:predict", json={"instances": [1.0]}, timeout=20
        )
        first = pool.submit(ask)
        assert gate.entered.acquire(timeout=20)
        second = pool.submit(ask)
        assert gate.entered.acquire(timeout=20)
        third = ask()
        assert third.status_code == 503
        assert "has 2 requests under way" in third.json()["error"]
        gate.open.set()
        assert first.result().status_code == second.result().status_code == 200


@pytest.mark.parametrize("protocol", ["grpc", "rest"])
def test_stopping_waits_for_requests_and_takes_no_more(saved_models, gate, protocol):
    gate.open.set()
    with (
        run_server(make_files(saved_models, PLAIN)) as server,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        kept = requests.Session()
        assert kept.get(f"{server.url}/readyz", timeout=20).status_code == 200
        watch = health_pb2_grpc.HealthStub(server.channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        while gate.entered.acquire(blocking=False):
            pass
        gate.open.clear()
        if protocol == "grpc":
            request = predict_request("plain", x=np.ones(1, np.float32))
            answer = pool.submit(server.prediction.Predict, request, timeout=30)
        else:
            answer = pool.submit(is_well, server)
        assert gate.entered.acquire(timeout=20)
        stopped = pool.submit(server.call, server.server.stop())
        assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert kept.get(f"{server.url}/readyz", timeout=20).status_code == 503
        assert not stopped.done()
        gate.open.set()
        assert answer.result()
        assert stopped.result() is True
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{server.url}/healthz", timeout=5)
        with pytest.raises(grpc.RpcError):
            server.prediction.Predict(predict_request("plain"), timeout=5)


def test_stopping_does_not_wait_forever(saved_models, gate):
    gate.open.set()
    with (
        run_server(make_files(saved_models, PLAIN), drain_seconds=0.1) as server,
        concurrent.futures.ThreadPoolExecutor() as pool,
    ):
        while gate.entered.acquire(blocking=False):
            pass
        gate.open.clear()
        answer = pool.submit(is_well, server)
        assert gate.entered.acquire(timeout=20)
        assert server.call(server.server.stop()) is False
        gate.open.set()
        with pytest.raises(requests.ConnectionError):
            answer.result()


@pytest.mark.parametrize("port", ["grpc_port", "rest_port"])
def test_a_port_that_is_taken_is_named(saved_models, port):
    files = make_files(saved_models, PLAIN)
    with run_server(files) as server:
        taken = getattr(server.server, port)
        message = rf"{taken}.* cannot be listened on"
        with (
            pytest.raises(InvalidInputError, match=message),
            run_server(files, **{port: taken}),
        ):
            pass
        assert is_well(server)


def test_a_large_body_is_read_like_a_small_one(saved_models):
    x = [float(n) for n in range(20_000)]
    with run_server(make_files(saved_models, PLAIN, batching=False), max_rows=20_000) as server:
        response = server.post("/v1/models/plain:predict", json={"instances": x})
        assert response.json()["predictions"] == [n / 2 + 2 for n in x]
        response = server.post("/v1/models/plain:predict", json={"instances": [*x, "one"]})
        assert response.status_code == 400
        assert "Failed to process element: 20000 " in response.json()["error"]


def _command(*arguments) -> list[str]:
    return [sys.executable, "-m", "pipelines.cli", "serve", *map(str, arguments)]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_until_a_signal_and_ends_well(saved_models, number):
    make_files(saved_models, PLAIN)
    command = _command(saved_models, "--mount", saved_models, "--grpc-port=0", "--rest-port=0")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line.startswith("Serving ")
            url = line.split("REST on ")[1].strip()
            body = {"instances": [1.0]}
            response = requests.post(f"{url}/plain:predict", json=body, timeout=20)
            assert response.json() == {"predictions": [2.5]}
            page = requests.get(url.removesuffix("/v1/models") + "/monitoring/prometheus/metrics")
            assert page.status_code == 200
        finally:
            os.kill(process.pid, number)
            assert process.wait(30) == 0


@pytest.mark.slow
def test_the_command_says_what_is_wrong_without_a_traceback(tmp_path):
    (tmp_path / "models.config").write_text(PLAIN)
    done = subprocess.run(_command(tmp_path), capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert "no version of `plain` could be loaded" in done.stderr
    assert "Traceback" not in done.stderr
