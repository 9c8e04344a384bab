"""The commands on lists that were served: `audit-lists` and `watch`."""

from __future__ import annotations

import contextlib
import pathlib
import signal
import threading
from collections.abc import Iterator
from typing import Annotated

import typer

from pipelines.cli_app import Beam, Config, Data, Force, Out, app, console, job_of
from pipelines.cli_gates import judge
from pipelines.gates.evaluate import VERDICT

_PANEL = "Served lists"

Lists = Annotated[str, typer.Option("--lists", "-l", help="Parquet files of lists; a glob.")]
Salts = Annotated[
    pathlib.Path | None,
    typer.Option(
        "--salts",
        help="Folder of the salts that a serving log's user ids are hashed with.",
        exists=True,
        file_okay=False,
    ),
]


@app.command(name="audit-lists", rich_help_panel=_PANEL)
def audit_lists(
    config: Config,
    out: Out,
    lists: Lists,
    name: Annotated[
        str, typer.Option("--name", help="Of the lists, and of the folder.")
    ] = "served",
    positives: Annotated[
        pathlib.Path | None,
        typer.Option("--positives", help="File of `user_id` and `item_id`: what users chose."),
    ] = None,
    salts: Salts = None,
    data: Data = None,
    force: Force = False,
    beam: Beam = None,
) -> None:
    """Audits files of served lists, such as the log of a server, of any number.

    A row has `user_id`, `candidate_ids` (a list of strings, best first), `policy` and
    `model_version`; with a column `list_id` a user may have several lists. A serving log has hashes
    of the users' ids, and needs `--salts`. The users' slices and
    the items' groups are those of the run directory. Lists that cannot be audited become dead
    letters with a reason. Writes `report.json`, `counts.json` and `dead_letter/lists.jsonl` into
    `audits/<name>`, and there the page `report/report.html`; quality is measured if `--positives`
    say what users chose. If there are `gates` in the configuration, they are held against this
    report, too, see `fairtowers gate`.
    """
    job = job_of(config, out, data, force, beam)
    with job.directory.locked():
        folder = job.audit_lists(lists, name, positives, salts)
    console.print(f"\nReport: [bold]{folder / 'report' / 'report.html'}[/bold]")
    judge(folder / "report.json", job.config.gates, folder / VERDICT)


@app.command(rich_help_panel=_PANEL)
def watch(
    config: Config,
    out: Out,
    lists: Lists,
    idle: Annotated[
        float | None,
        typer.Option("--idle", help="End when no file has come for so many seconds.", min=0),
    ] = None,
    salts: Salts = None,
    data: Data = None,
) -> None:
    """Reports on served lists while files of them arrive in a folder.

    Files are as for `audit-lists`, with the columns `list_id` and `timestamp`, and have to be
    complete when their names match: rename them into place. For every window of time (`monitoring`
    of the configuration) it writes a report when the window is over, and a corrected one when lists
    come late; and a line into `alerts.jsonl` when a group's exposure ratio in a slice leaves its
    band or is back. It ends when it is interrupted, and then reports on the windows that are open.
    """
    job = job_of(config, out, data, False, None)
    with _interrupted() as stop:
        counts = job.watch(lists, stop, idle, salts)
    console.print(
        f"{counts['read']:,} lists read, {counts['audited']:,} in windows, {counts['dead']:,} left "
        f"out. Reports and alerts: [bold]{out / 'monitoring'}[/bold]"
    )


@contextlib.contextmanager
def _interrupted() -> Iterator[threading.Event]:
    """Yields an event that is set, and nothing else happens, when the process is interrupted."""
    event = threading.Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda *_: event.set()) for number in numbers}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
