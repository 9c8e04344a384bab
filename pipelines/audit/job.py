"""Audits files of served lists with Beam: `fairtowers audit-lists`."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import time
from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.pvalue import AsIter, AsSingleton

from fairness_losses.errors import InvalidInputError
from pipelines.audit.list_files import ListFiles
from pipelines.audit.log_gaps import find_gaps
from pipelines.audit.log_oddities import find_oddities
from pipelines.audit.meter import Meter
from pipelines.audit.positives import read_positives
from pipelines.audit.private_counts import ClippedCounts, release
from pipelines.audit.read_lists import BY_PROGRAM, DEAD, READ, ReadLists
from pipelines.audit.transforms import AUDITED, REPORT, SERVED, AuditLists
from pipelines.beam_runner import new_pipeline, run
from pipelines.config import PrivateCountsConfig, RunConfig
from pipelines.examples.arrow_ipc import from_bytes
from pipelines.examples.checks import DEAD_SCHEMA
from pipelines.examples.dead_letters import most_common, write_dead_letters
from pipelines.file_systems import write_json
from towers.config import USER_ID


def audit_files(
    config: RunConfig,
    lists: ListFiles,
    examples: pathlib.Path,
    out_dir: pathlib.Path,
    name: str,
    positives: pathlib.Path | None = None,
    pipeline_args: Sequence[str] = (),
) -> dict[str, Any]:
    """Audits files of lists of any number.

    Writes `report.json`; `counts.json`, the lists read and audited, what served how many, why
    others were not audited (`dead`, and `left_out` of programs), and the gaps of a serving log;
    `dead_letter/lists.jsonl`, with file and row of those; and, if the configuration asks for it,
    `private_counts.json`.

    Args:
        config: The run configuration.
        lists: The files.
        examples: Folder that the examples pipeline wrote: the catalogue and the users' slices.
        out_dir: An empty folder, which all workers can write to.
        name: Of the lists in the report.
        positives: File of `user_id` and `item_id`, what users chose of the lists, see
            `positives.read_positives`; without it quality is not measured.
        pipeline_args: Beam's own options. By default the pipeline runs in this process.

    Returns:
        The content of `counts.json`.

    Raises:
        InvalidInputError: Too many of the lists cannot be audited, or the positives not be read.
    """
    # Workers run in other folders.
    examples, out_dir = examples.absolute(), out_dir.absolute()
    positives = positives.absolute() if positives else None
    pipeline = new_pipeline(pipeline_args)
    meter = (
        pipeline
        | "Sources" >> beam.Create([(examples, positives)])
        | beam.Map(load_meter, config, config.audit.bootstrap_samples)
    )
    # What is read twice is the plan of the files, never the lists.
    read = (
        pipeline
        | "Chunks of lists" >> beam.Create(lists.chunks)
        | "Read"
        >> ReadLists(lists, config.audit.max_lists_per_user, bool(config.audit.private_counts))
    )
    audited = read["lists"] | "Audit" >> AuditLists(
        config, meter, {"variant": name, "lists": lists.pattern}
    )
    dead = (read[DEAD], audited[DEAD]) | "All dead letters" >> beam.Flatten()
    _ = audited[REPORT] | "Write" >> beam.Map(
        write_audit,
        out_dir,
        lists,
        _gaps(lists),
        audited=AsSingleton(audited[AUDITED]),
        served=AsSingleton(audited[SERVED]),
        read=AsSingleton(read[READ] | "Lists read" >> beam.CombineGlobally(sum)),
        dead=AsIter(dead),
    )
    if config.audit.private_counts:
        private = config.audit.private_counts
        _ = (
            read["lists"]
            | "Clip" >> ClippedCounts(private, meter)
            | "Write private counts"
            >> beam.Map(write_private, AsSingleton(meter), private, out_dir)
        )
    run(pipeline)
    counts = json.loads((out_dir / "counts.json").read_text(encoding="utf-8"))
    _check(counts, out_dir, config.data.max_dead_letter_share)
    return counts


def load_meter(
    sources: tuple[pathlib.Path, pathlib.Path | None], config: RunConfig, samples: int
) -> Meter:
    """Returns what lists are measured against, given examples and positives as `audit_files`."""
    examples, positives = sources
    return Meter.of(
        pq.read_table(examples / "catalogue.parquet"),
        pq.read_table(examples / "users.parquet"),
        read_positives(positives, config.data.max_dead_letter_share) if positives else None,
        config,
        samples,
    )


def write_audit(
    report: dict[str, Any],
    out_dir: pathlib.Path,
    lists: ListFiles,
    gaps: dict[str, Any] | None,
    audited: int,
    served: list[dict[str, Any]],
    read: int,
    dead: Iterable[bytes],
) -> None:
    """Writes the report with its counts and dead letters.

    Args:
        report: What `AuditLists` found.
        out_dir: Folder to write into.
        lists: The files.
        gaps: What is missing from a log.
        audited: Number of lists.
        served: What served how many of them.
        read: Number of lists.
        dead: Dead letters, as Arrow bytes.
    """
    letters = pa.concat_tables([DEAD_SCHEMA.empty_table(), *map(from_bytes, dead)])
    if lists.pseudonyms:
        letters = without_users(letters)
    reasons = write_dead_letters(out_dir / "dead_letter" / "lists.jsonl", letters, lists.files)
    counts: dict[str, Any] = {
        "read": read,
        "audited": audited,
        "dead": {reason: n for reason, n in reasons.items() if reason != BY_PROGRAM},
        "left_out": {reason: n for reason, n in reasons.items() if reason == BY_PROGRAM},
        "served": served,
    }
    if gaps:
        counts["log"] = gaps
    write_json(out_dir / "counts.json", counts)
    write_json(out_dir / "report.json", report)


def write_private(
    counts: Any, meter: Meter, config: PrivateCountsConfig, out_dir: pathlib.Path
) -> None:
    """Writes counts with noise; without it they are nowhere.

    Args:
        counts: What `ClippedCounts` found.
        meter: What lists were measured against.
        config: Of the release.
        out_dir: Folder to write into.
    """
    found = release(counts, meter.index, meter.layout.groups.labels, meter.layout.depth, config)
    write_json(out_dir / "private_counts.json", found)


def _gaps(lists: ListFiles) -> dict[str, Any] | None:
    if lists.pseudonyms is None:
        return None
    gaps = find_gaps(lists.files, lists.pseudonyms)
    return {**dataclasses.asdict(gaps), **find_oddities(lists.files, time.time())}


def without_users(letters: pa.Table) -> pa.Table:
    """Returns dead letters without the users' ids, which a log does not hold either."""
    place = letters.column_names.index(USER_ID)
    return letters.set_column(place, USER_ID, pa.nulls(len(letters), pa.string()))


def _check(counts: dict[str, Any], out_dir: pathlib.Path, max_dead_letter_share: float) -> None:
    read, audited, reasons = counts["read"], counts["audited"], counts["dead"]
    dead = sum(reasons.values())
    if read != audited + dead + sum(counts["left_out"].values()):
        raise RuntimeError(f"lists got lost: {counts}. Please report this.")
    if not read:
        raise InvalidInputError("`--lists`: there are no lists in the files.")
    if dead > max_dead_letter_share * read or not audited:
        raise InvalidInputError(
            f"`--lists`: {dead:,} of {read:,} lists ({dead / read:.1%}) cannot be audited; "
            f"`data.max_dead_letter_share` is {max_dead_letter_share:.1%}. Most common: "
            f"{most_common(reasons, str(out_dir / 'dead_letter' / 'lists.jsonl'))}. Correct the "
            "lists, or audit them with the catalogue that they were served from."
        )
