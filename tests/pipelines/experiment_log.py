"""A log of an experiment, its outcomes and users, for tests."""

import datetime
import pathlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from serving.experiments.assignment import Assigner
from serving.experiments.config import Experiment

START = int(datetime.datetime(2026, 11, 2, tzinfo=datetime.timezone.utc).timestamp())
DAY = 86_400
END = START + 14 * DAY

DEFINITION = {
    "name": "fair-tower",
    "salt": "autumn",
    "arms": [
        {"name": "control", "share": 0.5, "version": 1},
        {"name": "treatment", "share": 0.5, "version": 2},
    ],
    "metrics": {
        "primary": {"kind": "mean", "name": "clicks", "value": "clicks"},
        "secondary": [
            {
                "kind": "ratio",
                "name": "clicks per list",
                "numerator": "clicks",
                "denominator": "lists",
            }
        ],
        "guardrails": [
            {"kind": "exposure", "name": "exposure", "groups": ["female"], "margin": 0.1}
        ],
    },
    "exposure": {"targets": {"female": 0.25, "male": 0.75}, "depth": 4},
    "minimum_effect": 0.1,
    "covariate_days": 7,
    "slices": ["gender"],
    "max_lists_per_day": 50,
    "start": "2026-11-02T00:00:00Z",
    "end": "2026-11-16T00:00:00Z",
}

EXPERIMENT = Experiment.model_validate(DEFINITION)


def lists(users, seconds, **changes) -> pa.Table:
    """A list of four items per user and time, in the arm that the user is assigned to."""
    number = Assigner(EXPERIMENT).numbers(users)
    names = [arm.name for arm in EXPERIMENT.arms]
    columns = {
        "list_id": [f"{u}-{s}-{i}" for i, (u, s) in enumerate(zip(users, seconds, strict=True))],
        "user_id": list(users),
        "timestamp": pa.array(np.asarray(seconds) * 10**6, pa.timestamp("us", "UTC")),
        "arm": [f"other:x;fair-tower:{names[n]}" for n in number],
        "model_version": [f"retriever/{n + 1}" for n in number],
        "candidate_ids": [["a", "b", "c", "d"]] * len(users),
        "groups": [["male", "female", "male", "unknown"]] * len(users),
        **changes,
    }
    return pa.table(columns)


def outcomes(users, seconds, clicks) -> pa.Table:
    """An outcome per user and time."""
    return pa.table(
        {
            "outcome_id": [f"o{i}" for i in range(len(users))],
            "user_id": list(users),
            "timestamp": np.asarray(seconds, np.int64),
            "clicks": np.asarray(clicks, float),
        }
    )


def write(folder: pathlib.Path, number: int = 3000, lift: float = 0.0, seed: int = 0) -> None:
    """Writes `lists.parquet`, `outcomes.parquet`, `users.parquet` and `experiment.yaml`.

    Every user has two lists and an outcome after each, and one before the start.
    """
    rng = np.random.default_rng(seed)
    users = np.array([f"u{i}" for i in range(number)])
    twice = np.tile(users, 2)
    when = START + rng.integers(14 * DAY, size=2 * number)
    served = lists(twice, when, groups=_groups(rng, 2 * number))
    arm = np.tile(Assigner(EXPERIMENT).numbers(users), 2)
    rate = np.tile(rng.gamma(2.0, 1.0, number), 2)
    clicks = rng.poisson(rate * (1 + lift * arm))
    before = rng.poisson(3 * rate[:number])
    followed = outcomes(
        [*twice, *users],
        [*np.minimum(when + 5, END - 1), *START - 1 - rng.integers(7 * DAY - 1, size=number)],
        [*clicks, *before],
    )
    pq.write_table(served, folder / "lists.parquet", row_group_size=1000)
    pq.write_table(followed, folder / "outcomes.parquet")
    gender = np.where(np.arange(number) % 3 == 0, "f", "m")
    pq.write_table(pa.table({"user_id": users, "gender": gender}), folder / "users.parquet")
    (folder / "experiment.yaml").write_text(yaml.safe_dump(DEFINITION))


def _groups(rng: np.random.Generator, number: int) -> list[list[str]]:
    drawn = np.where(rng.random((number, 4)) < 0.25, "female", "male")
    return drawn.tolist()
