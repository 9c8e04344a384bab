"""The command line: `fairtowers run`, and every stage on its own."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from fairness_losses.errors import InvalidInputError

# The imports add the commands of these modules.
from pipelines import (  # noqa: F401
    cli_experiments,
    cli_gates,
    cli_lists,
    cli_serving,
    cli_simulation,
)
from pipelines.cli_app import (
    Beam,
    Config,
    Data,
    ExamplesAt,
    Force,
    Out,
    app,
    console,
    job_of,
    wide_console,
)
from pipelines.cli_gates import print_verdict
from pipelines.gates.evaluate import VERDICT

EXIT_PROBLEMS = 4
"""Of `doctor`; errors know their own exit codes."""

errors = Console(stderr=True)


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
    job = job_of(config, out, data, force, beam, examples_at)
    with job.directory.locked():
        report = job.everything()
    _print_summary(report)
    console.print(f"\nReport: [bold]{out / 'report' / 'report.html'}[/bold]")
    print_verdict(report.get("verdict"), out / "report" / VERDICT)


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
    job = job_of(config, out, data, force, beam)
    with job.directory.locked():
        frontier = job.sweep()
    from pipelines.sweep.table import frontier_table, verdicts

    wide_console(120).print(frontier_table(frontier))
    for sentence in verdicts(frontier):
        console.print(sentence, highlight=False)
    console.print(f"\nPlot: [bold]{out / 'sweep' / 'frontier' / 'frontier.png'}[/bold]")


def _stage(name: str, help_text: str) -> None:
    """Adds the command of one stage."""

    def command(
        config: Config, out: Out, data: Data = None, force: Force = False, beam: Beam = None
    ) -> None:
        job = job_of(config, out, data, force, beam)
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
    job = job_of(config, out, data, force, beam, examples_at)
    with job.directory.locked():
        job.examples()


_stage("validate", "Checks the examples against the schema, or infers it on the first run.")
_stage("train", "Trains the model without and with the regularizer; continues where it was killed.")
_stage("index", "Embeds the catalogue and builds the index, with its recall per group.")
_stage("export", "Writes the next version of the SavedModel and asks it in a fresh process.")
_stage("audit", "Asks the exported model for lists and measures them per slice and group.")


@app.command()
def report(
    config: Config, out: Out, data: Data = None, force: Force = False, beam: Beam = None
) -> None:
    """Compares the audits in `report.json` and `report.html`, and holds them against the gates."""
    job = job_of(config, out, data, force, beam)
    with job.directory.locked():
        found = job.report()
    print_verdict(found.get("verdict"), out / "report" / VERDICT)


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


def _print_summary(report: dict[str, Any]) -> None:
    from pipelines.report.wording import summary_table

    table = Table("", "without", "with regularizer", "change", box=SIMPLE_HEAD)
    for row in summary_table(report):
        table.add_row(row.measure, row.before, row.after, row.change)
    wide_console().print(table)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
