"""What a sweep found, on the page: which exposure can be had, and at what cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipelines.report.frontier_plot import Place, frontier_plot
from pipelines.report.wording import find, measure_name
from pipelines.sweep.frontier import BONUSES, lines_of
from pipelines.sweep.parity import from_parity
from pipelines.sweep.table import verdicts


@dataclasses.dataclass(frozen=True)
class Frontier:
    """What is shown of a sweep.

    Attributes:
        found: What `pipelines.sweep.frontier.frontier` returned.
        metric: The metric whose change is shown.
        bonuses: The bonuses that were compared with.
        verdicts: What came of the comparison, in sentences.
        plots: The SVGs by their captions.
    """

    found: Mapping[str, Any]
    metric: str
    bonuses: Sequence[str]
    verdicts: Sequence[str]
    plots: Mapping[str, Markup]

    @classmethod
    def of(cls, report: Mapping[str, Any]) -> Frontier | None:
        """Returns what is shown of a report's sweep, None if it has none."""
        found = report["frontier"]
        if not found:
            return None
        lines, metric = lines_of(found["points"]), found["metrics"][0]
        places: dict[str, Place] = {
            "all users": lambda point: find(point, "ratio", "value"),
            "the furthest slice": _closeness,
        }
        return cls(
            found,
            metric,
            [bonus for bonus in BONUSES if bonus in lines],
            [sentence.replace("_", " ") for sentence in verdicts(found)],
            {
                whose: Markup(
                    frontier_plot(
                        f"frontier-{i}",
                        f"Change of {measure_name(metric)} over the exposure ratio of {whose}",
                        "Its numbers are in the table “Every setting that was tried”.",
                        lines,
                        found["points"][0],
                        metric,
                        place,
                        axes_labels=(
                            f"exposure ratio of {found['group']}",
                            f"change of {measure_name(metric)}",
                        ),
                    )
                )
                for i, (whose, place) in enumerate(places.items())
            },
        )


def _closeness(point: Mapping[str, Any]) -> float | None:
    """The worst ratio or its inverse, whichever is below 1: the line would turn back otherwise."""
    ratio = find(point, "worst", "ratio", "value")
    return None if ratio is None else 1 - from_parity(ratio)
