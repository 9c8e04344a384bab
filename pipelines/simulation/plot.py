"""The rounds as a picture: exposure, supply and utility of every arm."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

_INK, _MUTED, _RULE, _PAPER = "#1c1f22", "#5a6168", "#dadcd7", "#fdfdfb"
# Told apart with every kind of colour vision: Okabe and Ito, "Color Universal Design", 2008.
_COLOURS = ("#1c1f22", "#005f9e", "#b4500b", "#009e73", "#cc79a7", "#56b4e9", "#8a6d00")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")

_PANELS = (
    ("exposure[held_back]", "exposure of the groups held back\nover their share of items at first"),
    ("supply[held_back]", "their items there, over those at first"),
    ("supply[others]", "items of the other groups, over those at first"),
    ("utility", "expected clicks on a list\n(dashed: the most that the items allow)"),
)


def plot_rounds(result: Mapping[str, Any], path: pathlib.Path) -> None:
    """Draws four figures over the rounds, a line per arm with its interval.

    Args:
        result: What `simulate.simulate` returns.
        path: The PNG to write.
    """
    summary = result["summary"]
    figure = Figure(figsize=(11, 8), dpi=130, facecolor=_PAPER)
    panels = figure.subplots(2, 2).ravel()
    for axes, (name, label) in zip(panels, _PANELS, strict=True):
        _frame(axes, label)
        for number, (arm, figures) in enumerate(summary.items()):
            _line(axes, figures[name], number, arm)
            if name == "utility":
                most = [entry["value"] for entry in figures["attainable"]]
                rounds = range(1, len(most) + 1)
                axes.plot(rounds, most, "--", color=_colour(number), linewidth=1)
        axes.set_ylim(bottom=0)
    for axes in panels[:3]:
        axes.axhline(1, color=_MUTED, linewidth=1, zorder=1)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="lower center", ncols=len(labels), frameon=False, labelcolor=_INK
    )
    seeds = len(result["seeds"])
    title = f"{result['name']}: means of {seeds} marketplaces, {result['confidence']:.0%} intervals"
    figure.suptitle(title, color=_INK, x=0.02, ha="left")
    figure.tight_layout(rect=(0, 0.05, 1, 0.99))
    figure.savefig(path)


def _frame(axes: Axes, label: str) -> None:
    axes.set_facecolor(_PAPER)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_RULE)
    axes.tick_params(colors=_MUTED, color=_RULE)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("round", color=_MUTED)
    axes.set_title(label, color=_INK, fontsize=10, loc="left")
    axes.grid(color=_RULE, linewidth=0.6)
    axes.set_axisbelow(True)


def _line(axes: Axes, entries: Sequence[Mapping[str, float]], number: int, label: str) -> None:
    values, low, high = ([entry[end] for entry in entries] for end in ("value", "low", "high"))
    rounds = range(1, len(values) + 1)
    axes.fill_between(rounds, low, high, color=_colour(number), alpha=0.12, linewidth=0)
    axes.plot(
        rounds,
        values,
        color=_colour(number),
        marker=_MARKERS[number % len(_MARKERS)],
        markersize=4,
        linewidth=1.6,
        label=label,
    )


def _colour(number: int) -> str:
    return _COLOURS[number % len(_COLOURS)]
