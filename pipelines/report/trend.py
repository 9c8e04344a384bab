"""The trend: this release beside earlier ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipelines.report import wording
from pipelines.report.plots import span
from pipelines.report.releases import release_of
from pipelines.report.trend_plot import trend_plot
from pipelines.report.wording import find, steered_groups


@dataclasses.dataclass(frozen=True)
class Trend:
    """What is shown of the releases.

    Attributes:
        releases: What `release_of` returned for each, this one last.
        groups: The groups with a target in this release.
        metrics: The quality that is shown: the largest k of this release.
        plots: An SVG per group.
    """

    releases: Sequence[Mapping[str, Any]]
    groups: Sequence[str]
    metrics: Sequence[str]
    plots: Mapping[str, Markup]


def trend(report: Mapping[str, Any]) -> Trend | None:
    """Returns the trend of a report, None if there is no earlier release.

    Args:
        report: What `build_report` returned.
    """
    if not report["releases"]:
        return None
    releases = [*report["releases"], release_of(report, "this release")]
    groups = steered_groups(report)
    figures = {g: [find(each, "groups", g) for each in releases] for g in groups}
    # One scale for all groups, so that the eye may compare them.
    limits = span([figure for line in figures.values() for figure in line], 1)
    names = [each["release"] for each in releases]
    return Trend(
        releases,
        groups,
        wording.headline_metrics(report),
        {
            group: Markup(
                trend_plot(
                    f"trend-{i}",
                    f"Exposure ratio of {group} over the releases",
                    "Its numbers are in the table “Releases, the oldest first”.",
                    list(zip(names, line, strict=True)),
                    limits,
                )
            )
            for i, (group, line) in enumerate(figures.items())
            if any(line)
        },
    )
