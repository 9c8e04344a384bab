"""The command line: `fairtowers run`, and every stage on its own."""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import signal
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import ValidationError
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fairness_losses.errors import InvalidInputError
from pipelines.config_file import load_config
from pipelines.run import Run

if TYPE_CHECKING:
    from serving.log.config import LogConfig
    from serving.versions import Versions

EXIT_PROBLEMS = 4
"""Of `doctor`; errors know their own exit codes."""

app = typer.Typer(
    name="fairtowers",
    help=(
        "Candidate retrieval that is relevant and fair. `fairtowers run` goes from interaction "
        "logs to an audit report; the other commands run one of its stages. What is up to date is "
        "skipped.\n\nExit codes: 0 done, 2 an input or setting is wrong, 3 the data broke its "
        "schema, 4 `doctor` found a problem."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
console = Console()
errors = Console(stderr=True)

Config = Annotated[
    pathlib.Path, typer.Option("--config", "-c", help="YAML of the run, see `configs/`.")
]
Out = Annotated[pathlib.Path, typer.Option("--out", "-o", help="The run directory.")]
Data = Annotated[
    str | None,
    typer.Option("--data", "-d", help="Folder of the data; overrides `data.directory`."),
]
Force = Annotated[bool, typer.Option("--force", help="Run although all is up to date.")]
Beam = Annotated[
    list[str] | None,
    typer.Option("--beam", help="Option of the Beam runner, as in `--beam=--runner=FlinkRunner`."),
]
ExamplesAt = Annotated[
    str | None,
    typer.Option(
        "--examples-at",
        help="Folder that Beam's workers write the examples to, such as `gs://bucket/monday`; "
        "finished ones are fetched from it, not built again. By default the run directory.",
    ),
]


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


@app.command()
def run(
    config: Config,
    out: Out,
    data: Data = None,
    force: Force = False,
    beam: Beam = None,
    examples_at: ExamplesAt = None,
) -> None:
    """Does everything, from the log to the report."""
    job = _job(config, out, data, force, beam, examples_at)
    with job.directory.locked():
        report = job.everything()
    _print_summary(report)
    console.print(f"\nReport: [bold]{out / 'report' / 'report.html'}[/bold]")


@app.command()
def sweep(
    config: Config, out: Out, data: Data = None, force: Force = False, beam: Beam = None
) -> None:
    """Shows what exposure costs: every regularizer of `sweep`, beside a constant score bonus.

    Trains one model for every weight of every regularizer in the section `sweep` of the
    configuration, and lists the whole catalogue exactly for the **validation** users. Each point
    is a group's exposure ratio against the change of NDCG, paired with the model without a
    regularizer. The comparison that a regularizer has to survive needs no training: a constant is
    added to the scores of the group's items, the same for everybody or tuned per slice of the
    users.

    In the table, `strength` is a regularizer's weight, the bonus, or the ratio that bonuses per
    slice are tuned to; `furthest` is the ratio in the slice of the users where it is furthest from
    1; and `against` a bonus is the change less that of the cheapest bonus that brings this ratio as
    close to 1, if one does. The bonus's cost is taken as exact: intervals are those of the
    regularizer's change, for other users, not for other trainings.

    Prints the table and writes `frontier.json`, `frontier.csv` and `frontier.png` into
    `sweep/frontier`. A sweep that was stopped continues where it was, and one more weight trains
    one more model.
    """
    job = _job(config, out, data, force, beam)
    with job.directory.locked():
        frontier = job.sweep()
    from pipelines.sweep.table import frontier_table, verdicts

    _wide(120).print(frontier_table(frontier))
    for sentence in verdicts(frontier):
        console.print(sentence, highlight=False)
    console.print(f"\nPlot: [bold]{out / 'sweep' / 'frontier' / 'frontier.png'}[/bold]")


def _stage(name: str, help_text: str) -> None:
    """Adds the command of one stage."""

    def command(
        config: Config, out: Out, data: Data = None, force: Force = False, beam: Beam = None
    ) -> None:
        job = _job(config, out, data, force, beam)
        with job.directory.locked():
            getattr(job, name)()

    app.command(name=name, help=help_text)(command)


_stage("generate", "Generates or converts a built-in data set into `source`.")


@app.command()
def examples(
    config: Config,
    out: Out,
    data: Data = None,
    force: Force = False,
    beam: Beam = None,
    examples_at: ExamplesAt = None,
) -> None:
    """Builds joined, split and sharded training examples with Beam."""
    job = _job(config, out, data, force, beam, examples_at)
    with job.directory.locked():
        job.examples()


_stage("validate", "Checks the examples against the schema, or infers it on the first run.")
_stage("train", "Trains the model without and with the regularizer; continues where it was killed.")
_stage("index", "Embeds the catalogue and builds the index, with its recall per group.")
_stage("export", "Writes the next version of the SavedModel and asks it in a fresh process.")
_stage("audit", "Asks the exported model for lists and measures them per slice and group.")
_stage("report", "Compares the audits in `report.json` and `report.html`.")


@app.command(name="audit-lists")
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
    `audits/<name>`; quality is measured if `--positives` say what users chose.
    """
    job = _job(config, out, data, force, beam)
    with job.directory.locked():
        job.audit_lists(lists, name, positives, salts)
    console.print(f"\nReport: [bold]{out / 'audits' / name / 'report.json'}[/bold]")


@app.command()
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
    job = _job(config, out, data, False, None)
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


ModelDir = Annotated[
    pathlib.Path,
    typer.Argument(
        help="Folder of a model's versions, such as `<variant>/serving/retriever`.",
        resolve_path=True,
    ),
]
Servers = Annotated[
    list[str] | None,
    typer.Option(
        "--server",
        help="`host:port` of the gRPC API of a running server; give all that read the folder, or "
        "none.",
    ),
]
Timeout = Annotated[
    float, typer.Option("--timeout", help="Seconds for the server to load a version.", min=0)
]


@app.command()
def promote(
    model: ModelDir,
    version: Annotated[
        int | None,
        typer.Option("--version", help="By default the canary, or else the newest."),
    ] = None,
    label: Annotated[
        Literal["stable", "canary"], typer.Option("--label", help="What to point to it.")
    ] = "stable",
    server: Servers = None,
    timeout: Timeout = 300.0,
    poll_seconds: Annotated[
        float,
        typer.Option(
            "--poll-seconds", help="How often a server polls `models.config`, without --server."
        ),
    ] = 30.0,
) -> None:
    """Points a label to a version, after it has answered as at its export.

    With `--server`, the servers load the version, and the label moves when all have. Without, it is
    written into `models.config` for servers that poll it; a version that is not listed there yet is
    listed first, and the command has to be run again when the servers have loaded it.
    """
    from serving import promotion
    from serving.model_server import connected

    with connected(server or [], model.name, timeout) as running:
        versions = promotion.promote(model, version, label, running, poll_seconds)
    _print_versions(versions)


@app.command()
def rollback(model: ModelDir, server: Servers = None, timeout: Timeout = 300.0) -> None:
    """Points `stable` to the version that it pointed to before."""
    from serving import promotion
    from serving.model_server import connected

    with connected(server or [], model.name, timeout) as running:
        versions = promotion.rollback(model, running)
    _print_versions(versions)


@app.command()
def versions(model: ModelDir) -> None:
    """Lists the versions of a model: where the labels point, and what is loaded."""
    from serving.versions import Versions

    _print_versions(Versions.load(model))


def _print_versions(found: Versions) -> None:
    table = Table("version", "label", "loaded", "rollback", box=SIMPLE_HEAD)
    for version in found.on_disk:
        names = [name for name, v in sorted(found.served.labels.items()) if v == version]
        loaded = "yes" if version in found.served.versions else ""
        back = "before" if version == found.before else ""
        table.add_row(str(version), ", ".join(names), loaded, back)
    console.print(table)


@app.command()
def serve(
    models: Annotated[
        pathlib.Path,
        typer.Argument(
            help="The `models.config`, or the folder that an export wrote it to: then "
            "`batching.config` and `monitoring.config` beside it are used too."
        ),
    ],
    batching: Annotated[
        pathlib.Path | None, typer.Option("--batching", help="A `batching.config`.")
    ] = None,
    monitoring: Annotated[
        pathlib.Path | None, typer.Option("--monitoring", help="A `monitoring.config`.")
    ] = None,
    no_batching: Annotated[
        bool, typer.Option("--no-batching", help="A call of the graph for every request.")
    ] = False,
    mount: Annotated[
        pathlib.Path | None,
        typer.Option(
            "--mount",
            help="What containers see as `/models`; by default the folder above that of the "
            "`models.config`.",
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    grpc_port: Annotated[int, typer.Option("--grpc-port", min=0, max=65535)] = 8500,
    rest_port: Annotated[int, typer.Option("--rest-port", min=0, max=65535)] = 8501,
    poll_seconds: Annotated[
        float, typer.Option("--poll-seconds", help="Between two looks for new versions.", min=0.05)
    ] = 2.0,
    drain_seconds: Annotated[
        float, typer.Option("--drain-seconds", help="For requests to finish at the end.", min=0)
    ] = 30.0,
    log: Annotated[
        pathlib.Path | None, typer.Option("--log", help="Folder to log served lists to.")
    ] = None,
    salts: Annotated[
        pathlib.Path | None,
        typer.Option(
            "--salts", help="Folder of the salts that users' ids are hashed with; with `--log`."
        ),
    ] = None,
) -> None:
    """Serves exported models over the API of TensorFlow Serving, gRPC and REST.

    For laptops, tests and small deployments; a TensorFlow Serving binary takes the same files.
    New versions and a changed `models.config` are taken over while it runs, without losing a
    request. It ends when it is interrupted, once the requests under way are answered.
    """
    from serving.server.command import run_server
    from serving.server.files import find_files

    log_config = _log_config(log, salts)
    files = find_files(models, batching, monitoring, mount, with_batching=not no_batching)
    try:
        run_server(
            files,
            announce=lambda text: console.print(text, soft_wrap=True),
            log_config=log_config,
            host=host,
            grpc_port=grpc_port,
            rest_port=rest_port,
            poll_seconds=poll_seconds,
            drain_seconds=drain_seconds,
        )
    except ModuleNotFoundError as error:
        raise InvalidInputError(
            f"`fairtowers serve` needs {error.name}. Install it with `pip install "
            "'fairtowers[serve]'`."
        ) from error


def _log_config(log: pathlib.Path | None, salts: pathlib.Path | None) -> LogConfig:
    from serving.log.config import LogConfig

    try:
        folders = {"directory": log, "salts": salts}
        return LogConfig.model_validate({n: str(f) for n, f in folders.items() if f})
    except ValidationError as error:
        reasons = "; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors())
        raise InvalidInputError(f"`--log` and `--salts`: {reasons}") from error


@app.command()
def doctor() -> None:
    """Prints versions, CPU features and the Keras flavour, and says what to do about problems."""
    from pipelines.doctor import examine

    findings = examine()
    table = Table("", "what", "found", "what to do", box=None, pad_edge=False)
    for finding in findings:
        mark = "[green]ok[/green]" if finding.ok else "[red]problem[/red]"
        table.add_row(mark, finding.what, finding.found, finding.advice)
    console.print(table)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(EXIT_PROBLEMS)


def main() -> None:
    """Entry point: errors that a person can fix are printed without a traceback."""
    _quiet_libraries()
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    try:
        app()
    except InvalidInputError as error:
        errors.print(f"[red]error:[/red] {_escape(str(error))}", soft_wrap=True)
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        from pipelines.file_systems import is_disk_full

        if not is_disk_full(error):
            raise
        errors.print(
            "[red]error:[/red] there is no space left on a disk that the run writes to. Free some, "
            "or give another `--out`, and run the same command again: it goes on from the last "
            "stage that was completed.",
            soft_wrap=True,
        )
        raise SystemExit(InvalidInputError.exit_code) from None


def _quiet_libraries() -> None:
    """Keeps start-up chatter off the screen; libraries are imported by the stages, later."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    warnings.filterwarnings("ignore", category=FutureWarning, module="google")
    # A run builds several models, and TensorFlow takes the graph of each for a mistake.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def _job(
    config: pathlib.Path,
    out: pathlib.Path,
    data: str | None,
    force: bool,
    beam: list[str] | None,
    examples_at: str | None = None,
) -> Run:
    return Run(load_config(config, data), out, force, beam or [], console, examples_at)


def _print_summary(report: dict[str, Any]) -> None:
    from pipelines.report.wording import summary_table

    table = Table("", "without", "with regularizer", "change", box=SIMPLE_HEAD)
    for row in summary_table(report):
        table.add_row(row.measure, row.before, row.after, row.change)
    _wide().print(table)


def _wide(columns: int = 100) -> Console:
    """A table is read in columns: rather wider than the terminal than with broken cells."""
    return Console(width=max(console.width, columns))


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
