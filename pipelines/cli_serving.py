"""The commands on exported models: `serve`, `promote`, `rollback` and `versions`."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from fairness_losses.errors import InvalidInputError
from pipelines.cli_app import EXPORTS_PANEL, app, console
from pipelines.gates.promotion import promotable

if TYPE_CHECKING:
    from serving.versions import Versions


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


@app.command(rich_help_panel=EXPORTS_PANEL)
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
    verdict: Annotated[
        pathlib.Path | None,
        typer.Option(
            "--verdict",
            help="`verdict.json` of an audit of the version: labels move only if all gates held.",
        ),
    ] = None,
) -> None:
    """Points a label to a version, after it has answered as at its export.

    With `--server`, the servers load the version, and the label moves when all have. Without, it is
    written into `models.config` for servers that poll it; a version that is not listed there yet is
    listed first, and the command has to be run again when the servers have loaded it. With
    `--verdict` it is the version that the verdict is about, and a gate that did not hold ends the
    command with 3.
    """
    from serving import promotion
    from serving.model_server import connected

    if verdict is not None:
        version = promotable(verdict, model.name, version)
    with connected(server or [], model.name, timeout) as running:
        versions = promotion.promote(model, version, label, running, poll_seconds)
    _print_versions(versions)


@app.command(rich_help_panel=EXPORTS_PANEL)
def rollback(model: ModelDir, server: Servers = None, timeout: Timeout = 300.0) -> None:
    """Points `stable` to the version that it pointed to before."""
    from serving import promotion
    from serving.model_server import connected

    with connected(server or [], model.name, timeout) as running:
        versions = promotion.rollback(model, running)
    _print_versions(versions)


@app.command(rich_help_panel=EXPORTS_PANEL)
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


@app.command(rich_help_panel=EXPORTS_PANEL)
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
    config: Annotated[
        pathlib.Path | None,
        typer.Option(
            "--config",
            "-c",
            help="YAML of a run, whose `serving.log` says where served lists are logged; without "
            "it they are not.",
        ),
    ] = None,
) -> None:
    """Serves exported models over the API of TensorFlow Serving, gRPC and REST.

    For laptops, tests and small deployments; a TensorFlow Serving binary takes the same files.
    New versions and a changed `models.config` are taken over while it runs, without losing a
    request. It ends when it is interrupted, once the requests under way are answered.
    """
    from pipelines.config_file import load_config
    from serving.log.config import LogConfig
    from serving.server.command import run_server
    from serving.server.files import find_files

    log_config = load_config(config, None).serving.log if config else LogConfig()
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
