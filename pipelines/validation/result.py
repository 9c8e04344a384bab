"""What a validation found, as the content of `validation.json`: no value of a sensitive feature."""

from __future__ import annotations

import dataclasses
import itertools
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from pipelines.config import RunConfig
from pipelines.examples.inputs import GROUP, SLICE_PREFIX
from pipelines.validation.anomalies import Anomaly
from pipelines.validation.combining import missing
from pipelines.validation.contract import is_label, known_values
from pipelines.validation.coverage import NOT_KNOWN
from pipelines.validation.feature_statistics import describe, describe_in_slice
from pipelines.validation.statistics import ALL_EXAMPLES, divisions

SCHEMA_VERSION = 1
"""Of `validation.json`; it changes when a key is renamed or removed."""

Dataset: TypeAlias = statistics_pb2.DatasetFeatureStatistics
Datasets: TypeAlias = Mapping[str, Dataset]
"""Statistics of a part by the name of their data set."""


@dataclasses.dataclass
class Findings:
    """All that a validation looked at, and what it found.

    Attributes:
        statistics: By part.
        positives: Training examples per slice and group, the content of `positives.json`.
        earlier: Statistics of the last run by part, empty if there was none.
        earlier_positives: Positives of the last run, likewise.
        schema: That the examples were held to.
        anomalies: By kind.
        drift: Distances from the last run, see `comparators.distances`.
        skew: Distances of the requests from the training examples.
    """

    statistics: dict[str, Datasets]
    positives: dict[str, Any]
    earlier: dict[str, Datasets]
    earlier_positives: dict[str, Any]
    schema: schema_pb2.Schema
    anomalies: dict[str, list[Anomaly]]
    drift: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    skew: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    @property
    def all_anomalies(self) -> list[Anomaly]:
        """Anomalies of all kinds."""
        return list(itertools.chain.from_iterable(self.anomalies.values()))


def build_result(
    config: RunConfig, findings: Findings, examples_dir: pathlib.Path
) -> dict[str, Any]:
    """Puts what a validation found into the content of `validation.json`.

    Args:
        config: The run.
        findings: What was found.
        examples_dir: What `build_examples` wrote.

    Returns:
        `schema_version`, `title`, `passed`, `anomalies` (with their `kind`), `settings`, `inputs`
        (rows of each input, and dead letters by reason), `examples` (looked at, by part), `drift`,
        `skew`, `coverage`, `missing_labels`, `features` and `slices`. What is about fewer users
        than `audit.min_users` is None.
    """
    anomalies = [
        {"kind": kind, **anomaly} for kind, found in findings.anomalies.items() for anomaly in found
    ]
    counts = json.loads((examples_dir / "counts.json").read_text(encoding="utf-8"))
    everything = {part: found[ALL_EXAMPLES] for part, found in findings.statistics.items()}
    settings = config.validation.model_dump(exclude={"schema_path", "serving_path"})
    return {
        "schema_version": SCHEMA_VERSION,
        "title": config.name,
        "passed": not anomalies,
        "anomalies": anomalies,
        "settings": {**settings, "min_users": config.audit.min_users},
        "inputs": counts,
        "examples": {part: found.num_examples for part, found in everything.items()},
        "compared_with_last_run": bool(findings.earlier),
        "drift": findings.drift,
        "skew": findings.skew,
        "coverage": _coverage(findings, config),
        "missing_labels": _missing_labels(findings, config),
        "features": {
            name: describe(name, everything, findings.schema, config)
            for name in sorted(
                missing(everything["train"]), key=lambda name: (is_label(name), name)
            )
        },
        "slices": _slices(findings, config),
    }


def _coverage(findings: Findings, config: RunConfig) -> dict[str, Any]:
    """Per slice and value: users, training examples, their share, that of the last run, groups."""
    return {
        name: {
            value: _covered(cell, cells, findings.earlier_positives.get(name, {}), value, config)
            for value, cell in cells.items()
        }
        for name, cells in findings.positives.items()
    }


def _covered(
    cell: Mapping[str, Any],
    cells: Mapping[str, Any],
    earlier: Mapping[str, Any],
    value: str,
    config: RunConfig,
) -> dict[str, Any] | None:
    few = config.audit.min_users
    if cell["users"] < few:
        return None
    before = earlier.get(value, {"users": 0})
    return {
        "users": cell["users"],
        "examples": _examples(cell),
        "share": _share(cell, cells),
        "share_before": _share(before, earlier) if before["users"] >= few else None,
        "groups": cell["positives"],
    }


def _examples(cell: Mapping[str, Any]) -> int:
    return sum(cell["positives"].values())


def _share(cell: Mapping[str, Any], cells: Mapping[str, Any]) -> float:
    return round(_examples(cell) / max(sum(map(_examples, cells.values())), 1), 6)


def _missing_labels(findings: Findings, config: RunConfig) -> list[dict[str, Any]]:
    """Training examples whose group or slice nobody stated: of all, and in every group and slice.

    A number is None where the examples without the label are of too few users.
    """
    features = dict.fromkeys(f for _, features in divisions(config) for f in features)
    return [
        {
            "division": division,
            "value": value,
            "examples": dataset.num_examples,
            "missing": {label: missing(dataset)[label] for label in features},
        }
        for division, value, dataset in _named(findings)
        if dataset is not None
    ]


def _slices(findings: Findings, config: RunConfig) -> list[dict[str, Any]]:
    """What may be told of every feature in every group and slice of training."""
    whole = findings.statistics["train"][ALL_EXAMPLES]
    return [
        {
            "division": division,
            "value": value,
            "examples": dataset and dataset.num_examples,
            "features": dataset and describe_in_slice(dataset, whole, findings.schema, config),
        }
        for division, value, dataset in _named(findings)
    ]


def _named(findings: Findings) -> Iterator[tuple[str, str, Dataset | None]]:
    """Division, value and statistics; all examples first, None where users are too few."""
    train, known = findings.statistics["train"], known_values(findings.schema, GROUP)
    yield "", "", train[ALL_EXAMPLES]
    for key, dataset in train.items():
        group = key.removeprefix(f"{GROUP}_")
        if group != key and (known is None or group in known):
            yield GROUP, group, dataset
    for name, cells in findings.positives.items():
        for value in (v for v in cells if v != NOT_KNOWN):
            yield name, value, train.get(f"{SLICE_PREFIX}{name}_{value}")
