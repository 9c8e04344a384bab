"""Statistics of all examples, overall and per slice and group, as a Beam pipeline.

One element is a batch of 65,536 examples. Batches become sums and sketches where they are read, so
that only these travel between workers.
"""

from __future__ import annotations

import itertools
import pathlib
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from apache_beam.metrics import Metrics
from tensorflow_metadata.proto.v0 import statistics_pb2

from fairness_losses.config import UNKNOWN
from fairness_losses.errors import InvalidInputError
from pipelines.beam_runner import new_pipeline, run
from pipelines.config import RunConfig
from pipelines.examples.checks import PARTS
from pipelines.examples.inputs import GROUP, SLICE_PREFIX
from pipelines.file_systems import whole_file, write_json
from pipelines.validation.combining import Statistics, first_values
from pipelines.validation.reading import Shard, read_shard, shards
from pipelines.validation.serving_data import METRICS, SERVING, UNEXPECTED, ReadServing, Requests

ALL_EXAMPLES = "All Examples"
"""Name that TFDV gives to the statistics of all rows."""

UNEXPECTED_COLUMNS = "unexpected.json"
"""Name of the file with the columns that requests should not have."""

Division = tuple[str, tuple[str, ...]]
"""A way to divide examples: its name, and the label features whose values it is made of."""

_Batch = tuple[str, pa.RecordBatch]
_Cell = tuple[tuple[str, str], pa.RecordBatch]


