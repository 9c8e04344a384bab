"""Training examples per slice of the users and group of the items: whether they are enough."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from fairness_losses.config import UNKNOWN
from fairness_losses.errors import InvalidInputError
from pipelines.examples.inputs import SLICE_PREFIX
from pipelines.validation.anomalies import Anomaly

POSITIVES = "positives.json"
"""Name of the file of training examples per slice and group."""


def read_positives(path: pathlib.Path) -> dict[str, Any]:
    """Reads the training examples per slice and group.

    Raises:
        InvalidInputError: The file is missing.
    """
    if not path.is_file():
        raise InvalidInputError(f"{path} is missing. Run `fairtowers examples --force`.")
    positives: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return positives


def short_of_positives(positives: Mapping[str, Any], min_positives: int) -> Iterator[Anomaly]:
    """Finds groups that a slice of the users has too few training examples of.

    Args:
        positives: The content of `positives.json`.
        min_positives: How many there should be; there may be fewer of `unknown`.

    Yields:
        An anomaly for every group and slice. It says no number, since it may be one of few users.
    """
    for name, cells in positives.items():
        for value, cell in cells.items():
            for group, count in cell["positives"].items():
                if count < min_positives and UNKNOWN not in (group, *value.split(" × ")):
                    problem = f"{value}: fewer than {min_positives:,} examples of group {group}"
                    yield {"feature": f"{SLICE_PREFIX}{name}", "part": "train", "problem": problem}


def shown(positives: Mapping[str, Any], min_users: int) -> dict[str, Any]:
    """Returns examples per slice and group; None for a slice of too few users to be shown.

    Args:
        positives: The content of `positives.json`.
        min_users: Fewer users are too few.
    """
    return {
        name: {
            value: cell["positives"] if cell["users"] >= min_users else None
            for value, cell in cells.items()
        }
        for name, cells in positives.items()
    }
