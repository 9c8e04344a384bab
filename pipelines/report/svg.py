"""Matplotlib's drawings as SVG for a page: they follow its colours, fonts and width."""

from __future__ import annotations

import html
import io
import re

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 340
"""Of every plot, in units of the SVG: at 360 CSS pixels text is as large as written."""

FONT = 11.5
"""Size of text."""

NUM_SERIES = 6
"""Colours that series are told apart by."""

_VARIABLES = [
    *("ink", "muted", "rule", "paper", "band", "before", "after"),
    *(f"series-{i}" for i in range(NUM_SERIES)),
]

COLOURS = {name: f"#{i:02x}{i:02x}{i:02x}" for i, name in enumerate(_VARIABLES, start=1)}
"""Matplotlib wants real colours; these stand for the page's variables until the SVG is written."""

_CHARACTER = 7.0  # Average width of one at this size.
_LONGEST_LABEL = 22


def new_figure(height: float) -> Figure:
    """Returns an empty figure, `height` in units of the SVG."""
    return Figure(figsize=(WIDTH / 72, height / 72), dpi=72)


def bare_axes(axes: Axes, label: str) -> None:
    """Leaves of the axes a line below, a grid to read it by, and the horizontal axis's label."""
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(COLOURS["rule"])
    axes.tick_params(colors=COLOURS["muted"], labelsize=FONT, length=3, color=COLOURS["rule"])
    axes.set_xlabel(label, color=COLOURS["muted"], fontsize=FONT)
    axes.set_axisbelow(True)


def row_label(axes: Axes, position: float, label: str, bold: bool = False) -> None:
    """Writes the label of a row to the left of the axes."""
    axes.annotate(
        shorten(label),
        (0, position),
        xycoords=("axes fraction", "data"),
        xytext=(-9, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        fontsize=FONT,
        fontweight="bold" if bold else "normal",
        color=COLOURS["ink"],
        parse_math=False,
        annotation_clip=False,
    )


def gutter(labels: list[str]) -> float:
    """Returns the width that labels of rows need."""
    return 14 + _CHARACTER * max(len(shorten(label)) for label in labels)


def shorten(label: str, longest: int = _LONGEST_LABEL) -> str:
    """Returns the label, cut where it is too long for a plot."""
    return label if len(label) <= longest else label[: longest - 1] + "…"


def element(figure: Figure, name: str, title: str, description: str) -> str:
    """Turns a figure into an `<svg>` that may stand beside others on a page.

    Args:
        figure: The figure, in `COLOURS`.
        name: Prefix of every id in the SVG, unique on the page.
        title: Name for screen readers.
        description: What the plot shows, for screen readers.

    Returns:
        The element, the same for the same arguments.
    """
    buffer = io.StringIO()
    # Text stays text, and ids depend on nothing but the drawing.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", transparent=True)
    svg = buffer.getvalue()
    body = svg[svg.index("<svg") :]
    body = body[body.index(">") + 1 :]
    for rubbish in (
        r"<metadata>.*?</metadata>",
        r"<style.*?</style>",  # It would hold for the whole page.
        r" font-family: [^;]*;",
        r' transform="rotate\(-0 [^"]*"',
    ):
        body = re.sub(rubbish, "", body, flags=re.DOTALL)
    for variable, colour in COLOURS.items():
        body = re.sub(rf"(fill|stroke): {colour}", rf"\1: var(--{variable})", body)
    body = re.sub(r' id="', f' id="{name}-', body)
    body = re.sub(r'(?:xlink:)?href="#', f'href="#{name}-', body)
    body = body.replace('"url(#', f'"url(#{name}-')
    body = re.sub(r"\n\s*", "\n", body)
    height = 72 * figure.get_figheight()
    return (
        f'<svg role="img" aria-labelledby="{name}-title {name}-desc" '
        f'viewBox="0 0 {WIDTH} {height:g}">\n'
        f'<title id="{name}-title">{html.escape(title)}</title>\n'
        f'<desc id="{name}-desc">{html.escape(description)}</desc>{body.strip()}'
    )
