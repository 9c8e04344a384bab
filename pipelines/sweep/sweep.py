"""The sweep: brings every point up to date, one stage after the other, and draws the frontier."""

from __future__ import annotations

import functools
import json
import pathlib
from collections.abc import Callable
from typing import Any

import pyarrow.parquet as pq
from rich.console import Console

from fairness_losses.config import UNKNOWN, FairnessConfig
from fairness_losses.errors import DivergedError, InvalidInputError
from pipelines.config import RunConfig
from pipelines.run_directory import RECORD
from pipelines.sweep.config import SweepConfig
from pipelines.sweep.frontier import frontier, write_frontier
from pipelines.sweep.measuring import Measuring
from pipelines.sweep.points import Point, points_of
from pipelines.variant import BASELINE, model_settings, variant_fairness
from towers.building import build_regularizer
from towers.training_data import TrainingData

FOLDER = "sweep"


class Sweep:
    """All points of a sweep, in a run directory whose examples are there.

    Args:
        config: The run configuration.
        sweep: Its sweep.
        root: The run directory.
        build: Brings a stage up to date, as `pipelines.run` does it.
        train: Trains a model: its name, its settings, its folder.
        console: Where progress is shown.
    """

    def __init__(
        self,
        config: RunConfig,
        sweep: SweepConfig,
        root: pathlib.Path,
        build: Callable[..., None],
        train: Callable[[str, FairnessConfig, pathlib.Path], dict[str, Any]],
        console: Console,
    ) -> None:
        self._config = config
        self._sweep = sweep
        self._root = root
        self._build = build
        self._train = train
        self._console = console
        self._is_checked = False
        fairness = variant_fairness(config, config.fairness.regularizer)
        self._without = variant_fairness(config, BASELINE)
        self._points = points_of(sweep, fairness, BASELINE)
        self._measuring = Measuring(
            config, sweep, root / "examples", root / self._model(self._points[0])
        )

    def everything(self) -> dict[str, Any]:
        """Brings all points and the frontier up to date and returns the frontier.

        Raises:
            InvalidInputError: No item is of the sweep's group, or a point's settings are wrong.
        """
        self._check_group()
        for point in self._points:
            if point.kind in ("baseline", "regularizer"):
                self._build_model(point)
            self._build_result(point)
        results = [_result_stage(point) for point in self._points]
        self._build(f"{FOLDER}/frontier", [self._config.name, self._sweep], results, self._draw)
        path = self._root / FOLDER / "frontier" / "frontier.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return found

    def _build_model(self, point: Point) -> None:
        fairness = point.fairness or self._without
        self._build(
            self._model(point),
            model_settings(self._config, fairness),
            ["examples"],
            functools.partial(self._train_checked, point, fairness),
            resumes=True,
        )
        for unmet in self._said(point).get("unmet", []):
            self._console.print(f"[yellow]constraint not met:[/yellow] {unmet}")

    def _build_result(self, point: Point) -> None:
        config = self._config
        model = self._model(point)
        settings: list[object] = [
            config.audit,
            config.slices,
            config.fairness.target,
            config.training.evaluation_users,
            config.seed,
        ]
        if point.fairness is None:
            settings += [point.kind, point.strength, self._sweep.group, self._sweep.bonus_by]

        def write(out: pathlib.Path) -> dict[str, Any]:
            diverged = self._said(point).get("diverged", False)
            result = {} if diverged else self._measuring.result(point, self._root / model)
            text = json.dumps(result, ensure_ascii=False, indent=1)
            (out / "result.json").write_text(text, encoding="utf-8")
            return {"diverged": not result}

        # The change is against the baseline, whichever model was measured.
        inputs = dict.fromkeys(["examples", self._model(self._points[0]), model])
        self._build(_result_stage(point), settings, list(inputs), write)

    def _model(self, point: Point) -> str:
        """The stage of the model that a point's lists come from."""
        # The model without a regularizer is that of `fairtowers train`: it is not trained twice.
        own = point.kind == "regularizer"
        return f"{FOLDER}/{point.name}/model" if own else f"{BASELINE}/model"

    def _said(self, point: Point) -> dict[str, Any]:
        """What the training of a point's model has to say."""
        path = self._root / self._model(point) / RECORD
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["result"]
        return said

    def _train_checked(
        self, point: Point, fairness: FairnessConfig, out: pathlib.Path
    ) -> dict[str, Any]:
        self._check_points()
        trained = [p for p in self._points if p.kind in ("baseline", "regularizer")]
        self._console.print(f"[dim]model {trained.index(point) + 1} of {len(trained)}[/dim]")
        variant = self._model(point).removesuffix("/model")
        try:
            return self._train(variant, fairness, out)
        except DivergedError:
            # Too large a weight is a finding; without the baseline there is nothing to compare.
            if point.kind == "baseline":
                raise
            return {"diverged": True}

    def _draw(self, out: pathlib.Path) -> dict[str, Any]:
        results = []
        for point in self._points:
            path = self._root / _result_stage(point) / "result.json"
            results.append((point, json.loads(path.read_text(encoding="utf-8"))))
        write_frontier(frontier(results, self._config, self._sweep), out)
        return {"points": len(results)}

    def _check_group(self) -> None:
        catalogue = pq.read_table(self._root / "examples" / "catalogue.parquet", columns=["group"])
        group, target = self._sweep.group, self._config.fairness.target
        if group not in catalogue["group"].to_pylist():
            raise InvalidInputError(f"`sweep.group`: no item is of the group `{group}`.")
        if group == UNKNOWN and not target.include_unknown:
            raise InvalidInputError(
                "`sweep.group`: `unknown` has no target, so its exposure has no ratio. Choose "
                "another group, or set `fairness.target.include_unknown: true`."
            )

    def _check_points(self) -> None:
        """Makes every regularizer once, before the first training: none should err after hours."""
        if self._is_checked:
            return
        self._is_checked = True
        config = self._config
        data = TrainingData.load(config.model, self._root / "examples")
        for point in self._points:
            if point.fairness is None:
                continue
            try:
                build_regularizer(point.fairness, config.training, data)
            except InvalidInputError as error:
                raise InvalidInputError(f"`{point.line}` of `sweep.points`: {error}") from error


def _result_stage(point: Point) -> str:
    return f"{FOLDER}/{point.name}/result"
