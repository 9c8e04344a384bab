"""A small experiment, and users of it, for tests."""

import numpy as np

from serving.experiments.config import Experiment
from serving.experiments.observations import Observations

START = "2026-11-02T00:00:00Z"


def experiment(**changes) -> Experiment:
    """Two arms of a half each, a mean as the primary metric, two weeks."""
    return Experiment.model_validate(
        {
            "name": "fair-tower",
            "salt": "autumn",
            "arms": [
                {"name": "control", "share": 0.5, "label": "stable"},
                {"name": "treatment", "share": 0.5, "label": "canary"},
            ],
            "metrics": {"primary": {"kind": "mean", "name": "clicks", "value": "clicks"}},
            "minimum_effect": 0.02,
            "start": START,
            "end": "2026-11-16T00:00:00Z",
            **changes,
        }
    )


def guarded(**changes) -> Experiment:
    """The same with a guardrail on the exposure of women, per gender of the users."""
    return experiment(
        metrics={
            "primary": {"kind": "mean", "name": "clicks", "value": "clicks"},
            "guardrails": [
                {"kind": "exposure", "name": "exposure", "groups": ["female"], "margin": 0.05}
            ],
        },
        exposure={"targets": {"female": 0.25, "male": 0.75}},
        slices=["gender"],
        **changes,
    )


def users(arm, **changes) -> Observations:
    """Observations of users who all clicked once, unless something else is said."""
    arm = np.asarray(arm)
    number = len(arm)
    return Observations(
        **{
            "arm": arm,
            "totals": {"clicks": np.ones(number), "lists": np.ones(number)},
            "before": {},
            "exposure": np.tile([0.25, 0.75], (number, 1)),
            "slices": {},
            "arrived": np.zeros(number, int),
            "followed": np.full(number, 14),
            "daily": {"clicks": np.ones((number, 14))},
            **changes,
        }
    )
