"""The command on gates: `gate`."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from fairness_losses.errors import InvalidInputError
from pipelines.cli_app import EXPORTS_PANEL, Config, app, wide_console
from pipelines.config_file import load_config
from pipelines.gates.config import GatesConfig
from pipelines.gates.evaluate import PASSED, VERDICT, check_verdict, evaluate, read_report
from pipelines.gates.lookup import Place
from serving.whole_files import write_json


@app.command(rich_help_panel=EXPORTS_PANEL)
def gate(
    report: Annotated[
        pathlib.Path, typer.Argument(help="`report.json` of a run, or of `audit-lists`.")
    ],
    config: Config,
    previous: Annotated[
        pathlib.Path | None,
        typer.Option(
            "--previous", help="`report.json` of the last release; overrides `gates.previous`."
        ),
    ] = None,
    out: Annotated[
        pathlib.Path | None,
        typer.Option("--out", "-o", help="Of the verdict; by default beside the report."),
    ] = None,
) -> None:
    """Holds a report against the `gates` of a configuration; ends with 3 if one does not hold.

    Writes `verdict.json`: of every gate what was wanted and found, with its interval and count. A
    gate whose figure is not in the report, is withheld or undefined is `not measured`, which does
    not pass. `fairtowers promote --verdict` moves a label only with a verdict that passed.
    """
    gates = load_config(config, None).gates
    if not gates.checks:
        raise InvalidInputError(
            f"{config}: there are no gates. Give `gates.checks`, see `docs/audit.md`."
        )
    if previous is not None:
        gates = gates.model_copy(update={"previous": str(previous)})
    judge(report, gates, out or report.parent / VERDICT)


def judge(report: pathlib.Path, gates: GatesConfig, out: pathlib.Path) -> None:
    """Holds a report against gates, if there are any; writes and prints the verdict.

    Args:
        report: The `report.json`.
        gates: What has to hold.
        out: File of the verdict. One that is there, of other gates, is removed.

    Raises:
        GateError: A gate did not hold.
    """
    out.unlink(missing_ok=True)
    if not gates.checks:
        return
    verdict = evaluate(read_report(report), gates)
    write_json(verdict, out)
    print_verdict(verdict, out)


def print_verdict(verdict: Mapping[str, Any] | None, path: pathlib.Path) -> None:
    """Prints a verdict, if there is one.

    Args:
        verdict: What `evaluate` returned.
        path: File that it is in.

    Raises:
        GateError: A gate did not hold.
    """
    if verdict is None:
        return
    table = Table("gate", "found", "at", "", box=SIMPLE_HEAD)
    for one in verdict["gates"]:
        found = "" if one["found"] is None else f"{one['found']:.4g}"
        at = str(Place(**one["at"])) if one["at"] else one["reason"]
        colour = "green" if one["status"] == PASSED else "red"
        status = f"[{colour}]{one['status']}[/{colour}]"
        table.add_row(escape(one["name"]), found, escape(at), status)
    wide_console(120).print(table)
    check_verdict(verdict, path)
