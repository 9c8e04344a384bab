"""The frontier as a picture: exposure to the right, quality up."""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipelines.report.wording import find, measure_name
from pipelines.sweep.frontier import lines_of
from pipelines.sweep.parity import from_parity

_INK, _MUTED, _RULE, _PAPER, _BAND = "#1c1f22", "#5a6168", "#dadcd7", "#fdfdfb", "#e3efe6"
# Told apart with every kind of colour vision: Okabe and Ito, "Color Universal Design", 2008, less
# its yellow and black; markers tell those apart that share a colour.
_COLOURS = ("#005f9e", "#b4500b", "#009e73", "#cc79a7", "#56b4e9", "#8a6d00")
_MARKERS = ("o", "s", "^", "D", "v")
_IN_BAND = (0.95, 1.05)
_LOWEST, _FURTHEST = -0.1, 1.4
"""Points of less quality, or a larger ratio than this and the baseline's, are not drawn: they would
squeeze all others."""

Place = Callable[[Mapping[str, Any]], float | None]
"""Where on the horizontal axis a point is."""


def plot_frontier(found: Mapping[str, Any], path: pathlib.Path) -> None:
    """Draws the change of NDCG over the worst ratio, and over that of all users.

    A worst ratio above 1 is drawn where its inverse is: a line that goes on from too little
    exposure to too much does not pass through parity, but turns back.

    Args:
        found: What `frontier.frontier` returned.
        path: The PNG to write.
    """
    metric = found["metrics"][0]
    points = [point for point in found["points"] if find(point, "change", metric)]
    figure = Figure(figsize=(11, 6.2), dpi=150, facecolor=_PAPER)
    panels = figure.subplots(1, 2)
    places: list[tuple[str, Place]] = [
        ("in the slice furthest from 1, or its inverse", _closeness),
        ("of all users", lambda point: find(point, "ratio", "value")),
    ]
    for axes, (whose, place) in zip(panels, places, strict=True):
        _draw_frame(axes, f"exposure ratio of {found['group']} {whose}")
        _draw_points(axes, points, metric, place)
        _limit(axes, points, metric, place)
    panels[0].set_ylabel(f"change of {measure_name(metric)} on validation users", color=_MUTED)
    figure.suptitle(f"{found['title']}: what exposure costs", color=_INK, x=0.02, ha="left")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="lower center",
        ncols=4,
        frameon=False,
        labelcolor=_INK,
        fontsize=9,
        handlelength=3,
    )
    rows = -(-len(labels) // 4)
    figure.tight_layout(rect=(0, 0.03 + 0.035 * rows, 1, 0.98))
    figure.savefig(path)


def _closeness(point: Mapping[str, Any]) -> float | None:
    """The worst ratio or its inverse, whichever is below 1."""
    ratio = find(point, "worst", "ratio", "value")
    return None if ratio is None else 1 - from_parity(ratio)


def _limit(axes: Axes, points: Sequence[Mapping[str, Any]], metric: str, place: Place) -> None:
    """Sets the limits of the axes, and says how many points are beyond them."""
    places = [
        (x, point["change"][metric]["value"]) for point in points if (x := place(point)) is not None
    ]
    furthest = max(_FURTHEST, place(points[0]) or 0.0)
    shown = [(x, y) for x, y in places if x <= furthest and y >= _LOWEST] or [(1.0, 0.0)]
    ratios, changes = zip(*shown, strict=True)
    axes.set_xlim(min(*ratios, _IN_BAND[0]) - 0.05, max(*ratios, _IN_BAND[1]) + 0.05)
    axes.set_ylim(min(*changes, 0.0) - 0.01, max(*changes, 0.0) + 0.01)
    if len(places) > len(shown):
        label = f"not shown: {len(places) - len(shown)}"
        axes.set_title(label, color=_MUTED, fontsize=9, loc="right")


def _draw_frame(axes: Axes, label: str) -> None:
    axes.set_facecolor(_PAPER)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_RULE)
    axes.tick_params(colors=_MUTED, color=_RULE)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol="\u00a0%"))
    axes.set_xlabel(label, color=_MUTED)
    axes.grid(color=_RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.axvspan(*_IN_BAND, color=_BAND, zorder=0)
    axes.axhline(0, color=_INK, linewidth=1.1)


def _draw_points(
    axes: Axes, points: Sequence[Mapping[str, Any]], metric: str, place: Place
) -> None:
    baseline = points[0]
    for number, (name, line) in enumerate(lines_of(points).items()):
        ends = [baseline, *line]
        if line[0]["kind"] == "bonus":
            # A bonus may be negative: then the baseline lies in the middle of its line.
            ends.sort(key=lambda point: point["strength"])
        is_bonus = line[0]["kind"].startswith("bonus")
        drawn = [(x, p["change"][metric]) for p in ends if (x := place(p)) is not None]
        changes = [change for _, change in drawn]
        values = [change["value"] for change in changes]
        axes.errorbar(
            [x for x, _ in drawn],
            values,
            yerr=[
                [value - change["low"] for value, change in zip(values, changes, strict=True)],
                [change["high"] - value for value, change in zip(values, changes, strict=True)],
            ],
            label=name.replace("_", " "),
            color=_INK if is_bonus else _COLOURS[number % len(_COLOURS)],
            marker=_MARKERS[(number // len(_COLOURS) + number) % len(_MARKERS)],
            markersize=5,
            linewidth=1.5,
            linestyle="--" if is_bonus else "-",
            elinewidth=0.8,
            zorder=4 if is_bonus else 3,
        )
    if (x := place(baseline)) is not None:
        axes.plot(x, 0, marker="*", markersize=13, color=_INK, linestyle="none", zorder=5)
