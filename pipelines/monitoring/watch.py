"""Watches a folder of served lists: `fairtowers watch`."""

from __future__ import annotations

import json
import pathlib
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner

from fairness_losses.errors import InvalidInputError
from pipelines.audit.job import load_meter, without_users
from pipelines.audit.layout import Layout
from pipelines.audit.list_files import LIST_ID
from pipelines.audit.pseudonyms import Pseudonyms
from pipelines.audit.read_lists import DEAD, dead_lists
from pipelines.beam_runner import run
from pipelines.config import RunConfig
from pipelines.examples.arrow_ipc import from_bytes, to_bytes
from pipelines.examples.checks import REASON, Rejections, as_seconds, dead_letters
from pipelines.examples.dead_letters import letters
from pipelines.examples.inputs import TIMESTAMP
from pipelines.file_systems import write_json
from pipelines.monitoring.folder import Arrival, FolderStream
from pipelines.monitoring.windows import ALERTS, REPORTS, MonitorExposure
from pipelines.readers.chunks import FILE, ROW, Chunk

_ALERTS, _DEAD = "alerts.jsonl", "dead_letter/lists.jsonl"
_FILES, _PANES = "files.jsonl", "panes.jsonl"

POLL = 5.0
"""Seconds between looks at the folder."""


def watch(
    config: RunConfig,
    pattern: str,
    examples: pathlib.Path,
    out_dir: pathlib.Path,
    stop: threading.Event,
    idle: float | None = None,
    poll: float = POLL,
    salts: pathlib.Path | None = None,
) -> dict[str, int]:
    """Reports on the lists that arrive in a folder until it is told to stop.

    Writes `windows/<start>.json`, the newest report of each window; `alerts.jsonl`;
    `dead_letter/lists.jsonl`; `files.jsonl`, the files with their number of lists and what was
    wrong, if anything; `panes.jsonl`, what was reported when; and at the end `counts.json`.

    What lies in the folder already is read first: a watch that is started again comes to the same
    reports, and its logs begin anew.

    Args:
        config: The run configuration.
        pattern: Glob of Parquet files, which have to be complete when their names match.
        examples: Folder that the examples pipeline wrote: the catalogue and the users' slices.
        out_dir: Folder of the output.
        stop: Ends the watch when it is set. Windows that are not over are reported as they are.
        idle: Ends the watch when no file has come for so many seconds; never, if None.
        poll: Seconds between looks at the folder.
        salts: Folder of the salts, for a serving log.

    Returns:
        `read`, `audited` and `dead`: the lists of all files, those in a report, and those left out.

    Raises:
        InvalidInputError: The catalogue has no group to watch.
    """
    _check_groups(config, examples)
    # A test of every window would find something every day.
    audit = config.audit.model_copy(update={"permutations": 0})
    config = config.model_copy(update={"audit": audit})
    for part in ("windows", "dead_letter"):
        (out_dir / part).mkdir(parents=True, exist_ok=True)
    for name in (_ALERTS, _DEAD, _FILES, _PANES):
        (out_dir / name).write_text("", encoding="utf-8")
    options = PipelineOptions([])
    options.view_as(StandardOptions).streaming = True
    pipeline = beam.Pipeline(runner=BundleBasedDirectRunner(), options=options)
    delay = config.monitoring.max_delay
    known = Pseudonyms(salts, examples / "users.parquet") if salts else None
    folder = FolderStream(pattern, out_dir / _FILES, config.seed, delay, poll, stop, idle, known)
    with folder as arrivals:
        meter = (
            pipeline
            | "Sources" >> beam.Create([(examples, None)])
            | beam.Map(load_meter, config, config.monitoring.bootstrap_samples)
        )
        read = (
            pipeline
            | arrivals
            | "Read" >> beam.ParDo(ReadArrival(config)).with_outputs(DEAD, main="lists")
        )
        found = read["lists"] | "Monitor" >> MonitorExposure(config, meter)
        _ = found[REPORTS] | "Write reports" >> beam.Map(write_report, out_dir)
        _ = found[ALERTS] | "Write alerts" >> beam.Map(append_alert, out_dir)
        for name, dead in (("late", read[DEAD]), ("other", found[DEAD])):
            _ = dead | f"Write {name} dead letters" >> beam.Map(append_dead, out_dir, bool(salts))
        run(pipeline)
    counts = _counts(out_dir)
    write_json(out_dir / "counts.json", counts)
    if counts["read"] != counts["audited"] + counts["dead"]:
        raise RuntimeError(f"lists got lost: {counts}. Please report this.")
    return counts


