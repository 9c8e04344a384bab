"""The trend: one figure of a group over the releases, the newest at the right."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.ticker import MaxNLocator

from pipelines.report.plots import Estimate
from pipelines.report.svg import COLOURS, WIDTH, bare_axes, element, new_figure, shorten

_HEIGHT, _LEFT, _BELOW = 150, 40, 28
_MOST_LABELS, _LONGEST = 4, 11


def trend_plot(
    name: str,
    title: str,
    description: str,
    points: Sequence[tuple[str, Estimate]],
    limits: tuple[float, float],
) -> str:
    """Draws an exposure ratio over the releases.

    Args:
        name: Prefix of every id in the SVG, unique on the page.
        title: Name for screen readers.
        description: What the plot shows, for screen readers.
        points: Name of every release, the oldest first, and its figure.
        limits: Ends of the vertical axis.

    Returns:
        An `<svg>` element, the same for the same arguments.
    """
    figure = new_figure(_HEIGHT)
    box = (_LEFT / WIDTH, _BELOW / _HEIGHT, 1 - (_LEFT + 30) / WIDTH, 1 - (_BELOW + 8) / _HEIGHT)
    axes = figure.add_axes(box)
    axes.set(xlim=(-0.3, len(points) - 0.7), ylim=limits)
    bare_axes(axes, "")
    axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
    axes.grid(axis="y", color=COLOURS["rule"], linewidth=0.6)
    axes.axhline(1, color=COLOURS["ink"], linewidth=1.1)
    axes.set_xticks(*_labels([release for release, _ in points]), parse_math=False)
    drawn = [(x, figure) for x, (_, figure) in enumerate(points) if figure is not None]
    colour = COLOURS["after"]
    axes.plot([x for x, _ in drawn], [f["value"] for _, f in drawn], color=colour, linewidth=1.2)
    for x, each in drawn:
        axes.plot([x, x], [each["low"], each["high"]], color=colour, linewidth=1.6)
        axes.plot(x, each["value"], marker="o", markersize=6, color=colour, clip_on=False)
    return element(figure, name, title, description)


def _labels(releases: Sequence[str]) -> tuple[list[int], list[str]]:
    """Places and names on the horizontal axis; the last always, others where there is room."""
    step = -(-len(releases) // _MOST_LABELS)
    places = list(range(len(releases) - 1, -1, -step))[::-1]
    return places, [shorten(releases[place], _LONGEST) for place in places]
