r"""Statistics of examples beside TensorFlow Data Validation's own pipeline.

    python -m benchmarks.statistics

All read the same gzipped TFRecord files in one process, with the same Beam runner. TFDV counts
distinct and most frequent values exactly by default, by a shuffle of all values; with sketches it
does what we do. Before anything is timed, counts, means and deviations are checked to be equal, and
sketches to be near.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow_data_validation as tfdv
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_metadata.proto.v0 import statistics_pb2

from benchmarks.example_log import configuration, write_tables
from benchmarks.timing import in_turns, print_rates
from pipelines.config import RunConfig
from pipelines.examples.pipeline import build_examples
from pipelines.validation.statistics import ALL_EXAMPLES, load_statistics, write_statistics

_LABELS = {"users": {"gender": 2, "age_band": 4}, "items": {"maker": 3}}
"""Columns that slices and groups are made of, and their numbers of values."""

_QUANTILE_ERROR = 0.02
"""Of the rank of a sketched median; each of the two sketches may be wrong by 0.01."""


def main() -> None:
    """Checks that the statistics are the same, times each way and prints examples a second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        plain, divided = build(folder, arguments.rows)
        examples, out = folder / "examples", folder / "out"
        ways: dict[str, Callable[[], object]] = {
            "fairtowers": functools.partial(ours, plain, examples, out),
            "fairtowers, also in 9 slices and groups": functools.partial(
                ours, divided, examples, out
            ),
            "tfdv.generate_statistics_from_tfrecord": functools.partial(peer, examples, "*"),
            "the same with sketches": functools.partial(peer, examples, "*", sketches=True),
        }
        check_equal(ours(plain, examples, out)["test"], peer(examples, "test-*", sketches=True))
        seconds = in_turns(ways, arguments.rounds)
    rates = {name: arguments.rows / values for name, values in seconds.items()}
    print_rates(rates, "examples a second", digits=1)


def build(folder: pathlib.Path, rows: int) -> tuple[RunConfig, RunConfig]:
    """Writes examples with 10 features and 3 labels into `folder/examples`.

    Returns:
        The configuration without groups and slices, and that with them.
    """
    source = folder / "source"
    write_tables(source, rows)
    rng = np.random.default_rng(1)
    for name, labels in _LABELS.items():
        table = pq.read_table(source / f"{name}.parquet")
        for label, values in labels.items():
            column = rng.integers(0, values, len(table)).astype(str)
            table = table.append_column(label, pa.array(column))
        pq.write_table(table, source / f"{name}.parquet")
    settings = configuration(source)
    divided = RunConfig.model_validate(
        {
            **settings,
            "groups": {"columns": list(_LABELS["items"])},
            "slices": [{"column": column} for column in _LABELS["users"]],
        }
    )
    (folder / "examples").mkdir()
    build_examples(divided, None, folder / "examples")
    return RunConfig.model_validate(settings), divided


def ours(config: RunConfig, examples: pathlib.Path, out: pathlib.Path) -> Mapping[str, Any]:
    """The statistics of every part, as the `validate` stage has them."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    write_statistics(config, examples, out)
    return {path.name.split(".")[0]: load_statistics(path)[ALL_EXAMPLES] for path in out.iterdir()}


def peer(
    examples: pathlib.Path, pattern: str, sketches: bool = False
) -> statistics_pb2.DatasetFeatureStatistics:
    """What TFDV's guide says to call."""
    found = tfdv.generate_statistics_from_tfrecord(
        str(examples / f"{pattern}.tfrecord.gz"),
        stats_options=tfdv.StatsOptions(experimental_use_sketch_based_topk_uniques=sketches),
        pipeline_options=PipelineOptions(runner="FnApiRunner"),
    )
    return found.datasets[0]


def check_equal(
    own: statistics_pb2.DatasetFeatureStatistics, other: statistics_pb2.DatasetFeatureStatistics
) -> None:
    """Compares the statistics of the same examples."""
    assert own.num_examples == other.num_examples
    mine, others = ({f.path.step[0]: f for f in each.features} for each in (own, other))
    assert mine.keys() == others.keys()
    for name, feature in mine.items():
        twin = others[name]
        if feature.HasField("string_stats"):
            a, b = feature.string_stats, twin.string_stats
            assert np.isclose(a.avg_length, b.avg_length, rtol=1e-6), name
            assert np.isclose(a.unique, b.unique, rtol=0.05), name
        else:
            a, b = feature.num_stats, twin.num_stats
            assert np.allclose([a.mean, a.std_dev], [b.mean, b.std_dev], rtol=1e-6), name
            assert (a.min, a.max, a.num_zeros) == (b.min, b.max, b.num_zeros), name
            assert abs(a.median - b.median) <= 2 * _QUANTILE_ERROR * (a.max - a.min), name
        assert a.common_stats.num_non_missing == b.common_stats.num_non_missing, name
        assert a.common_stats.tot_num_values == b.common_stats.tot_num_values, name


if __name__ == "__main__":
    main()
