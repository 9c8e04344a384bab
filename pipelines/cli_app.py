"""What all commands share: the program, its options and where it prints."""

from __future__ import annotations

import pathlib
from typing import Annotated

import typer
from rich.console import Console

from pipelines.config_file import load_config
from pipelines.run import Run

EXPORTS_PANEL, EXPERIMENTS_PANEL = "Exported models", "Experiments"
"""Headings of the help that commands of several modules stand under."""

app = typer.Typer(
    name="fairtowers",
    help=(
        "Candidate retrieval that is relevant and fair. `fairtowers run` goes from interaction "
        "logs to an audit report; its stages run on their own, too. What is up to date is "
        "skipped.\n\nExit codes: 0 done, 2 an input or setting is wrong, 3 the data broke its "
        "schema, an index or a gate did not hold, 4 `doctor` found a problem."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
console = Console()

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


def job_of(
    config: pathlib.Path,
    out: pathlib.Path,
    data: str | None,
    force: bool,
    beam: list[str] | None,
    examples_at: str | None = None,
) -> Run:
    """Returns the run that the options of a command describe."""
    return Run(load_config(config, data), out, force, beam or [], console, examples_at)


def wide_console(columns: int = 100) -> Console:
    """A table is read in columns: rather wider than the terminal than with broken cells."""
    return Console(width=max(console.width, columns))
