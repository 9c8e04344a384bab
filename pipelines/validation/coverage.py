"""Training examples per slice of the users and group of the items: whether they are enough."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tensorflow_metadata.proto.v0 import schema_pb2

from fairness_losses.config import UNKNOWN
from fairness_losses.errors import InvalidInputError
from pipelines.config import SliceConfig
from pipelines.examples.inputs import GROUP, SLICE_PREFIX
from pipelines.validation.anomalies import Anomaly
from pipelines.validation.contract import known_values

POSITIVES = "positives.json"
"""Name of the file of training examples per slice and group."""

NOT_KNOWN = "not in the schema"
"""Stands for labels that the schema does not know."""


def read_positives(path: pathlib.Path) -> dict[str, Any]:
    """Reads the training examples per slice and group.

    Raises:
        InvalidInputError: The file is missing.
    """
    if not path.is_file():
        raise InvalidInputError(f"{path} is missing. Run `fairtowers examples --force`.")
    positives: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return positives


def with_known_labels(
    positives: Mapping[str, Any], schema: schema_pb2.Schema, slices: Sequence[SliceConfig]
) -> dict[str, Any]:
    """Puts groups and values of slices that the schema does not know together under one name.

    What nobody has expected may be anything, a person's name even, and is not told.

    Args:
        positives: The content of `positives.json`.
        schema: With the values of the labels that it knows.
        slices: The divisions of the users.
    """
    columns = {cut.name: cut.cross or [cut.name] for cut in slices}
    groups = known_values(schema, GROUP)
    known: dict[str, Any] = {}
    for name, cells in positives.items():
        domains = [known_values(schema, SLICE_PREFIX + column) for column in columns[name]]
        known[name] = {}
        for value, cell in cells.items():
            parts = value.split(" × ") if len(domains) > 1 else [value]
            told = len(parts) == len(domains) and all(map(_is_known, parts, domains))
            into = known[name].setdefault(
                value if told else NOT_KNOWN, {"users": 0, "positives": {}}
            )
            into["users"] += cell["users"]
            counts = into["positives"]
            for group, count in cell["positives"].items():
                label = group if _is_known(group, groups) else NOT_KNOWN
                counts[label] = counts.get(label, 0) + count
    return known


def _is_known(value: str, domain: Collection[str] | None) -> bool:
    return domain is None or value in domain


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
