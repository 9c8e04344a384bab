"""Builds training examples from an interaction log and the users and items tables with Beam.

One element is some row groups, or a file of another format, never a row: every step works on whole
Arrow tables. The result does not depend on the order or the size of bundles, nor on the number of
workers.
"""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from fairness_losses.errors import InvalidInputError
from pipelines.beam_runner import new_pipeline, run
from pipelines.config import RunConfig
from pipelines.examples import broadcast_join, shuffled_join
from pipelines.examples.arrow_ipc import to_bytes
from pipelines.examples.checks import DEAD_SCHEMA
from pipelines.examples.dead_letters import check_counts
from pipelines.examples.descriptions import finish, write_letters
from pipelines.examples.inputs import Inputs, Log, plan_inputs
from pipelines.examples.sources import Chunks
from pipelines.examples.steps import INPUTS
from pipelines.file_systems import StrPath, is_remote, join, remove_unfinished
from pipelines.readers.chunks import open_file
from pipelines.readers.files import size_in_bytes

ROWS_PER_SHARD = 100_000
"""About this many interactions share a shard."""

MAX_SHARDS = 256
"""A log is divided into at most this many shards."""

BYTES_PER_ID = 16
"""About so large is an id of a log without a table, where every row may hold another one."""


def build_examples(
    config: RunConfig,
    source_dir: pathlib.Path | None,
    out_dir: StrPath,
    pipeline_args: Sequence[str] = (),
) -> dict[str, Any]:
    """Reads, checks, joins and splits the log and writes examples with all that describes them.

    Args:
        config: The run.
        source_dir: Folder of `interactions.parquet`, `users.parquet` and `items.parquet` of a
            built-in data set; None if `data.dataset` is `files`.
        out_dir: An empty folder of any file system that Beam knows, which all workers can write
            to. After an error its content is of no use. The last file is `counts.json`: where it
            is, all of them are.
        pipeline_args: Beam's own options, such as `--runner=FlinkRunner`. By default the pipeline
            runs in this process.

    Returns:
        The content of `counts.json`: per input the rows read, written, dead and repeated.

    Raises:
        InvalidInputError: The input cannot be used; the message says where and why.
    """
    if not is_remote(out_dir):
        out_dir = pathlib.Path(out_dir).absolute()  # Workers run in other folders.
    run(examples_pipeline(config, source_dir, out_dir, pipeline_args))
    if isinstance(out_dir, pathlib.Path):
        remove_unfinished(out_dir)
    return read_counts(config, out_dir)


def examples_pipeline(
    config: RunConfig,
    source_dir: pathlib.Path | None,
    out_dir: StrPath,
    pipeline_args: Sequence[str] = (),
) -> beam.Pipeline:
    """Returns the pipeline of `build_examples`, which is still to be run.

    Raises:
        InvalidInputError: A file or column is missing, or the runner is not to be used.
    """
    # First, since a pipeline that is never run leaves its temporary folder behind.
    inputs = plan_inputs(config, source_dir)
    pipeline = new_pipeline(pipeline_args)
    assemble(pipeline, config, inputs, out_dir)
    return pipeline


def read_counts(config: RunConfig, examples_dir: StrPath) -> dict[str, Any]:
    """Returns the content of `counts.json`, with which no more may be wrong than allowed.

    Raises:
        InvalidInputError: It is not there; or see `dead_letters.check_counts`.
    """
    path = join(examples_dir, "counts.json")
    if not FileSystems.exists(path):
        raise InvalidInputError(
            f"{examples_dir}: the job has ended, but what its workers wrote is not here. They "
            "should share this folder with this machine, under the same name: give another "
            "`--out`, or a bucket by `--examples-at`."
        )
    with open_file(path) as file:
        counts = json.load(file)
    check_counts(counts, join(examples_dir, "dead_letter"), config.data.max_dead_letter_share)
    return counts


def assemble(pipeline: beam.Pipeline, config: RunConfig, inputs: Inputs, out_dir: StrPath) -> None:
    """Adds all steps to a pipeline; arguments are as in `build_examples` and `plan_inputs`.

    While it runs, its counters say what became of the rows, such as `interactions_dead`.
    """
    chunks = pipeline | "Chunks of the log" >> Chunks(inputs.log)
    way = broadcast_join if _fits(inputs, config) else shuffled_join
    joined = way.join(pipeline, chunks, config, inputs, out_dir, _num_shards(inputs.log))
    dead = _write_dead_letters(pipeline, inputs, out_dir, joined.dead)
    finish(pipeline, joined, dead, config.slices, out_dir)


def _fits(inputs: Inputs, config: RunConfig) -> bool:
    """Whether both tables are small enough for every worker to hold them."""
    tables = (inputs.users, inputs.items)
    size = sum(
        sum(map(size_in_bytes, table.files)) if table else _num_rows(inputs.log) * BYTES_PER_ID
        for table in tables
    )
    return size <= config.data.max_broadcast_mb * 1e6


def _num_rows(log: Log) -> int:
    return sum(chunk.rows for chunk in log.chunks)


def _num_shards(log: Log) -> int:
    return min(MAX_SHARDS, _num_rows(log) // ROWS_PER_SHARD + 1)


def _write_dead_letters(
    pipeline: beam.Pipeline,
    inputs: Inputs,
    out_dir: StrPath,
    sources: Sequence[beam.PCollection],
) -> beam.PCollection:
    files = {i.name: i.files for i in (inputs.log, inputs.users, inputs.items) if i}
    none = [(name, to_bytes(DEAD_SCHEMA.empty_table())) for name in INPUTS]
    return (
        (*sources, pipeline | "No dead letters" >> beam.Create(none, reshuffle=False))
        | "All dead letters" >> beam.Flatten()
        | "Dead letters of an input" >> beam.GroupByKey()
        | "Write dead letters" >> beam.Map(write_letters, out_dir, files)
    )
