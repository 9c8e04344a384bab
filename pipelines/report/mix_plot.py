"""The mix as stacked bars: what the lists of a slice consist of, beside the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.ticker import PercentFormatter

from pipelines.report.svg import (
    COLOURS,
    NUM_SERIES,
    WIDTH,
    bare_axes,
    element,
    gutter,
    new_figure,
    row_label,
)

Bar = tuple[str, Mapping[str, float]]
"""A label, and the share of every group; a heading if there are none."""

_AXIS = 42
_ROW = 21


def mix_plot(
    name: str, title: str, description: str, groups: Sequence[str], bars: Sequence[Bar]
) -> str:
    """Draws one bar per row, divided among the groups.

    Args:
        name: Prefix of every id in the SVG, unique on the page.
        title: Name for screen readers.
        description: What the plot shows, for screen readers.
        groups: In the order of the segments; at most `NUM_SERIES`.
        bars: From top to bottom.

    Returns:
        An `<svg>` element, the same for the same arguments.
    """
    if len(groups) > NUM_SERIES:
        raise ValueError(f"{len(groups)} groups have no colour each; there are {NUM_SERIES}.")
    height = _ROW * len(bars) + _AXIS
    left = gutter([label for label, _ in bars])
    figure = new_figure(height)
    box = (left / WIDTH, _AXIS / height, 1 - (left + 22) / WIDTH, 1 - _AXIS / height)
    axes = figure.add_axes(box)
    axes.set(xlim=(0, 1), ylim=(len(bars) - 0.5, -0.5))
    bare_axes(axes, "share of the exposure")
    axes.set_yticks([])
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1])
    axes.xaxis.set_major_formatter(PercentFormatter(1, symbol="\u00a0%"))
    for position, (label, shares) in enumerate(bars):
        row_label(axes, position, label, bold=not shares)
        start = 0.0
        for number, group in enumerate(groups if shares else ()):
            axes.barh(
                position,
                shares[group],
                left=start,
                height=0.68,
                color=COLOURS[f"series-{number}"],
                edgecolor=COLOURS["paper"],
                linewidth=1.2,
            )
            start += shares[group]
    return element(figure, name, title, description)
