r"""Building examples on an Apache Flink cluster on this machine, with one and with two task slots.

    make flink-test
    python -m benchmarks.flink

`make flink-test` fetches Flink. A task manager has one slot and its own Python worker. Of the wall
time, all that a small log takes as well is spent on starting: the job is submitted, and every
worker imports its libraries.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.timing import in_turns
from pipelines.config import RunConfig
from pipelines.config_file import load_config
from pipelines.datasets import generate
from pipelines.examples.pipeline import build_examples
from tests.flink.flink_cluster import FlinkCluster

CONFIG = pathlib.Path(__file__).resolve().parents[1] / "configs" / "synthetic.yaml"
SMALL = 10_000


def main() -> None:
    """Times each way for a small and a large log and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interactions", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    sizes = (SMALL, arguments.interactions)
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as clusters:
        folder = pathlib.Path(temporary)
        options: dict[str, Sequence[str]] = {"in this process": ()}
        for slots, name in ((1, "Flink, 1 task slot"), (2, "Flink, 2 task slots")):
            logs = folder / f"{slots}_slots"  # Flink takes a comma for the end of a path.
            logs.mkdir()
            cluster = clusters.enter_context(FlinkCluster(logs, slots, slots=1))
            options[name] = cluster.beam_args(slots)
        calls: dict[str, Callable[[], None]] = {}
        for size in sizes:
            config, source = _marketplace(size), folder / str(size)
            generate(config, source)
            for name, args in options.items():
                out = folder / "out"
                calls[f"{name} {size}"] = functools.partial(_build, config, source, out, args)
        seconds = in_turns(calls, arguments.rounds)
    print(f"| | {SMALL:,} interactions | {arguments.interactions:,} |\n|---|---|---|")
    for name in options:
        print(f"| {name} | {' | '.join(_spread(seconds[f'{name} {size}']) for size in sizes)} |")


def _marketplace(interactions: int) -> RunConfig:
    config = load_config(CONFIG)
    synthetic = config.data.synthetic.model_copy(update={"interactions": interactions})
    data = config.data.model_copy(update={"synthetic": synthetic})
    return config.model_copy(update={"data": data})


def _build(config: RunConfig, source: pathlib.Path, out: pathlib.Path, args: Sequence[str]) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    build_examples(config, source, out, args)


def _spread(seconds: np.ndarray) -> str:
    return f"{np.median(seconds):.1f} s ({seconds.min():.1f}–{seconds.max():.1f})"


if __name__ == "__main__":
    main()
