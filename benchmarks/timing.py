"""Timing things side by side, in turns, so that what else the machine does hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np


def in_turns(measured: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, np.ndarray]:
    """Calls each of some functions once per round, after a first call that does not count.

    Args:
        measured: By name; each returns when it is done.
        rounds: Calls of each that count.

    Returns:
        Seconds of every call, `[rounds]`, by name.
    """
    for call in measured.values():
        call()
    seconds = {name: np.zeros(rounds) for name in measured}
    for turn in range(rounds):
        for name, call in measured.items():
            start = time.perf_counter()
            call()
            seconds[name][turn] = time.perf_counter() - start
    return seconds


def print_ratios(seconds: Mapping[str, np.ndarray], to: str, per: float, unit: str) -> None:
    """Prints a table of medians and of ratios to one of the rows, formed within each round.

    Args:
        seconds: What `in_turns` returned.
        to: The row that the others are compared with.
        per: What one call's seconds are divided by.
        unit: Of the quotient, such as `ms a step`.
    """
    print(f"| | {unit} | ratio (least to greatest of the rounds) |\n|---|---|---|")
    for name, values in seconds.items():
        ratios = values / seconds[to]
        spread = f"{np.median(ratios):.2f} ({ratios.min():.2f}–{ratios.max():.2f})"
        print(f"| {name} | {np.median(values) / per:.3g} | {spread} |")
