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

_EXPOSURE, _SUPPLY, _UTILITY = "exposure[held_back]", "supply[held_back]", "utility"


def plot_rounds(result: Mapping[str, Any], path: pathlib.Path) -> None:
    """Draws exposure, supply and clicks over the rounds, a line per arm with its interval.

    The last panel has the clicks of the other arms as changes from the first, seed by seed.

    Args:
        result: What `simulate.simulate` returns.
        path: The PNG to write.
    """
    arms = dict(enumerate(result["summary"].items()))
    figure = Figure(figsize=(11, 8), dpi=130, facecolor=_PAPER)
    exposure, supply, clicks, change = figure.subplots(2, 2).ravel()
    _frame(exposure, "exposure of the groups held back, over their share of items at first")
    _frame(supply, "items of these groups, over those at first")
    _frame(clicks, "expected clicks on a list (dashed: the most that the items allow)")
    _frame(change, f"these clicks, less those of {arms[0][0]}")
    for number, (arm, figures) in arms.items():
        _line(exposure, figures[_EXPOSURE], number, arm)
        _line(supply, figures[_SUPPLY], number, arm)
        _line(clicks, figures[_UTILITY], number, arm)
        most = [entry["value"] for entry in figures["attainable"]]
        clicks.plot(range(1, len(most) + 1), most, "--", color=_colour(number), linewidth=1)
        if number > 0:
            _line(change, [entry["change"] for entry in figures[_UTILITY]], number, arm)
    for axes, level in ((exposure, 1), (supply, 1), (change, 0)):
        axes.axhline(level, color=_MUTED, linewidth=1, zorder=1)
    for axes in (exposure, clicks):
        axes.set_ylim(bottom=0)
    handles, labels = exposure.get_legend_handles_labels()
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