class ReadArrival(beam.DoFn):
    """Parts of files to their lists; those that come too late for their window are dead.

    The runner would leave them out, too, but without a word. Dead are also the lists of a file that
    cannot be read, although its footer and times could be when it arrived.

    Args:
        config: The run configuration.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config.monitoring

    def process(self, arrival: Arrival) -> Iterator[Any]:
        """See the class."""
        read = 0
        try:
            for table in arrival.files.tables(arrival.chunk, [LIST_ID, TIMESTAMP]):
                yield from self._in_time(table, arrival.watermark)
                read += len(table)
        except InvalidInputError:
            # One broken file should not end the watch over all others.
            yield dead_lists(_unread(arrival.chunk, read))

    def _in_time(self, table: pa.Table, watermark: float) -> Iterator[Any]:
        rejections = Rejections(len(table))
        seconds, valid = as_seconds(table[TIMESTAMP], f"column `{TIMESTAMP}`")
        # Texts are taken apart once: the steps after this one read numbers.
        column = table.column_names.index(TIMESTAMP)
        table = table.set_column(column, TIMESTAMP, pa.array(seconds, mask=~valid))
        ends = (seconds // self._config.window + 1) * self._config.window
        late = ends + self._config.allowed_lateness <= watermark
        rejections.add(late & valid, "the list comes later than `monitoring.allowed_lateness`")
        if not rejections.ok.all():
            yield dead_lists(rejections.dead(table))
            table = table.filter(pa.array(rejections.ok))
        yield to_bytes(table)


def _unread(chunk: Chunk, read: int) -> pa.Table:
    """Dead letters for all lists of a chunk but those that could be read."""
    rows = chunk.first_row + 1 + np.arange(read, chunk.rows)
    reason = "the file is damaged, or was moved before it was read"
    return dead_letters({FILE: [chunk.file] * len(rows), ROW: rows, REASON: [reason] * len(rows)})


def _check_groups(config: RunConfig, examples: pathlib.Path) -> None:
    if config.groups is None:
        raise InvalidInputError("the exposure of groups is watched: give `groups`.")
    layout = Layout.of(pq.read_table(examples / "catalogue.parquet"), config)
    known = [g for g, share in zip(layout.groups.labels, layout.target, strict=True) if share]
    for group in config.monitoring.groups or []:
        if group not in known:
            raise InvalidInputError(
                f"`monitoring.groups` names `{group}`, which is no group with a target. Those are "
                f"{', '.join(known)}."
            )


def write_report(report: dict[str, Any], out_dir: pathlib.Path) -> None:
    """Writes a window's report in place of an earlier one, and a line for it."""
    name = report["window"]["start"].replace(":", "")
    write_json(out_dir / "windows" / f"{name}.json", report)
    pane = {name: report[name] for name in ("window", "pane", "lists")}
    _append(out_dir / _PANES, [_line(pane)])


def append_alert(alert: dict[str, Any], out_dir: pathlib.Path) -> None:
    """Adds a line to the alerts."""
    _append(out_dir / _ALERTS, [_line(alert)])


def append_dead(dead: bytes, out_dir: pathlib.Path, is_log: bool) -> None:
    """Adds a line for every list that does not count; of a log, without the user."""
    files = [line["file"] for line in _lines(out_dir / _FILES)]
    table = without_users(from_bytes(dead)) if is_log else from_bytes(dead)
    _append(out_dir / _DEAD, letters(table, files))


def _append(path: pathlib.Path, lines: Iterable[str]) -> None:
    # One write, so that a line is never seen in part.
    with path.open("a", encoding="utf-8") as file:
        file.write("".join(lines))


def _line(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False) + "\n"


def _lines(path: pathlib.Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _counts(out_dir: pathlib.Path) -> dict[str, int]:
    """What became of the lists. The runner's own counters only count some bundles."""
    newest = {pane["window"]["start"]: pane["lists"] for pane in _lines(out_dir / _PANES)}
    return {
        "read": sum(file["lists"] for file in _lines(out_dir / _FILES)),
        "audited": sum(newest.values()),
        "dead": len(_lines(out_dir / _DEAD)),
    }
