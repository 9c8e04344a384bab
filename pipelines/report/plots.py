"""Dot plots with intervals: one row for all users and every slice."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipelines.report.svg import COLOURS, WIDTH, bare_axes, element, gutter, new_figure, row_label

Estimate = Mapping[str, float] | None
"""A figure of the audit: `value`, `low`, `high`; None where there is none."""

_AXIS = 42  # Height of the axis, in units of the SVG.


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of a plot: a heading if it has no estimates at all."""

    label: str
    estimates: Mapping[str, Estimate] = dataclasses.field(default_factory=dict)


def dot_plot(
    name: str,
    title: str,
    description: str,
    rows: Sequence[Row],
    *,
    axis: str,
    reference: float,
    limits: tuple[float, float],
    percent: bool = False,
    row_height: float = 21,
) -> str:
    """Draws estimates with their intervals, one row each.

    Args:
        name: Prefix of every id in the SVG, unique on the page.
        title: Name for screen readers.
        description: What the plot shows, for screen readers.
        rows: From top to bottom; estimates are by series, `before` (hollow) and `after` (filled).
        axis: Label of the horizontal axis.
        reference: Where the line of "as it should be" stands.
        limits: Ends of the horizontal axis.
        percent: Whether the axis is labelled in percent.
        row_height: In units of the SVG, whose width is 340.

    Returns:
        An `<svg>` element, the same for the same arguments.
    """
    height = row_height * len(rows) + _AXIS
    left = gutter([row.label for row in rows])
    figure = new_figure(height)
    box = (left / WIDTH, _AXIS / height, 1 - (left + 14) / WIDTH, 1 - _AXIS / height)
    axes = figure.add_axes(box)
    axes.set(xlim=limits, ylim=(len(rows) - 0.5, -0.5))
    _draw_frame(axes, axis, reference, percent)
    for position, row in enumerate(rows):
        _draw_row(axes, position, row)
    return element(figure, name, title, description)


def span(estimates: Sequence[Estimate], *always: float) -> tuple[float, float]:
    """Returns axis limits that hold every interval and the values `always`, with a margin."""
    ends = [e[end] for e in estimates if e is not None for end in ("low", "high")]
    low, high = min([*ends, *always]), max([*ends, *always])
    margin = 0.04 * (high - low) or 1.0
    return (low if low == 0 else low - margin), high + margin


def _draw_frame(axes: Axes, label: str, reference: float, percent: bool) -> None:
    bare_axes(axes, label)
    axes.set_yticks([])
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if percent:
        axes.xaxis.set_major_formatter(PercentFormatter(1, symbol="\u00a0%"))
    axes.grid(axis="x", color=COLOURS["rule"], linewidth=0.6)
    axes.axvline(reference, color=COLOURS["ink"], linewidth=1.1)


def _draw_row(axes: Axes, position: int, row: Row) -> None:
    row_label(axes, position, row.label, bold=not row.estimates)
    offset = 0.17 if len(row.estimates) > 1 else 0.0
    for series, estimate in row.estimates.items():
        if estimate is None:
            continue
        y = position - offset if series == "before" else position + offset
        colour = COLOURS[series]
        axes.plot([estimate["low"], estimate["high"]], [y, y], color=colour, linewidth=1.6)
        axes.plot(
            estimate["value"],
            y,
            marker="o",
            linestyle="none",
            markersize=6.5,
            markeredgewidth=1.6,
            markeredgecolor=colour,
            markerfacecolor=COLOURS["paper"] if series == "before" else colour,
            clip_on=False,
        )
