"""Ends the pipeline: dead letters, and what describes the examples once they are all there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import apache_beam as beam
import pyarrow as pa
from apache_beam.pvalue import AsIter

from pipelines.config import SliceConfig
from pipelines.examples.arrow_ipc import from_bytes
from pipelines.examples.checks import PARTS
from pipelines.examples.dead_letters import write_dead_letters
from pipelines.examples.record_files import RecordFile
from pipelines.examples.steps import INPUTS, Joined
from pipelines.examples.summaries import ItemsSummary, UsersSummary, write_summaries
from pipelines.file_systems import StrPath, join, write_json


def write_letters(
    letters: tuple[str, Iterable[bytes]], out_dir: StrPath, files: dict[str, list[str]]
) -> tuple[str, dict[str, int]]:
    """Writes the dead letters of an input and returns its name with its reasons' counts."""
    name, tables = letters
    dead = pa.concat_tables([from_bytes(table) for table in tables])
    path = join(out_dir, "dead_letter", f"{name}.jsonl")
    return name, write_dead_letters(path, dead, files.get(name, []))


def finish(
    pipeline: beam.Pipeline,
    joined: Joined,
    dead: beam.PCollection,
    slices: Sequence[SliceConfig],
    out_dir: StrPath,
) -> None:
    """Adds the step that writes what describes the examples, once they are all there.

    Args:
        pipeline: The pipeline.
        joined: What there is to be described.
        dead: Per input the counts of its dead letters' reasons, from `write_letters`.
        slices: The divisions of the users.
        out_dir: Where.
    """
    _ = (
        pipeline
        | "Once" >> beam.Create([None])
        | "Finish"
        >> beam.Map(
            _write_descriptions,
            slices,
            out_dir,
            files=AsIter(joined.files),
            users=AsIter(joined.users),
            items=AsIter(joined.items),
            read=AsIter(joined.read | "Rows read" >> beam.Flatten()),
            repeated=AsIter(joined.repeated),
            dead=AsIter(dead),
        )
    )


def _write_descriptions(
    _: None,
    slices: Sequence[SliceConfig],
    out_dir: StrPath,
    files: Iterable[RecordFile],
    users: Iterable[UsersSummary],
    items: Iterable[ItemsSummary],
    read: Iterable[tuple[str, int]],
    repeated: Iterable[int],
    dead: Iterable[tuple[str, dict[str, int]]],
) -> None:
    users, items, files, read = list(users), list(items), list(files), list(read)
    write_summaries(out_dir, users, items, files, slices)
    written = {
        "interactions": {
            part: sum(f.records for f in files if f.name.startswith(part)) for part in PARTS
        },
        "users": sum(summary.users for summary in users),
        "items": sum(size for summary in items for size, _ in summary.groups.values()),
    }
    letters = dict(dead)
    counts = {
        name: {
            "read": sum(number for source, number in read if source == name),
            "written": written[name],
            "dead": letters[name],
            "duplicates": sum(repeated) if name == "interactions" else 0,
        }
        for name in INPUTS
    }
    # The last file: where it is, all of them are.
    write_json(join(out_dir, "counts.json"), counts)
