r"""What building examples costs as the log grows, in time and memory.

    python -m benchmarks.example_growth --plot docs/example_growth.png

Ten features from Parquet into gzipped TFRecord files, in one process. Every figure comes from a
process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import pathlib
import resource
import tempfile
import time

from benchmarks.example_log import build, write_tables
from benchmarks.growth import draw_growth

SIZES = (1_000_000, 3_000_000, 10_000_000)

LINES = {"tables sent to every worker": 256.0, "tables too large to send": 0.0}
"""How large the tables may be to be sent, in MB."""


def main() -> None:
    """Prints a table and, if asked for, draws it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="interactions")
    parser.add_argument("--plot", type=pathlib.Path, help="the PNG to write")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in LINES}
    print("| interactions | | seconds | rows a second | peak memory, GiB |\n|---|---|---|---|---|")
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as temporary:
            folder = pathlib.Path(temporary)
            write_tables(folder / "source", size)
            for name, limit in LINES.items():
                with context.Pool(1) as pool:
                    seconds, peak = pool.apply(_measure, (folder / "source", folder / name, limit))
                found[name].append((seconds, peak))
                rate = size / seconds
                print(
                    f"| {size:,} | {name} | {seconds:.1f} | {rate:,.0f} | {peak:.2f} |", flush=True
                )
    if arguments.plot:
        units = ("seconds", "peak memory, GiB")
        draw_growth(arguments.sizes, found, "interactions", units, arguments.plot)


def _measure(source: pathlib.Path, out: pathlib.Path, limit: float) -> tuple[float, float]:
    """Returns seconds and the process's peak memory in GiB."""
    out.mkdir()
    start = time.perf_counter()
    build(source, out, limit)
    seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
