"""A plot of what grows with a size."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter


def draw_growth(
    sizes: Sequence[int],
    found: Mapping[str, Sequence[tuple[float, float]]],
    label: str,
    units: tuple[str, str],
    path: pathlib.Path,
) -> None:
    """Draws two quantities over a size, side by side, on logarithmic scales.

    Args:
        sizes: `[num_sizes]`.
        found: The two quantities at every size, by the name of their line.
        label: What the size is of.
        units: Of the two quantities.
        path: The PNG to write.
    """
    figure = Figure(figsize=(9, 4), dpi=120, layout="constrained")
    for axes, part, unit in zip(figure.subplots(1, 2), (0, 1), units, strict=True):
        for (name, values), marker in zip(found.items(), "os^", strict=False):
            axes.plot(sizes, [value[part] for value in values], marker=marker, label=name)
        axes.set(xscale="log", yscale="log", xlabel=label, ylabel=unit)
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(ScalarFormatter())
        axes.grid(alpha=0.3)
    figure.axes[0].legend(frameon=False)
    figure.savefig(path)
