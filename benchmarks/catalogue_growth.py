r"""What a training step costs as the catalogue grows, in time and memory.

    python -m benchmarks.catalogue_growth --plot docs/catalogue_growth.png

Items have a row of the embedding table each, or share 100,000 rows by hashing. Batches of 4,096,
1,024 items of the catalogue as further negatives and for exposure parity, width 64. Every figure
comes from a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import argparse
import multiprocessing
import pathlib
import resource
import time

import numpy as np
import tensorflow as tf

from benchmarks.growth import draw_growth
from benchmarks.pairs import data_of_pairs
from fairness_losses.config import FairnessConfig
from towers.batches import epochs_of
from towers.building import build_model
from towers.config import IdFeature, ModelConfig
from towers.features import FeatureLayer, FeatureStatistics, build_feature
from towers.training_data import TrainingData

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
SHARED_ROWS = 100_000
NUM_USERS = 20_000
NUM_EXAMPLES = 400_000
BLOCK = 1_000_000

LINES = {
    "a row each, adam": (False, "adam"),
    "a row each, lazy_adam": (False, "lazy_adam"),
    "100,000 shared rows, lazy_adam": (True, "lazy_adam"),
}
"""Whether rows are shared, and the optimizer."""


def main() -> None:
    """Prints a table and, if asked for, draws it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="items")
    parser.add_argument("--rounds", type=int, default=5, help="of 16 steps each")
    parser.add_argument("--plot", type=pathlib.Path, help="the PNG to write")
    arguments = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in LINES}
    print("| items | | ms a step (least to greatest) | peak memory, GiB |\n|---|---|---|---|")
    for size in arguments.sizes:
        for name, (shared, optimizer) in LINES.items():
            with context.Pool(1) as pool:
                seconds, peak = pool.apply(_measure, (size, shared, optimizer, arguments.rounds))
            milliseconds = np.array(seconds) * 1000
            middle = float(np.median(milliseconds))
            found[name].append((middle, peak))
            spread = f"{middle:.0f} ({milliseconds.min():.0f}–{milliseconds.max():.0f})"
            print(f"| {size:,} | {name} | {spread} | {peak:.1f} |", flush=True)
    if arguments.plot:
        units = ("ms a step", "peak memory, GiB")
        draw_growth(arguments.sizes, found, "items in the catalogue", units, arguments.plot)


def _measure(size: int, shared: bool, optimizer: str, rounds: int) -> tuple[list[float], float]:
    """Returns seconds a step of each round, and the process's peak memory in GiB."""
    tf.keras.utils.set_random_seed(0)
    config = ModelConfig.model_validate(
        {"training": {"batch_size": 4096, "catalogue_sample": 1024, "optimizer": optimizer}}
    )
    fairness = FairnessConfig(regularizer="exposure_parity", weight=1.0)
    data = _data(config, size, min(size, SHARED_ROWS) if shared else size)
    model = build_model(config, data, 0, fairness, 1)
    batches = iter(epochs_of(data.batches(config, fairness, 0), 4096, 0, 0, 1_000_000))
    execute = model.make_train_function()
    seconds = []
    for turn in range(rounds + 1):
        start = time.perf_counter()
        float(execute(batches)["loss"])
        if turn:
            seconds.append((time.perf_counter() - start) / 16)
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _data(config: ModelConfig, size: int, rows: int) -> TrainingData:
    """A log of popular and rare items."""
    rng = np.random.default_rng(0)
    users = rng.integers(0, NUM_USERS, NUM_EXAMPLES).astype(np.int32)
    # A log-uniform rank is Zipf's law.
    items = np.exp(rng.uniform(0, np.log(size), NUM_EXAMPLES)).astype(np.int32) - 1
    query, candidate = _ids("user_id", NUM_USERS, config), _ids("item_id", rows, config)
    numbers = np.arange(size, dtype=np.int32) + 2 if rows == size else _hashed(candidate, size)
    of_user = np.arange(NUM_USERS, dtype=np.int32) + 2
    return data_of_pairs(config, users, items, (of_user, numbers), (query, candidate))


def _ids(column: str, rows: int, config: ModelConfig) -> FeatureLayer:
    feature = IdFeature(kind="id", column=column, bins=rows)
    return build_feature(feature, FeatureStatistics(), config.towers.dim)


def _hashed(layer: FeatureLayer, size: int) -> np.ndarray:
    blocks = [
        layer.lookup(tf.strings.as_string(tf.range(start, min(start + BLOCK, size)))).numpy()
        for start in range(0, size, BLOCK)
    ]
    return np.concatenate(blocks)


if __name__ == "__main__":
    main()
