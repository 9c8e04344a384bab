"""Writes what the commands on experiments found."""

from __future__ import annotations

import dataclasses
import datetime
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from fairness_losses.errors import InvalidInputError
from pipelines.experiments.observe import observe
from pipelines.experiments.page import render
from serving.experiments.analysis import analyze
from serving.experiments.config import Experiment
from serving.experiments.planning import Need
from serving.whole_files import write_json, write_text


@dataclasses.dataclass(frozen=True)
class Sources:
    """Where observations are read from, see `observe`.

    Attributes:
        lists: Path or glob of the log.
        outcomes: Path or glob of the outcomes.
        users: Users table.
        salts: Folder of salts.
    """

    lists: str
    outcomes: str | None
    users: pathlib.Path | None
    salts: pathlib.Path | None


def write_plan(experiment: Experiment, needs: Sequence[Need], path: pathlib.Path) -> None:
    """Writes a plan, which says what was fixed before the launch."""
    content = {
        "name": experiment.name,
        "fingerprint": experiment.fingerprint(),
        "needs": [dataclasses.asdict(need) for need in needs],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(content, path)


def check_plan(experiment: Experiment, path: pathlib.Path) -> None:
    """Checks that an experiment is still the one that was planned.

    Raises:
        InvalidInputError: It is another, or the file is no plan.
    """
    try:
        planned = json.loads(path.read_text(encoding="utf-8"))["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"{path}: this is no plan. Give what `fairtowers experiment plan --out` wrote."
        ) from error
    if planned != experiment.fingerprint():
        raise InvalidInputError(
            f"{path}: `{experiment.name}` is not as it was planned (fingerprint "
            f"{experiment.fingerprint()}, planned {planned}). Only `traffic` may change after the "
            "launch. Restore the definition, or plan and launch another experiment."
        )


def write_analysis(
    experiment: Experiment, sources: Sources, at: datetime.datetime, out: pathlib.Path
) -> dict[str, Any]:
    """Analyses an experiment and writes `experiment.json` and `experiment.html`.

    Args:
        experiment: What to analyse.
        sources: Where to read.
        at: When it is looked at.
        out: Folder, made if it is not there.

    Returns:
        The content of `experiment.json`: what `analyze` returned, and `counts` of what became of
        every row.

    Raises:
        InvalidInputError: A file cannot be used.
    """
    seen, counts = observe(experiment, **vars(sources))
    result: Mapping[str, Any] = {**analyze(experiment, seen, at), "counts": counts}
    out.mkdir(parents=True, exist_ok=True)
    write_json(result, out / "experiment.json")
    write_text(render(result), out / "experiment.html")
    return dict(result)


def past_of(experiment: Experiment, start: datetime.datetime) -> Experiment:
    """Returns the experiment as if everybody had been in it at an earlier time.

    Args:
        experiment: As it is planned.
        start: Of the time that observations are from, which is as long as the experiment.
    """
    length = experiment.end - experiment.start
    return experiment.model_copy(
        update={"start": start, "end": start + length, "traffic": 1.0, "layer": None}
    )
