"""Pages from templates, all in one style."""

from __future__ import annotations

import pathlib

import jinja2


def templates(*folders: pathlib.Path) -> jinja2.Environment:
    """Returns where templates are found: in these folders, and in this one with `style.css`."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, pathlib.Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
