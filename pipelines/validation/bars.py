"""Small bars for the cells of a table, as SVG in the colours of the page."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

_WIDTH, _HEIGHT, _GAP = 120, 26, 1.5


def histogram(counts: Sequence[float], description: str) -> Markup:
    """Draws a bar per count, the highest as high as there is room.

    Args:
        counts: Not negative.
        description: What the bars show, for screen readers.
    """
    if not counts:
        return Markup()
    step, most = _WIDTH / len(counts), max(*counts, 1)
    rectangles = "".join(
        f'<rect x="{i * step:.2f}" y="{_HEIGHT - height:.2f}" width="{step - _GAP:.2f}" '
        f'height="{height:.2f}"/>'
        for i, count in enumerate(counts)
        # What is there at all can be seen.
        if (height := max(_HEIGHT * count / most, 1.0 if count else 0.0))
    )
    return Markup(
        f'<svg class="bars" role="img" aria-label="{escape(description)}" '
        f'viewBox="0 0 {_WIDTH} {_HEIGHT}">{rectangles}</svg>'
    )
