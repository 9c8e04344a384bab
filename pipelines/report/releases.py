"""Earlier releases: what their reports said, for the trend."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from fairness_losses.errors import InvalidInputError
from pipelines.report.sentences import worst_slice
from pipelines.report.wording import find

_SETTING = "`report.previous`"
_WORST = ("slice", "value", "group", "exposure_ratio")


def find_reports(patterns: Sequence[str]) -> list[pathlib.Path]:
    """Returns the files that paths and globs name, in their order, those of a glob by name.

    Raises:
        InvalidInputError: There is no such file.
    """
    files: list[pathlib.Path] = []
    for pattern in patterns:
        path = pathlib.Path(pattern).absolute()
        found = sorted(pathlib.Path(path.anchor).glob(str(path.relative_to(path.anchor))))
        if not found:
            raise InvalidInputError(
                f"{_SETTING}: there is no file {pattern}. Keep the `report.json` of every release, "
                "and name it here."
            )
        files += found
    return list(dict.fromkeys(files))


def read_release(path: pathlib.Path) -> dict[str, Any]:
    """Returns what the trend needs of an earlier `report.json`.

    Args:
        path: File that `fairtowers report`, or `audit-lists` in its folder `report`, wrote.

    Returns:
        `release`, its name; `depth`, the ranks that exposure was counted to; `passed`, whether its
        gates were, None if it had none; `groups`, the exposure ratio of every group with a target,
        over all users; `quality`, of all users; and `worst`, the `slice`, `value`, `group` and
        `exposure_ratio` furthest from 1, None if chance explains all.

    Raises:
        InvalidInputError: It is no such file.
    """
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return release_of(report, path.parent.parent.name)
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OSError) as error:
        raise InvalidInputError(
            f"{_SETTING}: {path} is no `report.json` of a report ({type(error).__name__}). Name "
            "the file in the folder `report` of an earlier run, or of an audit of lists."
        ) from error


def release_of(report: Mapping[str, Any], unnamed: str) -> dict[str, Any]:
    """Returns what the trend needs of a report, see `read_release`.

    Args:
        report: What `build_report` returned.
        unnamed: What the release is called if it has no name.
    """
    run = report["runs"][-1]
    worst = worst_slice(run)
    return {
        "release": report.get("release") or unnamed,
        "depth": run["depth"],
        "passed": find(report, "verdict", "passed"),
        "groups": {
            group: find(run["overall"], "groups", group, "exposure_ratio")
            for group, about in run["groups"].items()
            if about["target"] is not None
        },
        "quality": run["overall"].get("quality", {}),
        "worst": worst and dict(zip(_WORST, worst, strict=True)),
    }
