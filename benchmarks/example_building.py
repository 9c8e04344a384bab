r"""Building examples beside a loop without Beam, and beside Beam element by element.

    python -m benchmarks.example_building

All read the same Parquet log and tables and write the same features, gzipped, in one process. The
loop has the same readers, join, encoding and writer, but no checks, order, split or summaries.
Element by element is what Beam's and TensorFlow's guides show: a dictionary per row, side inputs
as dictionaries, `tf.train.Example` and `WriteToTFRecord`; it gets fewer rows, as it takes long.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tensorflow as tf
from apache_beam.pvalue import AsSingleton
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from benchmarks.timing import in_turns, print_rates
from pipelines.config import RunConfig
from pipelines.examples.pipeline import build_examples
from pipelines.examples.record_files import write_records
from pipelines.examples.tf_examples import encode_examples, merge_examples

CATEGORIES = ["country", "device", "genre", "brand"]
NUMBERS = ["age", "income", "price", "weight"]
ROWS_PER_GROUP = 100_000


def main() -> None:
    """Times each way and prints rows a second."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--element-rows", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        whole, part = folder / "whole", folder / "part"
        write_tables(whole, arguments.rows)
        write_tables(part, arguments.element_rows)
        ways: dict[str, tuple[Callable[[pathlib.Path, pathlib.Path], None], pathlib.Path]] = {
            "fairtowers": (ours, whole),
            "the same encoding without Beam": (without_beam, whole),
            "Beam, element by element": (by_element, part),
        }
        calls = {
            name: functools.partial(_anew, build, source, folder / "out")
            for name, (build, source) in ways.items()
        }
        seconds = in_turns(calls, arguments.rounds)
        rows = {whole: arguments.rows, part: arguments.element_rows}
        rates = {name: rows[ways[name][1]] / values for name, values in seconds.items()}
    print_rates(rates, "rows a second", digits=2)


def write_tables(folder: pathlib.Path, rows: int) -> None:
    """Writes a log of user, item and time, and tables with four features each."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    users, items = max(rows // 40, 1_000), max(rows // 100, 1_000)
    log = {
        "user_id": _ids("u", users)[rng.integers(0, users, rows)],
        "item_id": _ids("i", items)[(items * rng.random(rows) ** 2).astype(int)],
        "timestamp": rng.integers(1_600_000_000, 1_700_000_000, rows),
    }
    pq.write_table(pa.table(log), folder / "interactions.parquet", row_group_size=ROWS_PER_GROUP)
    for name, size, letter in (("users", users, "u"), ("items", items, "i")):
        own = slice(0, 2) if name == "users" else slice(2, 4)
        columns: dict[str, Any] = {f"{name[:-1]}_id": _ids(letter, size)}
        for category in CATEGORIES[own]:
            columns[category] = _ids(category, 50)[rng.integers(0, 50, size)]
        for number in NUMBERS[own]:
            columns[number] = rng.random(size)
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def _ids(letter: str, count: int) -> np.ndarray:
    return np.array([f"{letter}{n}" for n in range(count)])


def ours(source: pathlib.Path, out: pathlib.Path) -> None:
    """The examples stage of a run."""
    build_examples(RunConfig.model_validate(configuration(source)), None, out)


def configuration(source: pathlib.Path) -> dict[str, Any]:
    """The settings of a run on the tables of `write_tables`."""
    features = {
        tower: [
            {"kind": "id", "column": f"{side}_id"},
            *({"kind": "categorical", "column": c} for c in CATEGORIES[own]),
            *({"kind": "numeric", "column": c} for c in NUMBERS[own]),
        ]
        for tower, side, own in (
            ("query", "user", slice(0, 2)),
            ("candidate", "item", slice(2, 4)),
        )
    }
    data = {
        "interactions": {"path": str(source / "interactions.parquet"), "timestamp": "timestamp"},
        "users": {"path": str(source / "users.parquet"), "id": "user_id"},
        "items": {"path": str(source / "items.parquet"), "id": "item_id"},
    }
    return {"name": "benchmark", "data": data, "features": features}


def without_beam(source: pathlib.Path, out: pathlib.Path) -> None:
    """A loop over row groups, with tables encoded once and joined by position."""
    tables = {
        name: pq.read_table(source / f"{name}s.parquet").combine_chunks()
        for name in ("user", "item")
    }
    encoded = {name: encode_examples(_as_floats(table)) for name, table in tables.items()}
    log = pq.ParquetFile(source / "interactions.parquet")
    for number in range(log.num_row_groups):
        rows = log.read_row_group(number).combine_chunks()
        parts = [
            encoded[name].take(
                pc.index_in(rows[f"{name}_id"].chunk(0), table[f"{name}_id"].chunk(0))
            )
            for name, table in tables.items()
        ]
        parts.append(encode_examples(rows.select(["timestamp"])))
        write_records(out / f"{number:05d}.tfrecord.gz", [merge_examples(*parts)])


def _as_floats(table: pa.Table) -> pa.Table:
    """tf.Example has single precision."""
    kinds = {n: pa.float32() if n in NUMBERS else pa.string() for n in table.column_names}
    return table.cast(pa.schema(kinds))


class ToExample(beam.DoFn):
    """A row of the log to a serialized example."""

    def process(self, row: dict[str, Any], users: dict, items: dict) -> Iterator[bytes]:
        """Joins and encodes."""
        joined = {**users[row["user_id"]], **items[row["item_id"]], **row}
        yield tf.train.Example(
            features=tf.train.Features(feature={n: _feature(v) for n, v in joined.items()})
        ).SerializeToString()


def _feature(value: str | int | float) -> tf.train.Feature:
    if isinstance(value, str):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))


def by_element(source: pathlib.Path, out: pathlib.Path) -> None:
    """`ReadFromParquet`, a DoFn and `WriteToTFRecord`."""

    def table(pipeline: beam.Pipeline, name: str) -> AsSingleton:
        rows = pipeline | f"Read {name}" >> beam.io.ReadFromParquet(
            str(source / f"{name}s.parquet")
        )
        keyed = rows | f"Key {name}" >> beam.Map(lambda row: (row[f"{name}_id"], row))
        return AsSingleton(keyed | f"Dictionary of {name}" >> beam.combiners.ToDict())

    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromParquet(str(source / "interactions.parquet"))
            | beam.ParDo(ToExample(), users=table(pipeline, "user"), items=table(pipeline, "item"))
            | beam.io.WriteToTFRecord(str(out / "examples"), file_name_suffix=".tfrecord.gz")
        )


def _anew(
    build: Callable[[pathlib.Path, pathlib.Path], None], source: pathlib.Path, out: pathlib.Path
) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    build(source, out)


if __name__ == "__main__":
    main()
