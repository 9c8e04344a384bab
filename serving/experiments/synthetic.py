"""Users to simulate experiments with, where there is no log."""

from __future__ import annotations

import numpy as np

from serving.experiments.config import Experiment
from serving.experiments.metrics import LISTS, OUTCOMES
from serving.experiments.observations import Observations

_SHARES = (0.5, 0.3, 0.2)
"""Of the values of every slice in a synthetic population."""


def synthetic_users(experiment: Experiment, number: int, rng: np.random.Generator) -> Observations:
    """Draws users who differ from each other and come on all days of an experiment.

    Activity differs between users as a gamma distribution (shape 2), and outcomes are Poisson
    given it, before the start as well. Groups' shares of exposure are Dirichlet around the targets.

    Args:
        experiment: With metrics, slices and length.
        number: Of users.
        rng: Source of everything random.
    """
    days = experiment.days
    activity = rng.gamma(2.0, 0.5, number)
    arrived = rng.integers(days, size=number)
    present = np.arange(days) < (days - arrived)[:, None]
    daily = {LISTS: (1 + rng.poisson(activity[:, None], (number, days))) * present}
    daily |= {
        column: rng.poisson(0.3 * daily[LISTS] * activity[:, None])
        for column in sorted({*experiment.columns, OUTCOMES})
    }
    daily = {column: values.astype(np.float64) for column, values in daily.items()}
    totals = {column: values.sum(axis=1) for column, values in daily.items()}
    before = {}
    if experiment.covariate_days:
        rate = 0.3 * experiment.covariate_days * activity * (1 + activity)
        before = {c: rng.poisson(rate).astype(np.float64) for c in daily if c != LISTS}
    return Observations(
        arm=np.zeros(number, np.int64),
        totals=totals,
        before=before,
        exposure=_synthetic_exposure(experiment, totals[LISTS], rng),
        slices={
            column: rng.choice([f"{column} {i + 1}" for i in range(3)], number, p=_SHARES)
            for column in experiment.slices
        },
        arrived=arrived,
        followed=days - arrived,
        daily=daily,
    )


def _synthetic_exposure(
    experiment: Experiment, lists: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    if experiment.exposure is None:
        return np.zeros((len(lists), 0))
    targets = np.array(list(experiment.exposure.targets.values()))
    shares = rng.dirichlet(10 * targets / targets.sum(), len(lists))
    return shares * lists[:, None]
