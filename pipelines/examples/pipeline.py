"""Builds training examples from an interaction log and the users and items tables with Beam.

One element is some row groups, or a file of another format, never a row: every step works on whole
Arrow tables. The result does not depend on the order or the size of bundles, nor on the number of
workers.
"""

from __future__ import annotations

import functools
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton

from pipelines.beam_runner import new_pipeline, run
from pipelines.config import RunConfig
from pipelines.examples import steps
from pipelines.examples.arrow_ipc import to_bytes
from pipelines.examples.checks import DEAD_SCHEMA
from pipelines.examples.inputs import Inputs, Log, Table, input_files, plan_inputs
from pipelines.examples.steps import DEAD, GOOD, READ, REPEATED, TIMES
from pipelines.examples.summaries import (
    check_counts,
)
from towers.config import ITEM_ID, USER_ID

__all__ = ["build_examples", "input_files"]

ROWS_PER_SHARD = 100_000
"""About this many interactions share a shard."""

MAX_SHARDS = 64
"""A log is divided into at most this many shards."""


def build_examples(
    config: RunConfig,
    source_dir: pathlib.Path | None,
    out_dir: pathlib.Path,
    pipeline_args: Sequence[str] = (),
) -> dict[str, Any]:
    """Reads, checks, joins and splits the log and writes examples with all that describes them.

    Args:
        config: The run.
        source_dir: Folder of `interactions.parquet`, `users.parquet` and `items.parquet` of a
            built-in data set; None if `data.dataset` is `files`.
        out_dir: An empty folder, which all workers can write to. After an error its content is
            of no use.
        pipeline_args: Beam's own options, such as `--runner=FlinkRunner`. By default the pipeline
            runs in this process.

    Returns:
        The content of `counts.json`: per input the rows read, written, dead and repeated.

    Raises:
        InvalidInputError: The input cannot be used; the message says where and why.
    """
    pipeline = new_pipeline(pipeline_args)
    assemble(pipeline, config, plan_inputs(config, source_dir), out_dir)
    run(pipeline)
    counts = json.loads((out_dir / "counts.json").read_text(encoding="utf-8"))
    check_counts(counts, out_dir / "dead_letter", config.data.max_dead_letter_share)
    return counts


def assemble(
    pipeline: beam.Pipeline, config: RunConfig, inputs: Inputs, out_dir: pathlib.Path
) -> None:
    """Adds all steps to a pipeline; arguments are as in `build_examples` and `plan_inputs`.

    While it runs, its counters say what became of the rows, such as `interactions_dead`.
    """
    num_shards = _num_shards(inputs.log)
    tables_of = {USER_ID: inputs.users, ITEM_ID: inputs.items}
    without_table = [id_name for id_name, table in tables_of.items() if table is None]
    history = config.features.history
    max_history = history.max_items if history else 0
    log = (
        pipeline
        | "Chunks of the log" >> beam.Create(inputs.log.chunks)
        | "Spread chunks" >> beam.Reshuffle()
        | "Read log" >> _split(steps.ReadLog(inputs.log, without_table), USER_ID, ITEM_ID)
    )
    users = _table(pipeline, inputs.users, "users", log[USER_ID])
    items = _table(pipeline, inputs.items, "items", log[ITEM_ID])
    tables = {"users": AsSingleton(users[GOOD]), "items": AsSingleton(items[GOOD])}
    found = log[GOOD] | "Look ids up" >> _split(
        steps.LookUp(num_shards),
        **{
            name: AsSingleton(table | f"Hash {name}" >> beam.Map(steps.hash_ids, config.seed))
            for name, table in (("users", users[GOOD]), ("items", items[GOOD]))
        },
    )
    joined = (
        found[GOOD]
        | "Rows of a shard" >> beam.GroupByKey()
        | "Order rows" >> _split(steps.OrderShard(config.split.by == "time"), REPEATED, TIMES)
    )
    times = joined[TIMES]
    if config.split.by != "time":
        # Without waiting for all rows to be in order, a worker goes on with those that it has.
        times = pipeline | "No times" >> beam.Create([], reshuffle=False)
    thresholds = (
        times
        | "Merge times" >> beam.CombineGlobally(steps.merge_times)
        | "Find thresholds" >> beam.Map(steps.find_thresholds, config.split)
    )
    shards = joined[GOOD] | "Write shards" >> beam.ParDo(
        steps.WriteShard(config.split, out_dir, num_shards, max_history),
        users=AsSingleton(users[GOOD] | "Encode users" >> beam.Map(steps.encode_table)),
        items=AsSingleton(items[GOOD] | "Encode items" >> beam.Map(steps.encode_table)),
        thresholds=AsSingleton(thresholds),
    )
    _ = (
        pipeline
        | "Once" >> beam.Create([None])
        | "Finish"
        >> beam.Map(
            steps.finish,
            config.features,
            config.slices,
            out_dir,
            **tables,
            shards=AsIter(shards),
            read=AsIter((log[READ], users[READ], items[READ]) | "Rows read" >> beam.Flatten()),
            repeated=AsIter(joined[REPEATED]),
            dead=AsIter(_write_dead_letters(pipeline, inputs, out_dir, log, found, users, items)),
        )
    )


def _num_shards(log: Log) -> int:
    return min(MAX_SHARDS, sum(c.rows for c in log.chunks) // ROWS_PER_SHARD + 1)


def _split(step: beam.DoFn, *outputs: str, **side_inputs: AsSingleton) -> beam.PTransform:
    return beam.ParDo(step, **side_inputs).with_outputs(DEAD, READ, *outputs, main=GOOD)


def _table(
    pipeline: beam.Pipeline, plan: Table | None, name: str, ids: beam.PCollection
) -> Mapping[str, beam.PCollection]:
    """A checked table as one element, with its rows read and dead letters."""
    if plan:
        return (
            pipeline
            | f"Files of {name}" >> beam.Create([plan])
            | f"Read {name}" >> _split(steps.ReadTable())
        )
    id_name = USER_ID if name == "users" else ITEM_ID
    return (
        ids
        | f"Ids of {name}" >> beam.CombineGlobally(functools.partial(steps.merge_ids, id_name))
        | f"Table of {name}" >> _split(steps.TableOfIds(name))
    )


def _write_dead_letters(
    pipeline: beam.Pipeline,
    inputs: Inputs,
    out_dir: pathlib.Path,
    *sources: Mapping[str, beam.PCollection],
) -> beam.PCollection:
    files = {i.name: i.files for i in (inputs.log, inputs.users, inputs.items) if i}
    none = [(name, to_bytes(DEAD_SCHEMA.empty_table())) for name in steps.INPUTS]
    return (
        (*(source[DEAD] for source in sources), pipeline | "No dead letters" >> beam.Create(none))
        | "All dead letters" >> beam.Flatten()
        | "Dead letters of an input" >> beam.GroupByKey()
        | "Write dead letters" >> beam.Map(steps.write_letters, out_dir, files)
    )
