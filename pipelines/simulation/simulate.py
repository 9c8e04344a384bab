"""All arms and seeds, what they come to, and the plot."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.config import fingerprint
from pipelines.run_directory import RunDirectory
from pipelines.simulation.config import ArmConfig, SimulationConfig
from pipelines.simulation.figures import summarise
from pipelines.simulation.loop import simulate_arm
from pipelines.simulation.plot import plot_rounds

RESULT, PLOT = "result.json", "simulation.png"
_ROWS = "rounds.json"


def simulate(
    config: SimulationConfig, out: pathlib.Path, force: bool = False, console: Console | None = None
) -> dict[str, Any]:
    """Simulates whatever is not up to date, one arm and seed after the other.

    Args:
        config: The simulation.
        out: Receives `arms/<arm>/seed-<n>/rounds.json`, and in `result` `result.json` and
            `simulation.png`. An arm and seed that is complete is not simulated again; one that was
            interrupted begins anew.
        force: Whether to simulate everything again.
        console: Where progress is shown; nowhere by default.

    Returns:
        The content of `result.json`: `name`, `seeds`, `confidence`, and the `summary` of
        `figures.summarise`.
    """
    console = console or Console(quiet=True)
    directory = RunDirectory(out, force)
    seeds = range(config.seed, config.seed + config.seeds)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with directory.locked(), bar:
        task = bar.add_task("rounds", total=config.rounds * len(seeds) * len(config.arms))
        # Seed by seed, so that arms can be compared before all is done.
        for number, seed in enumerate(seeds):
            for place, (name, arm) in enumerate(config.arms.items()):
                over = config.rounds * (number * len(config.arms) + place)

                def show(rounds: int, over: int = over) -> None:
                    bar.update(task, completed=over + rounds)

                show(0)
                stage = _stage(name, seed)
                settings = [_common(config), arm, seed]
                if directory.is_current(stage, settings, {}) and not force:
                    console.print(f"{stage:<42} [dim]up to date[/dim]", highlight=False)
                    continue
                record = directory.build(stage, settings, {}, _writer(config, arm, seed, show))
                console.print(
                    f"{stage:<42} [green]done[/green] in {record.seconds:.0f} s", highlight=False
                )
        return _finish(config, list(seeds), directory)


def _writer(
    config: SimulationConfig, arm: ArmConfig, seed: int, show: Callable[[int], None]
) -> Callable[[pathlib.Path], dict[str, Any]]:
    def write(folder: pathlib.Path) -> dict[str, Any]:
        rows = simulate_arm(config, arm, seed, show)
        (folder / _ROWS).write_text(json.dumps(rows, indent=1), encoding="utf-8")
        return {"rounds": len(rows)}

    return write


def _finish(config: SimulationConfig, seeds: list[int], directory: RunDirectory) -> dict[str, Any]:
    stages = [_stage(name, seed) for name in config.arms for seed in seeds]
    inputs = {stage: directory.required(stage, "simulate").fingerprint for stage in stages}

    def write(folder: pathlib.Path) -> dict[str, Any]:
        rows = {
            name: [_read(directory.path(_stage(name, seed)) / _ROWS) for seed in seeds]
            for name in config.arms
        }
        result = {
            "name": config.name,
            "seeds": seeds,
            "confidence": config.confidence,
            "summary": summarise(rows, config.confidence),
        }
        (folder / RESULT).write_text(json.dumps(result, indent=1), encoding="utf-8")
        plot_rounds(result, folder / PLOT)
        return {"arms": list(config.arms)}

    directory.build("result", [config.name, config.confidence], inputs, write)
    return _read(directory.path("result") / RESULT)


def _common(config: SimulationConfig) -> str:
    """What the rounds of every arm depend on."""
    others = {"name", "seed", "seeds", "confidence", "arms"}
    return fingerprint(config.model_dump(mode="json", exclude=others))


def _stage(arm: str, seed: int) -> str:
    return f"arms/{arm}/seed-{seed}"


def _read(path: pathlib.Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
