"""Answers as a server gives them, for the tests of the serving log."""

import numpy as np

from serving.log.answer import Answer
from serving.log.config import LogConfig

NOON = 1_714_564_800.0
"""2024-05-01, 12:00 UTC."""


def settings(folder, **changes) -> LogConfig:
    """Settings of a log in a folder; files are written when they are asked for only."""
    folders = {"directory": str(folder / "log"), "salts": str(folder / "salts")}
    return LogConfig(**{**folders, "rotate_seconds": 3600.0, **changes})


def answer(users, k: int = 3, seconds: float = NOON, inputs=None, **changes) -> Answer:
    """One list per user: `<user>-0`, `<user>-1`, …"""
    rows = len(users)
    ids = np.array([[f"{user}-{i}".encode() for i in range(k)] for user in users], object)
    outputs = {
        "candidate_ids": ids.reshape(rows, k),
        "scores": np.tile(np.arange(k, 0, -1, dtype=np.float32), (rows, 1)),
        "groups": np.full((rows, k), b"a", object),
        "policy": np.full(rows, b"quota", object),
        "model_version": np.full(rows, b"retriever/4", object),
    }
    given = {"user_id": np.array([str(u).encode() for u in users], object)}
    return Answer(
        model="retriever",
        version=4,
        signature="controlled",
        inputs=given if inputs is None else {**given, **inputs},
        outputs={**outputs, **changes},
        arm="",
        unix_seconds=seconds,
    )
