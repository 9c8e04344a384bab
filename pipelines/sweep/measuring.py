"""What every point of a sweep comes to, on the exact lists of the validation users."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from fairness_losses.errors import InvalidInputError
from fairness_losses.exposure import exposure_ratio
from pipelines.audit.figures import Measurement, audit, compare
from pipelines.config import RunConfig, SliceConfig
from pipelines.slicing import divide
from pipelines.sweep.bonus import tune_bonuses, with_bonus
from pipelines.sweep.config import SweepConfig
from pipelines.sweep.points import Point
from pipelines.sweep.validation_lists import ValidationLists, Vectors
from towers.audience import Audience
from towers.config import USER_ID


class Measuring:
    """Measures points against the model without a regularizer; data are read when first needed.

    Args:
        config: The run configuration.
        sweep: Its sweep.
        examples: Folder that the examples pipeline wrote.
        baseline: Folder of the model without a regularizer.
    """

    def __init__(
        self, config: RunConfig, sweep: SweepConfig, examples: pathlib.Path, baseline: pathlib.Path
    ) -> None:
        self._config = config
        self._sweep = sweep
        self._examples = examples
        self._baseline_model = baseline

    def result(self, point: Point, model: pathlib.Path) -> dict[str, Any]:
        """Returns what a point comes to, as JSON values.

        Args:
            point: The point.
            model: Folder of its model; a bonus is added to the one without a regularizer.

        Returns:
            `audit` and `change`, as `pipelines.audit.figures.audit` and `compare` return them
            (`change` is None for the baseline); `bonuses`, by slice, where they were tuned. Of a
            model whose vectors are not finite, nothing.
        """
        bonuses: dict[str, float] = {}
        if point.kind == "regularizer":
            vectors = self._lists.vectors(model)
        elif point.kind == "bonus":
            vectors = self._boosted(np.full(len(self._lists.users), point.strength))
        elif point.kind == "bonus_per_slice":
            vectors, bonuses = self._tuned(point.strength)
        else:
            vectors = self._vectors
        if not _are_finite(vectors):
            return {}
        measured = self._lists.measure(vectors, {"variant": point.name})
        change = None
        if point.kind != "baseline":
            change = compare(self._baseline, measured, self._config)
        found = {"audit": audit(measured, self._config), "change": change}
        return {**found, "bonuses": bonuses} if bonuses else found

    @functools.cached_property
    def _lists(self) -> ValidationLists:
        return ValidationLists.read(self._config, self._examples)

    @functools.cached_property
    def _vectors(self) -> Vectors:
        """Of the model without a regularizer."""
        vectors = self._lists.vectors(self._baseline_model)
        if not _are_finite(vectors):
            raise InvalidInputError(
                "the training without a regularizer diverged, so there is nothing to compare with: "
                "lower `training.learning_rate`."
            )
        return vectors

    @functools.cached_property
    def _baseline(self) -> Measurement:
        return self._lists.measure(self._vectors, {"variant": "baseline"})

    @property
    def _group(self) -> int:
        return self._baseline.layout.groups.labels.index(self._sweep.group)

    def _boosted(self, bonus: np.ndarray) -> Vectors:
        """The baseline with a bonus per user, `[num_users]`, for the group's items."""
        in_group = self._baseline.layout.groups.membership[:, self._group]
        return with_bonus(*self._vectors, bonus, in_group)

    def _tuned(self, wanted: float) -> tuple[Vectors, dict[str, float]]:
        """The baseline with a bonus per slice that brings each slice to the wanted ratio."""
        names, who = self._slices()
        longest = [np.linalg.norm(part, axis=1).max() for part in self._vectors]
        reach = 2 * float(longest[0] * longest[1])
        bonuses = tune_bonuses(self._ratios(who), wanted, len(names), reach)
        enough = who.sum(axis=0) >= self._config.audit.min_users
        told = {
            name: round(float(bonus), 4)
            for name, bonus, told in zip(names, bonuses, enough, strict=True)
            if told
        }
        return self._boosted(who @ bonuses), told

    def _slices(self) -> tuple[list[str], np.ndarray]:
        """Names of the slices of `bonus_by`, and float `[num_users, num_slices]`, one each."""
        users, columns = self._lists.users, self._sweep.bonus_by
        cuts = [SliceConfig(column=column) for column in columns]
        if len(cuts) > 1:
            cuts.append(SliceConfig(cross=columns))
        cells = divide(users[USER_ID].combine_chunks(), users, cuts)
        values = cells.slices[cuts[-1].name]
        who = np.zeros((len(users), len(values)))
        for column, rows in enumerate(values.values()):
            who[rows, column] = 1.0
        return list(values), who

    def _ratios(self, who: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        """The group's exposure ratio in every slice, of the bonuses of the slices."""
        layout = self._baseline.layout
        audience = Audience(columns={}, slices=who, seen=self._lists.seen)
        depth = min(max(self._config.audit.ks), len(self._lists.catalogue))

        def ratios(bonuses: np.ndarray) -> np.ndarray:
            exposure = audience.exposure(*self._boosted(who @ bonuses), layout.groups, depth)
            return exposure_ratio(exposure, layout.target)[:, self._group]

        return ratios


def _are_finite(vectors: Vectors) -> bool:
    return all(np.isfinite(part).all() for part in vectors)
