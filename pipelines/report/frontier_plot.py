"""The frontier on the page: what exposure a regularizer reaches, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from pipelines.report.svg import (
    COLOURS,
    NUM_SERIES,
    WIDTH,
    bare_axes,
    element,
    new_figure,
    shorten,
)
from pipelines.report.wording import find

_PLOT, _LEFT, _AXIS, _LEGEND_ROW = 240, 66, 46, 18
_MARKERS = ("o", "s", "^", "D", "v")
_LOWEST, _FURTHEST = -0.1, 1.4
"""Points of less quality, or a larger ratio, are not drawn: they would squeeze all others."""

Place = Callable[[Mapping[str, Any]], float | None]
"""Where on the horizontal axis a point is."""


def frontier_plot(
    name: str,
    title: str,
    description: str,
    lines: Mapping[str, Sequence[Mapping[str, Any]]],
    baseline: Mapping[str, Any],
    metric: str,
    place: Place,
    *,
    axes_labels: tuple[str, str],
) -> str:
    """Draws the change of a metric over an exposure ratio, a line for every regularizer.

    Args:
        name: Prefix of every id in the SVG, unique on the page.
        title: Name for screen readers.
        description: What the plot shows, for screen readers.
        lines: Points of every line, as `pipelines.sweep.frontier.lines_of` returns them.
        baseline: The point without a regularizer.
        metric: Whose change is drawn.
        place: The ratio.
        axes_labels: Of the ratio and of the change.

    Returns:
        An `<svg>` element, the same for the same arguments.
    """
    below = _AXIS + _LEGEND_ROW * -(-len(lines) // 2) + 10
    height = _PLOT + below
    figure = new_figure(height)
    box = (_LEFT / WIDTH, below / height, 1 - (_LEFT + 12) / WIDTH, 1 - (below + 10) / height)
    axes = figure.add_axes(box)
    bare_axes(axes, axes_labels[0])
    axes.set_ylabel(axes_labels[1], color=COLOURS["muted"], fontsize=10.5)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol="\u00a0%"))
    axes.grid(color=COLOURS["rule"], linewidth=0.6)
    axes.axhline(0, color=COLOURS["ink"], linewidth=1.1)
    axes.axvline(1, color=COLOURS["ink"], linewidth=1.1)
    points = []
    for number, (line, ends) in enumerate(lines.items()):
        # A bonus may be negative: then the baseline lies in the middle of its line.
        through = sorted([baseline, *ends], key=lambda point: point["strength"])
        points += _draw_line(axes, number, line, through, metric, place)
    if (start := place(baseline)) is not None:
        axes.plot(start, 0, marker="*", markersize=12, color=COLOURS["ink"], linestyle="none")
    _limit(axes, points)
    figure.legend(
        *axes.get_legend_handles_labels(),
        loc="lower center",
        ncols=2,
        frameon=False,
        labelcolor=COLOURS["ink"],
        fontsize=10.5,
        handlelength=2.2,
        columnspacing=1.2,
    )
    return element(figure, name, title, description)


def _draw_line(
    axes: Axes,
    number: int,
    name: str,
    line: Sequence[Mapping[str, Any]],
    metric: str,
    place: Place,
) -> list[tuple[float, float]]:
    """Draws one line, and returns its points."""
    changes = [(place(point), find(point, "change", metric, "value")) for point in line]
    points = [(x, y) for x, y in changes if x is not None and y is not None]
    bonus = any(point["kind"].startswith("bonus") for point in line)
    axes.plot(
        [x for x, _ in points],
        [y for _, y in points],
        label=shorten(name.replace("_", " ")),
        color=COLOURS["ink" if bonus else f"series-{number % NUM_SERIES}"],
        marker=_MARKERS[(number // NUM_SERIES + number) % len(_MARKERS)],
        markersize=4.5,
        linewidth=1.4,
        linestyle="--" if bonus else "-",
    )
    return points


def _limit(axes: Axes, points: Sequence[tuple[float, float]]) -> None:
    kept = [(x, y) for x, y in points if x <= _FURTHEST and y >= _LOWEST] or [(1.0, 0.0)]
    ratios, changes = zip(*kept, strict=True)
    axes.set_xlim(min(*ratios, 1.0) - 0.05, max(*ratios, 1.0) + 0.05)
    axes.set_ylim(min(*changes, 0.0) - 0.01, max(*changes, 0.0) + 0.01)
