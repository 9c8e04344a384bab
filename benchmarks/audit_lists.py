r"""Auditing files of served lists beside a plain pandas implementation.

    python -m benchmarks.audit_lists

Lists of 100 items, 24 cells of the users (all, 2 genders, 7 ages, their intersections), 5 groups
of items, 200 resamples. The audit reads Parquet, checks it and finds all figures of the report.
Pandas checks nothing and finds exposure ratios with their intervals alone, of fewer lists, as it
takes long. Each runs in a process of its own, whose peak memory is shown; the ratio to pandas is
that of processor time.
"""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import pathlib
import resource
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.audit.job import audit_files
from pipelines.audit.list_files import ListFiles
from pipelines.config import RunConfig

DEPTH, GROUPS, SAMPLES = 100, ["a", "b", "c", "d", "e"], 200
GENDERS, AGES = ["F", "M"], ["0–17", "18–24", "25–34", "35–44", "45–49", "50–55", "56+"]
ITEMS, USERS, LISTS_PER_FILE = 20_000, 500_000, 250_000


def main() -> None:
    """Times each way and prints lists a second and peak memory."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lists", type=int, nargs="+", default=[250_000, 1_000_000])
    parser.add_argument("--pandas-lists", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    few = arguments.pandas_lists
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        # A process is charged with the memory of the one that it was forked from.
        in_process(functools.partial(write_world, folder, max(arguments.lists)))
        ways = {
            f"fairtowers, {size:,} lists": (size, functools.partial(ours, folder, size))
            for size in arguments.lists
        } | {f"pandas, {few:,} lists": (few, functools.partial(plain_pandas, folder, few))}
        found: dict[str, list[list[float]]] = {name: [] for name in ways}
        for _ in range(arguments.rounds):
            for name, (size, run) in ways.items():
                wall, processor, peak = in_process(run)
                found[name].append([size / wall, size / processor, peak])
    base = np.array(found[f"pandas, {few:,} lists"])
    print("| | lists a second | a second of one core | times pandas | peak memory, GiB |")
    print("|---|---|---|---|---|")
    for name, rounds in found.items():
        wall, processor, peak = np.median(rounds, axis=0)
        ratios = (np.array(rounds) / base)[:, 1]
        spread = f"{np.median(ratios):.0f} ({ratios.min():.0f}–{ratios.max():.0f})"
        print(f"| {name} | {wall:,.0f} | {processor:,.0f} | {spread} | {peak:.2f} |")


def in_process(run: Callable[[], object]) -> tuple[float, float, float]:
    """Calls a function in a process of its own.

    Returns:
        Its seconds, its seconds of processor time, and the peak memory of the process, GiB.
    """
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (run,))


def _measured(run: Callable[[], object]) -> tuple[float, float, float]:
    start = time.perf_counter(), time.process_time()
    run()
    end = time.perf_counter(), time.process_time()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return end[0] - start[0], end[1] - start[1], peak


def write_world(folder: pathlib.Path, lists: int) -> None:
    """Writes the catalogue, the users and files of lists."""
    rng = np.random.default_rng(0)
    items = _ids("item", ITEMS)
    group = np.array(GROUPS)[rng.choice(len(GROUPS), ITEMS, p=[0.5, 0.3, 0.1, 0.06, 0.04])]
    pq.write_table(pa.table({"item_id": items, "group": group}), folder / "catalogue.parquet")
    users = {
        "user_id": _ids("user", USERS),
        "slice.gender": np.array(GENDERS)[rng.integers(0, len(GENDERS), USERS)],
        "slice.age": np.array(AGES)[rng.integers(0, len(AGES), USERS)],
    }
    pq.write_table(pa.table(users), folder / "users.parquet")
    (folder / "lists").mkdir()
    for number, start in enumerate(range(0, lists, LISTS_PER_FILE)):
        table = _lists(rng, items, start, min(LISTS_PER_FILE, lists - start))
        pq.write_table(table, folder / "lists" / f"{number:03d}.parquet", row_group_size=50_000)


def _ids(kind: str, count: int) -> np.ndarray:
    return np.array([f"{kind}-{number}" for number in range(count)])


def _lists(rng: np.random.Generator, items: np.ndarray, first: int, count: int) -> pa.Table:
    # A start and a step, so that no item is there twice.
    start = (ITEMS * rng.random((count, 1)) ** 2).astype(np.int32)
    step = rng.integers(1, ITEMS // DEPTH, (count, 1), dtype=np.int32)
    listed = (start + step * np.arange(DEPTH, dtype=np.int32)) % ITEMS
    ids = pa.DictionaryArray.from_arrays(pa.array(listed.ravel()), pa.array(items))
    ends = pa.array(np.arange(0, count * DEPTH + 1, DEPTH), pa.int32())
    return pa.table(
        {
            "list_id": np.arange(first, first + count),
            "user_id": pa.array(_ids("user", USERS)[rng.integers(0, USERS, count)]),
            "candidate_ids": pa.ListArray.from_arrays(ends, ids.dictionary_decode()),
            "policy": ["plain"] * count,
            "model_version": ["1"] * count,
        }
    )


def ours(folder: pathlib.Path, lists: int) -> None:
    """The audit of so many lists, in whole files."""
    config = RunConfig.model_validate(
        {
            "name": "benchmark",
            "data": {"dataset": "synthetic"},
            "groups": {"columns": ["group"]},
            "slices": [{"column": "gender"}, {"column": "age"}, {"cross": ["gender", "age"]}],
            "audit": {"bootstrap_samples": SAMPLES},
        }
    )
    files = lists // LISTS_PER_FILE
    pattern = str(folder / "lists" / f"00[0-{files - 1}].parquet")
    with tempfile.TemporaryDirectory() as out:
        found = ListFiles.find(pattern, config.seed)
        counts = audit_files(config, found, folder, pathlib.Path(out), "benchmark")
    assert (counts["read"], counts["audited"], counts["dead"]) == (lists, lists, {})


def plain_pandas(folder: pathlib.Path, lists: int) -> None:
    """Exposure ratios of every cell and group, with a bootstrap of the users."""
    table: Any = pq.ParquetFile(folder / "lists" / "000.parquet").read_row_group(0)
    served = table.slice(0, lists).to_pandas()
    catalogue = pd.read_parquet(folder / "catalogue.parquet")
    users = pd.read_parquet(folder / "users.parquet")
    share = catalogue["group"].value_counts(normalize=True)
    flat = served.explode("candidate_ids")
    flat["rank"] = flat.groupby(level=0).cumcount() + 1
    flat["exposure"] = 1 / np.log2(flat["rank"] + 1)
    flat = flat.merge(catalogue, left_on="candidate_ids", right_on="item_id")
    per_user = flat.pivot_table("exposure", "user_id", "group", "sum", fill_value=0.0)
    per_user = per_user.merge(users.set_index("user_id"), left_index=True, right_index=True)
    cuts = [["slice.gender"], ["slice.age"], ["slice.gender", "slice.age"]]

    def ratios(sample: pd.DataFrame) -> pd.DataFrame:
        exposure = [sample[GROUPS].sum().to_frame().T]
        exposure += [sample.groupby(cut)[GROUPS].sum() for cut in cuts]
        together = pd.concat(exposure)
        return together.div(together.sum(axis=1), axis=0) / share[GROUPS]

    ratios(per_user)
    draws = [
        ratios(per_user.sample(frac=1, replace=True, random_state=seed)).to_numpy()
        for seed in range(SAMPLES)
    ]
    np.quantile(np.stack(draws), [0.025, 0.975], axis=0)


if __name__ == "__main__":
    main()
