"""The serving log: what a request pays for it, and how many lists a second it writes.

    python -m benchmarks.serving_log

The peer is a log as one would write it first: the request itself writes a JSON line. Requests come
at a steady rate, in one thread, and what counts is how late each is done: that is what it paid
itself and what it waited for the writer's thread. Without a log it is late by what the machine does
to it.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import tempfile
import time
from collections.abc import Callable

import numpy as np

from serving.log.answer import Answer
from serving.log.config import LogConfig
from serving.log.writer import ListLog


def answers(count: int, k: int) -> list[Answer]:
    """Answers of one list of `k` each, whose strings are objects of their own."""
    rng = np.random.default_rng(0)
    return [
        Answer(
            model="retriever",
            version=1,
            signature="serving_default",
            inputs={"user_id": _bytes(rng.integers(0, 100_000, 1))},
            outputs={
                "candidate_ids": _bytes(rng.integers(0, 1_000_000, (1, k))),
                "scores": -np.sort(-rng.random((1, k), np.float32), axis=1),
                "groups": _bytes(rng.integers(0, 4, (1, k))),
                "policy": np.full(1, b"quota", object),
                "model_version": np.full(1, b"retriever/1", object),
            },
            arm="",
            unix_seconds=time.time(),
        )
        for _ in range(count)
    ]


def _bytes(numbers: np.ndarray) -> np.ndarray:
    return np.char.mod("item-%07d", numbers).astype(bytes).astype(object)


def as_line(answer: Answer) -> str:
    """The peer: an answer as a JSON line."""
    names = ("candidate_ids", "scores", "groups", "policy", "model_version")
    row = {name: _plain(answer.outputs[name][0]) for name in names}
    return json.dumps({"user_id": _plain(answer.inputs["user_id"][0]), **row}) + "\n"


def _plain(value: np.ndarray | bytes) -> list | str:
    if isinstance(value, bytes):
        return value.decode()
    return (value.astype(str) if value.dtype == object else value).tolist()


def lateness(call: Callable[[Answer], object], given: list[Answer], rate: float) -> np.ndarray:
    """Seconds by which every call was done later than it was to begin, `[len(given)]`."""
    late = np.zeros(len(given))
    start = time.perf_counter()
    for i, answer in enumerate(given):
        due = start + i / rate
        time.sleep(max(due - time.perf_counter(), 0))
        call(answer)
        late[i] = time.perf_counter() - due
    return late


def append_all(log: ListLog, given: list[Answer]) -> float:
    """Returns seconds until all were written, given at once."""
    start = time.perf_counter()
    for answer in given:
        log.append(answer)
    log.flush(600)
    return time.perf_counter() - start


def main() -> None:
    """Prints the tables of RESULTS.md."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lists", type=int, default=20_000)
    parser.add_argument("--k", type=int, default=100)
    parser.add_argument("--rate", type=float, default=1000.0)
    options = parser.parse_args()
    given = answers(options.lists, options.k)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        log = ListLog(
            LogConfig(
                directory=str(folder / "log"),
                salts=str(folder / "salts"),
                max_pending=2 * options.lists,
                rotate_rows=min(5_000, options.lists),
            )
        )
        lines = (folder / "log.jsonl").open("w", encoding="utf-8")
        measured: dict[str, Callable[[Answer], object]] = {
            "no log": lambda answer: None,
            "`ListLog.append`": log.append,
            "a JSON line within the request": lambda a: (lines.write(as_line(a)), lines.flush()),
        }
        late = {label: lateness(c, given, options.rate) for label, c in measured.items()}
        assert log.flush(60)
        seconds = append_all(log, given)
        counts = log.close()
        lines.close()
        size = sum(p.stat().st_size for p in (folder / "log").glob("*.parquet"))
        peer_size = (folder / "log.jsonl").stat().st_size
    assert counts.written == counts.accepted == 2 * options.lists, counts
    print(f"| done late by, µs, at {options.rate:,.0f} a second | median | p99 | p99.9 |")
    print("|---|---|---|---|")
    for label, times in late.items():
        middle, high, highest = np.percentile(times, [50, 99, 99.9]) * 1e6
        print(f"| {label} | {middle:,.0f} | {high:,.0f} | {highest:,.0f} |")
    print(f"\nWritten: {options.lists / seconds:,.0f} lists of {options.k} a second, of", end=" ")
    print(f"{size / counts.written:,.0f} bytes each; as JSON {peer_size / options.lists:,.0f}.")


if __name__ == "__main__":
    main()
