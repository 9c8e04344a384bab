"""Load on `fairtowers serve`: throughput, hot reloads, and clients that mean no good.

    python -m benchmarks.serving_load --seconds 60

The server and its clients share the machine, so the server alone would do better. The exit code is
1 if a request failed that should not.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

import psutil

from benchmarks.serving_attacks import attacks
from benchmarks.serving_clients import HEADING, Clients, Load, Target, run_for
from benchmarks.serving_model import NAME, export_versions, grpc_body, rest_body

_RELOADS = 20


class Server:
    """A server process."""

    def __init__(self, model_dir: pathlib.Path, *options: str) -> None:
        """Starts it and waits until it listens."""
        command = [sys.executable, "-m", "pipelines.cli", "serve", str(model_dir)]
        command += ["--grpc-port=0", "--rest-port=0", "--poll-seconds=0.2", *options]
        environment = {**os.environ, "GRPC_VERBOSITY": "NONE", "COLUMNS": "1000"}
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 (closed by `stop`)
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        ports = re.search(r"gRPC on (\S+), REST on (\S+)/v1/models", line)
        if ports is None:
            self._log.seek(0)
            raise RuntimeError(f"The server did not start: {line}{self._log.read()}")
        self.grpc, self.rest = ports.groups()
        self._memory = psutil.Process(self._process.pid)

    @property
    def mebibytes(self) -> float:
        """Resident memory."""
        return self._memory.memory_info().rss / 2**20

    def stop(self) -> int:
        """Tells it to stop; returns its exit code."""
        self._process.terminate()
        code = self._process.wait(60)
        self._log.close()
        return code


@contextlib.contextmanager
def serving(model_dir: pathlib.Path, *options: str) -> Iterator[Server]:
    """Runs a server until the block is left."""
    server = Server(model_dir, *options)
    try:
        yield server
    finally:
        code = server.stop()
    print(f"\nThe server ended with {code}.")


def _targets(server: Server) -> dict[str, Target]:
    url = f"{server.rest}/v1/models/{NAME}:predict"
    return {"gRPC": Target(server.grpc, grpc_body()), "REST": Target(url, rest_body())}


def _measure_load(model_dir: pathlib.Path, num_clients: int, seconds: float) -> list[Load]:
    print(f"\n## {num_clients} clients, one query a request\n\n{HEADING}", flush=True)
    loads = []
    for batching in (True, False):
        with serving(model_dir, *([] if batching else ["--no-batching"])) as server:
            for protocol, target in _targets(server).items():
                load = run_for(target, num_clients, seconds)
                words = "with" if batching else "without"
                print(load.row(f"{protocol}, {words} batching"), flush=True)
                loads.append(load)
            print(f"\nThe server holds {server.mebibytes:,.0f} MiB.")
    return loads


def _point_to(model_dir: pathlib.Path, version: int) -> None:
    """Rewrites `models.config` as a promotion or a rollback does."""
    path = model_dir / "models.config"
    text = re.sub(r"(versions|value): \d+", rf"\1: {version}", path.read_text())
    incomplete = path.with_name(".models.config")
    incomplete.write_text(text)
    incomplete.replace(path)


def _wait_for(server: Server, version: int, state: str) -> float:
    """Waits until a version is in a state; returns the seconds it took."""
    import requests

    begin = time.monotonic()
    url = f"{server.rest}/v1/models/{NAME}/versions/{version}"
    while time.monotonic() - begin < 60:
        answer = requests.get(url, timeout=10).json()
        if [v["state"] for v in answer.get("model_version_status", [])] == [state]:
            return time.monotonic() - begin
        time.sleep(0.05)
    raise RuntimeError(f"Version {version} was not {state} within a minute.")


def _measure_reloads(model_dir: pathlib.Path, num_clients: int) -> Load:
    with serving(model_dir) as server:
        clients = Clients(_targets(server)["gRPC"], num_clients)
        waits = []
        for version in range(3, 3 + _RELOADS):
            shutil.copytree(model_dir / "2", model_dir / f".incomplete-{version}")
            (model_dir / f".incomplete-{version}").rename(model_dir / str(version))
            _point_to(model_dir, version)
            waits.append(_wait_for(server, version, "AVAILABLE"))
        _point_to(model_dir, 1)
        waits.append(_wait_for(server, 1, "AVAILABLE"))
        corrupt = model_dir / "99"
        shutil.copytree(model_dir / "2", corrupt)
        os.truncate(corrupt / "saved_model.pb", 1000)
        _point_to(model_dir, 99)
        _wait_for(server, 99, "END")
        _wait_for(server, 1, "AVAILABLE")
        load = clients.stop()
        print(f"\n## {_RELOADS} hot reloads, a rollback and a corrupt version\n\n{HEADING}")
        print(load.row("gRPC, with batching"))
        print(
            f"\nA version was available after {max(waits):.1f} s at most; the corrupt one was "
            f"refused; the server holds {server.mebibytes:,.0f} MiB."
        )
    _point_to(model_dir, 2)
    return load


def _measure_attacks(model_dir: pathlib.Path, num_clients: int) -> Load:
    with serving(model_dir) as server:
        clients = Clients(_targets(server)["gRPC"], num_clients)
        print("\n## Attacks, beside the same clients\n\n| | what came of it | MiB after |")
        print(f"|---|---|---|\n| before | | {server.mebibytes:,.0f} |", flush=True)
        for attack in attacks(server.grpc, f"{server.rest}/v1/models/{NAME}:predict"):
            outcome = attack.run()
            print(f"| {attack.name} | {outcome} | {server.mebibytes:,.0f} |", flush=True)
        load = clients.stop()
        print(f"\n{HEADING}\n{load.row('gRPC, with batching, meanwhile')}")
    return load


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="of each load")
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--items", type=int, default=10_000, help="in the catalogue")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model_dir = export_versions(pathlib.Path(folder), given.items)
        print(json.dumps({"items": given.items, "cores": os.cpu_count()}))
        loads = _measure_load(model_dir, given.clients, given.seconds)
        loads.append(_measure_reloads(model_dir, given.clients))
        loads.append(_measure_attacks(model_dir, given.clients))
    errors = [error for load in loads for error in load.errors]
    print(f"\nRequests that failed: {len(errors)}", *errors[:5], sep="\n")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
