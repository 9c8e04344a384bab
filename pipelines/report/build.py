"""The report of a run: `report.json` for machines, `report.html` for people."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.config import RunConfig
from pipelines.report.page import render
from pipelines.report.wording import SummaryRow, summary_table

__all__ = ["SCHEMA_VERSION", "SummaryRow", "build_report", "summary_table", "write_report"]

SCHEMA_VERSION = 1
"""Of `report.json`; it changes when a key is renamed or removed."""

_SETTINGS = {
    "seed",
    "groups",
    "split",
    "features",
    "towers",
    "training",
    "fairness",
    "serving",
    "audit",
}
"""Parts of the configuration that the figures depend on, and that name no file."""

_EXTRA = ("counts", "index", "training", "constraint", "frontier")
"""What stages other than the audit found."""


def build_report(
    config: RunConfig,
    audits: Sequence[Mapping[str, Any]],
    comparison: Mapping[str, Any] | None,
    extra: Mapping[str, Any],
) -> dict[str, Any]:
    """Puts everything that a run found into the content of `report.json`.

    Args:
        config: The run configuration.
        audits: What `audit` returned: the run without the regularizer, then the one with it; or
            a single run.
        comparison: What `compare` returned for the two.
        extra: What other stages found, each if there is one: `counts`, the content of
            `counts.json`; per variant, `index`, that of `index.json`, `training`, that of
            `history.json`, and `constraint`, of how many bands how many are not met; `frontier`,
            that of a sweep's `frontier.json`; `releases`, what `read_release` returned for earlier
            ones.

    Returns:
        `schema_version`, `title`, `release`, `card`, `settings` (the sections of the configuration
        that figures depend on), `counts`, `index`, `training`, `constraint`, `frontier`,
        `releases`, `runs` (the audits) and `comparison`. What is not a finite number is None.
    """
    settings = {
        "dataset": config.data.dataset,
        "slices": [cut.name for cut in config.slices],
        "sensitive": sorted(config.sensitive_columns),
        **config.model_dump(mode="json", include=_SETTINGS),
    }
    return {
        "schema_version": SCHEMA_VERSION,
        "title": config.name,
        "release": config.report.release,
        "card": config.card.model_dump(mode="json"),
        "settings": settings,
        **{name: _finite(extra.get(name, {})) for name in _EXTRA},
        "releases": _finite(list(extra.get("releases", []))),
        "runs": list(audits),
        "comparison": comparison,
    }


def write_report(report: Mapping[str, Any], out_dir: pathlib.Path) -> None:
    """Writes `report.json` and the self-contained `report.html`.

    Args:
        report: What `build_report` returned. The same report gives the same bytes.
        out_dir: Folder, made if it is not there.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, ensure_ascii=False, indent=1, allow_nan=False)
    (out_dir / "report.json").write_text(text + "\n", encoding="utf-8")
    (out_dir / "report.html").write_text(render(report), encoding="utf-8")


def _finite(value: Any) -> Any:
    """The value with None for every NaN and infinity in it: JSON has none."""
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
