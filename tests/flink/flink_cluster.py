"""A Flink cluster on this machine with Beam's job server, for tests and benchmarks."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

HOME = pathlib.Path(__file__).resolve().parents[2] / ".flink"
WORKER = pathlib.Path(sys.executable).with_name("fairtowers-beam-worker")
START_SECONDS = 90

# Beam's classes are on the cluster's own class path, so that a worker outlives a stage.
CLASS_PATH = f"{HOME / 'lib'}/*:{HOME / 'job_server'}/*"
# As in the configuration that comes with Flink, but not with its package on PyPI.
OPENED = [
    *("java.lang", "java.lang.reflect", "java.net", "java.io", "java.nio", "sun.nio.ch"),
    *("java.text", "java.time", "java.util", "java.util.concurrent"),
    *("java.util.concurrent.atomic", "java.util.concurrent.locks"),
]
CONFIG = {
    "jobmanager.rpc.address": "localhost",
    "jobmanager.bind-host": "localhost",
    "rest.address": "localhost",
    "rest.bind-address": "localhost",
    "taskmanager.host": "localhost",
    "taskmanager.bind-host": "localhost",
    "taskmanager.cpu.cores": 1,
    "taskmanager.load-balance.mode": "SLOTS",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "128m",
    "taskmanager.memory.task.heap.size": "896m",
    "taskmanager.memory.task.off-heap.size": 0,
    "taskmanager.memory.managed.size": "512m",
    "taskmanager.memory.network.min": "256m",
    "taskmanager.memory.network.max": "256m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "192m",
    "taskmanager.memory.jvm-overhead.max": "192m",
    "classloader.resolve-order": "parent-first",
    # Tasks that fail together count as one attempt, unlike with `fixed-delay`.
    "restart-strategy.type": "exponential-delay",
    "restart-strategy.exponential-delay.initial-backoff": "1 s",
    "restart-strategy.exponential-delay.max-backoff": "2 s",
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": 6,
    # A task manager that was killed is missed within seconds.
    "heartbeat.interval": 1000,
    "heartbeat.timeout": 10000,
}
LOGGING = """\
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} - %m%n
# Shows what workers print.
logger.workers.name = org.apache.beam.runners.fnexecution.environment.ProcessManager
logger.workers.level = DEBUG
"""


class FlinkCluster:
    """One job manager, some task managers and Beam's job server, each a process.

    A context, at whose end all processes are gone.

    Args:
        folder: An empty folder, for logs and temporary files.
        task_managers: How many.
        slots: Of each task manager.
    """

    def __init__(self, folder: pathlib.Path, task_managers: int = 2, slots: int = 2) -> None:
        self._folder, self._task_managers = folder, task_managers
        self._rpc_port, self._rest_port, self._job_port = _free_ports(3)
        self._slots = slots
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> FlinkCluster:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                # With the workers, which a task manager starts in its own group.
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def beam_args(self, parallelism: int = 2) -> list[str]:
        """Options with which a Beam pipeline runs here."""
        return [
            "--runner=FlinkRunner",
            f"--job_endpoint=localhost:{self._job_port}",
            f"--parallelism={parallelism}",
            "--environment_type=PROCESS",
            f"--environment_config={json.dumps({'command': str(WORKER)})}",
            "--environment_cache_millis=20000",
        ]

    def start_task_manager(self, name: str) -> None:
        """Starts one more, which `kill` and Flink's answers know by this name."""
        main = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        self._java(name, main, *self._flink_args(), "-D", f"taskmanager.resource-id={name}")

    def kill(self, name: str) -> None:
        """Kills a process, but not those that it started."""
        self._processes[name].kill()
        self._processes[name].wait()

    def pid(self, name: str) -> int:
        """Returns a process's id."""
        return self._processes[name].pid

    def ask(self, path: str) -> Any:
        """Returns what Flink's REST API answers."""
        url = f"http://localhost:{self._rest_port}/{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)

    def log_tails(self, lines: int = 40) -> str:
        """Returns the end of every log."""
        logs = sorted(self._folder.glob("*.log"))
        tails = {log.name: log.read_text(errors="replace").splitlines()[-lines:] for log in logs}
        return "\n".join(f"== {name}\n" + "\n".join(tail) for name, tail in tails.items())

    def _start(self) -> None:
        config = {
            **CONFIG,
            "jobmanager.rpc.port": self._rpc_port,
            "rest.port": self._rest_port,
            "taskmanager.numberOfTaskSlots": self._slots,
            "io.tmp.dirs": self._folder,
        }
        lines = [f"{key}: {value}\n" for key, value in config.items()]
        (self._folder / "config.yaml").write_text("".join(lines), encoding="utf-8")
        (self._folder / "log4j.properties").write_text(LOGGING, encoding="utf-8")
        main = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        self._java("job_manager", main, *self._flink_args())
        for number in range(self._task_managers):
            self.start_task_manager(f"task_manager_{number}")
        self._java(
            "job_server",
            "org.apache.beam.runners.flink.FlinkJobServerDriver",
            *("--flink-master", f"localhost:{self._rest_port}", "--job-host", "localhost"),
            *("--job-port", str(self._job_port), "--artifact-port", "0", "--expansion-port", "0"),
            *("--artifacts-dir", str(self._folder / "artifacts")),
        )
        wait_until(self._is_ready, "The cluster is up", START_SECONDS)

    def _flink_args(self) -> list[str]:
        return ["--configDir", str(self._folder)]

    def _java(self, name: str, main: str, *arguments: str) -> None:
        opened = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in OPENED]
        logging = f"-Dlog4j.configurationFile={self._folder / 'log4j.properties'}"
        command = ["java", *opened, logging, "-Xmx1g", "-cp", CLASS_PATH, main, *arguments]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _is_ready(self) -> bool:
        ended = [name for name, process in self._processes.items() if process.poll() is not None]
        if ended:
            raise RuntimeError(f"Ended at once: {', '.join(ended)}.\n{self.log_tails()}")
        try:
            socket.create_connection(("localhost", self._job_port), timeout=1).close()
            return self.ask("overview")["taskmanagers"] == self._task_managers
        except OSError:
            return False


def wait_until(condition: Callable[[], bool], what: str, seconds: float) -> None:
    """Waits for something, but not for ever.

    Raises:
        TimeoutError: It did not happen in time.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"Not within {seconds} seconds: {what}.")
        time.sleep(0.02)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]
