"""Alerts: when a group's exposure ratio leaves its band, and when it is back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from pipelines.monitoring.config import MonitoringConfig

Cell = tuple[str, str, str]
"""Slice, its value, and group; `overall` and the empty string for everybody."""

Figure = Mapping[str, float]
"""`value`, `low`, `high` and `count`."""

_KEPT_WINDOWS = 64
"""Windows that are remembered besides those that late lists can still correct: after a pause,
several may be reported at once, and in any order."""


@dataclasses.dataclass
class Timeline:
    """What a ratio was in every window, and what has been said about it.

    Attributes:
        figures: Start of a window, in seconds, to the ratio there.
        said: Windows and the events that were said to have happened in them, with the ratio.
        was_outside: Whether the ratio was outside before the first window that is remembered.
    """

    figures: dict[int, Figure] = dataclasses.field(default_factory=dict)
    said: dict[tuple[int, str], Figure] = dataclasses.field(default_factory=dict)
    was_outside: bool = False

    def update(
        self, window: int, figure: Figure | None, config: MonitoringConfig
    ) -> list[tuple[int, str, bool, Figure]]:
        """Takes note of a window's ratio, for the first time or corrected.

        Panes may come in any order: what was said and not withdrawn is what follows from the
        figures in order of time.

        Args:
            window: Its start, in seconds.
            figure: The ratio; None if it is undefined or rests on too little, and says nothing.
            config: The band.

        Returns:
            What is new, by window: the window, `raised` or `resolved`, whether this is withdrawn,
            and the window's ratio, of a withdrawal the one that was said.
        """
        self.figures.pop(window, None)
        if figure is not None:
            self.figures[window] = figure
        events = dict(self._events(config))
        gone = [(*key, True, was) for key, was in self.said.items() if key not in events]
        new = [(*key, False, now) for key, now in events.items() if key not in self.said]
        self.said = {key: self.said.get(key, now) for key, now in events.items()}
        self._forget(config)
        return sorted([*gone, *new], key=lambda change: (change[0], not change[2]))

    def _events(self, config: MonitoringConfig) -> Iterator[tuple[tuple[int, str], Figure]]:
        was_outside = self.was_outside
        for window, figure in sorted(self.figures.items()):
            outside = is_outside(figure, config)
            if outside != was_outside:
                yield (window, "raised" if outside else "resolved"), figure
            was_outside = outside

    def _forget(self, config: MonitoringConfig) -> None:
        """Forgets windows that nothing can change any more."""
        reach = config.allowed_lateness + _KEPT_WINDOWS * config.window
        oldest = max(self.figures, default=0) - reach
        for window in sorted(w for w in self.figures if w < oldest):
            self.was_outside = is_outside(self.figures.pop(window), config)
        self.said = {key: figure for key, figure in self.said.items() if key[0] >= oldest}


def is_outside(figure: Figure, config: MonitoringConfig) -> bool:
    """Whether all of a ratio's interval lies outside the band."""
    return figure["high"] < config.low or figure["low"] > config.high


def ratios(report: Mapping[str, Any], config: MonitoringConfig) -> dict[Cell, Figure | None]:
    """Returns the ratios of a report that can be an alert.

    Args:
        report: As `pipelines.audit.figures.audit_of_cells` describes it.
        config: Which groups, and what a ratio should rest on.
    """
    cells = {("overall", ""): report["overall"]} | {
        (name, value): cell
        for name, values in report["slices"].items()
        for value, cell in values.items()
    }
    targets = {label for label, group in report["groups"].items() if group["target"]}
    wanted = targets if config.groups is None else targets & set(config.groups)
    found: dict[Cell, Figure | None] = {}
    for (name, value), cell in cells.items():
        of_groups = cell.get("groups", {})
        shares = [of_groups[label]["candidate_share"] for label in targets if label in of_groups]
        enough = sum(share["count"] for share in shares if share) >= config.min_count
        for label in sorted(wanted):
            ratio = of_groups[label]["exposure_ratio"] if enough else None
            found[name, value, label] = ratio
    return found