def write_statistics(
    config: RunConfig,
    examples_dir: pathlib.Path,
    out_dir: pathlib.Path,
    pipeline_args: Sequence[str] = (),
    requests: Requests | None = None,
) -> None:
    """Computes the statistics of examples and, if there are some, of logged requests.

    Args:
        config: The run.
        examples_dir: What `build_examples` wrote.
        out_dir: Where `<part>.stats.pb` and `serving.stats.pb` are written, by the workers. A part
            without examples has no file. In it the first data set is `All Examples`; those of
            slices and groups follow by name (`slice.gender_F`, `slice.gender × age_F × 25–44`),
            without those of fewer users than `audit.min_users`. Beside those of requests
            `unexpected.json` names the columns that these should not have.
        pipeline_args: Beam's own options, such as `--runner=FlinkRunner`.
        requests: The logged requests.

    Raises:
        InvalidInputError: A file is missing, damaged or incomplete.
    """
    # Workers run in other folders.
    examples_dir, out_dir = examples_dir.absolute(), out_dir.absolute()
    files, max_rows = shards(examples_dir), config.validation.max_rows
    per_shard = None if max_rows is None else max(1, max_rows * len(PARTS) // len(files))
    divided = divisions(config)
    labels = {feature for _, features in divided for feature in features}
    pipeline = new_pipeline(pipeline_args)
    examples = (
        pipeline
        | "Shards" >> beam.Create(files)
        | "Read examples" >> beam.ParDo(ReadExamples(per_shard))
    )
    few = config.audit.min_users
    cells = examples | "Divide" >> beam.ParDo(Divide(divided))
    of_all = beam.CombinePerKey(Statistics(labels, few, of_anybody=True))
    found = [
        cells | "Statistics of cells" >> beam.CombinePerKey(Statistics(labels, few)),
        examples | "All examples" >> beam.Map(whole) | "Statistics of all" >> of_all,
    ]
    if requests:
        read = (
            pipeline
            | "Chunks of requests" >> beam.Create(requests.chunks)
            | "Read requests"
            >> beam.ParDo(ReadServing(requests)).with_outputs(UNEXPECTED, main=SERVING)
        )
        found.append(
            read[SERVING] | "All requests" >> beam.Map(whole) | "Statistics of requests" >> of_all
        )
        of_files = requests.unexpected(frozenset().union(*requests.columns))
        _ = (
            (read[UNEXPECTED], pipeline | "Columns of files" >> beam.Create([of_files]))
            | "All columns" >> beam.Flatten()
            | "Each column once" >> beam.CombineGlobally(_union)
            | "Write columns" >> beam.Map(write_unexpected, out_dir)
        )
    _ = (
        found
        | "All statistics" >> beam.Flatten()
        | "Of enough users" >> beam.Filter(lambda of_cell: of_cell[1] is not None)
        | "By part" >> beam.MapTuple(lambda key, statistics: (key[0], (key[1], statistics)))
        | "Of a part" >> beam.GroupByKey()
        | "Write" >> beam.Map(write_part, out_dir)
    )
    run(pipeline)


def load_statistics(path: pathlib.Path) -> dict[str, statistics_pb2.DatasetFeatureStatistics]:
    """Returns the statistics of a `.stats.pb` file by the name of their data set.

    Raises:
        InvalidInputError: The file holds no statistics.
    """
    found = statistics_pb2.DatasetFeatureStatisticsList()
    try:
        found.ParseFromString(path.read_bytes())
    except Exception as error:  # Protocol buffers raise what they are implemented in.
        raise InvalidInputError(f"{path}: there are no readable statistics: {error}.") from error
    return {statistics.name: statistics for statistics in found.datasets}


def divisions(config: RunConfig) -> list[Division]:
    """Returns how examples are divided: by group and by every slice of the configuration."""
    by_slice = [
        (f"{SLICE_PREFIX}{cut.name}", tuple(SLICE_PREFIX + c for c in cut.cross or [cut.name]))
        for cut in config.slices
    ]
    return [*([(GROUP, (GROUP,))] if config.groups else []), *by_slice]


class ReadExamples(beam.DoFn):
    """Shards to batches of their examples.

    Args:
        max_rows: Only the first so many of a shard, which are a random sample, since examples lie
            there by a hash of user and item.
    """

    def __init__(self, max_rows: int | None) -> None:
        self._max_rows = max_rows

    def process(self, shard: Shard) -> Iterator[_Batch]:
        """See the class."""
        part, path, sha256 = shard
        for batch in read_shard(path, sha256, self._max_rows):
            Metrics.counter(METRICS, f"{part}_examples").inc(batch.num_rows)
            yield part, batch


def whole(examples: _Batch) -> _Cell:
    """Returns a batch as the one cell of all."""
    part, batch = examples
    return (part, ALL_EXAMPLES), batch


class Divide(beam.DoFn):
    """Batches to those of each slice and group."""

    def __init__(self, divided: Sequence[Division]) -> None:
        self._divisions = divided

    def process(self, examples: _Batch) -> Iterator[_Cell]:
        """See the class."""
        part, batch = examples
        for name, features in self._divisions:
            for value, rows in cells(batch, features):
                yield (part, f"{name}_{value}"), rows


def cells(batch: pa.RecordBatch, features: Sequence[str]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Divides examples by the values of features, joined by ` × `.

    Args:
        batch: Examples; features are list columns.
        features: Labels. An example that does not have one is `unknown`.
    """
    columns = [_labels(batch, feature) for feature in features]
    encoded = pc.binary_join_element_wise(*columns, " × ").dictionary_encode()
    codes = encoded.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    bounds = np.searchsorted(codes[order], np.arange(len(encoded.dictionary) + 1))
    for value, (start, end) in zip(
        encoded.dictionary.to_pylist(), itertools.pairwise(bounds.tolist()), strict=True
    ):
        yield value, pc.take(batch, pa.array(order[start:end]))


def _labels(batch: pa.RecordBatch, feature: str) -> pa.Array:
    if feature not in batch.schema.names:
        return pa.array([UNKNOWN] * batch.num_rows, pa.string())
    return pc.fill_null(first_values(batch[feature]).cast(pa.string()), UNKNOWN)


def write_part(part: tuple[str, Iterable[tuple[str, bytes]]], out_dir: pathlib.Path) -> None:
    """Writes the statistics of a part, those of all its examples first."""
    statistics = dict(part[1])
    all_of_it = statistics_pb2.DatasetFeatureStatisticsList()
    for name in sorted(statistics, key=lambda name: (name != ALL_EXAMPLES, name)):
        dataset = all_of_it.datasets.add()
        dataset.ParseFromString(statistics[name])
        dataset.name = name
    with whole_file(out_dir / f"{part[0]}.stats.pb") as file:
        file.write(all_of_it.SerializeToString())


def write_unexpected(names: frozenset[str], out_dir: pathlib.Path) -> None:
    """Writes the names of the columns that requests should not have."""
    write_json(out_dir / UNEXPECTED_COLUMNS, sorted(names))


def _union(sets: Iterable[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)
