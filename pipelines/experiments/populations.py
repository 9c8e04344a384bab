"""Users that experiments are simulated with."""

from __future__ import annotations

import datetime

import numpy as np

from fairness_losses.errors import InvalidInputError
from pipelines.experiments.observe import observe
from pipelines.experiments.results import Sources, past_of
from serving.experiments.config import Experiment
from serving.experiments.simulation import Population
from serving.experiments.synthetic import synthetic_users


def synthetic(experiment: Experiment, users: int, seed: int) -> Population:
    """Returns other synthetic users for every simulation."""
    return lambda run: synthetic_users(experiment, users, np.random.default_rng([seed, run]))


def of_a_log(
    experiment: Experiment, since: datetime.datetime | None, sources: Sources
) -> Population:
    """Returns the users of a log, the same for every simulation.

    Args:
        experiment: Whose metrics are looked at.
        since: First moment of the log to look at, with a time zone.
        sources: The log.

    Raises:
        InvalidInputError: There is no `since`, or nobody then.
    """
    if since is None:
        raise InvalidInputError("`--from`, the first moment of the log to look at, is needed.")
    seen, _ = observe(past_of(experiment, since), **vars(sources), replay=True)
    if not len(seen.arm):
        raise InvalidInputError(f"`--lists`: there is no list since {since.isoformat()}.")
    return lambda run: seen
