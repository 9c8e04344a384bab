"""The description of the REST API."""

from __future__ import annotations

import pathlib

OPENAPI_FILE = pathlib.Path(__file__).with_name("openapi.yaml")
"""Published at `/openapi.json`."""
