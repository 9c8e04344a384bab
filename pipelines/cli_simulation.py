"""The command of the closed loop: `simulate`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from pipelines.cli_app import EXPERIMENTS_PANEL, Config, Force, Out, app, console, wide_console

_FIGURES = {
    "utility": "clicks per list",
    "exposure[held_back]": "exposure, held back",
    "supply[held_back]": "items, held back",
    "supply[others]": "items, others",
}


@app.command(rich_help_panel=EXPERIMENTS_PANEL)
def simulate(config: Config, out: Out, force: Force = False) -> None:
    """Shows what regularizers and policies do over time, on a marketplace whose truth is known.

    Round after round a model is trained on what was clicked, lists are served, users click by the
    truth and by the place, creators whom nobody sees leave and new ones come. The configuration is
    not that of a run: see `configs/simulation.yaml` and `docs/simulation.md`.

    Prints the last round, and writes `result.json` and `simulation.png` into `result`. A simulation
    that was stopped goes on with the arm and seed where it was.
    """
    from pipelines.config_file import load_settings
    from pipelines.simulation.config import SimulationConfig
    from pipelines.simulation.simulate import PLOT
    from pipelines.simulation.simulate import simulate as run_all

    result = run_all(load_settings(config, SimulationConfig), out, force, console)
    wide_console(120).print(_last_round(result["summary"]))
    console.print(f"Plot: [bold]{out / 'result' / PLOT}[/bold]")


def _last_round(summary: Mapping[str, Any]) -> Table:
    first = next(iter(summary))
    table = Table("last round", *_FIGURES.values(), box=SIMPLE_HEAD)
    table.caption = f"in brackets: the interval, and of the others that of the change from {first}"
    for arm, figures in summary.items():
        table.add_row(arm, *(_cell(figures[name][-1]) for name in _FIGURES))
    return table


def _cell(entry: Mapping[str, Any]) -> str:
    if (change := entry.get("change")) is None:
        return f"{entry['value']:.2f} ({entry['low']:.2f} to {entry['high']:.2f})"
    return f"{entry['value']:.2f} ({change['low']:+.2f} to {change['high']:+.2f})"
