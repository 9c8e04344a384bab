"""The main job on a marketplace of 3,000 interactions, and how to look at what it made."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
from typing import Any

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
VARIANTS = ("without_regularizer", "exposure_parity")
STAGES = [
    "source",
    "examples",
    "schema",
    *(f"{v}/model" for v in VARIANTS),
    *(f"{v}/{stage}" for v in VARIANTS for stage in ("embeddings", "index")),
    *(f"{v}/serving/retriever/1" for v in VARIANTS),
    *(f"{v}/audit" for v in VARIANTS),
    "report",
]
"""In the order in which a run goes through them."""

TINY: dict[str, Any] = {
    "name": "Tiny marketplace",
    "seed": 7,
    "data": {
        "dataset": "synthetic",
        "synthetic": {"interactions": 3000, "users": 150, "items": 300},
        "interactions": {"timestamp": "timestamp"},
    },
    "features": {
        "query": [
            {"kind": "id", "column": "user_id"},
            {"kind": "categorical", "column": "country"},
        ],
        "candidate": [
            {"kind": "id", "column": "item_id"},
            {"kind": "numeric", "column": "price"},
            {"kind": "vector", "column": "style"},
        ],
    },
    "groups": {"columns": ["skin_tone"]},
    "slices": [
        {"column": "gender"},
        {"column": "age", "bands": [0, 35]},
        {"cross": ["gender", "age"]},
    ],
    "towers": {"dim": 8},
    "training": {"epochs": 3, "batch_size": 256, "catalogue_sample": 128, "evaluate_at": [10]},
    "fairness": {"depth": 20, "queries": 64},
    # All leaves, and all candidates reordered: ScaNN then finds what exact search finds.
    "serving": {"k": 20, "index": "scann", "leaves": 4, "leaves_to_search": 4, "reorder": 300},
    "audit": {"ks": [10, 20], "bootstrap_samples": 100, "min_users": 15},
}


@dataclasses.dataclass(frozen=True)
class TinyRun:
    """A finished run.

    Attributes:
        config: Its YAML.
        out: Its run directory.
        printed: What the command said.
    """

    config: pathlib.Path
    out: pathlib.Path
    printed: str


def write_config(folder: pathlib.Path, content: dict[str, Any] = TINY) -> pathlib.Path:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    return path


def command(name: str, config: pathlib.Path, out: pathlib.Path, *options: str) -> list[str]:
    """The command line of a stage."""
    program = [sys.executable, "-m", "pipelines.cli"]
    return [*program, name, "-c", str(config), "-o", str(out), *options]


def environment() -> dict[str, str]:
    return {**os.environ, "COLUMNS": "120", "TF_CPP_MIN_LOG_LEVEL": "3"}


def fairtowers(
    name: str, config: pathlib.Path, out: pathlib.Path, *options: str
) -> subprocess.CompletedProcess[str]:
    """Runs a command in a process of its own."""
    return subprocess.run(
        command(name, config, out, *options),
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
    )


def read_json(path: pathlib.Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def without_times(value: Any) -> Any:
    """JSON less what no two runs have in common."""
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if not k.endswith("seconds")}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def half_written(out: pathlib.Path) -> list[pathlib.Path]:
    """Files under final names that belong to no completed stage."""
    files = [p.relative_to(out) for p in out.rglob("*") if p.is_file()]
    stages = {p.parent for p in files if p.name == "stage.json"}
    return [
        path
        for path in files
        if not any(part.startswith(".") for part in path.parts)
        and not stages & set(path.parents)
        and path.name not in _LATEST
    ]


_LATEST = {
    "manifest.json",
    "models.config",
    "batching.config",
    "monitoring.config",
    "versions.json",
    *("docker-compose.yaml", "kubernetes.yaml", "Dockerfile"),
}
"""Files beside stages, each replaced by a rename."""
