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


def print_rates(
    rates: Mapping[str, np.ndarray],
    unit: str,
    digits: int,
    last: tuple[str, Mapping[str, str]] | None = None,
) -> None:
    """Prints a table of medians and of how much faster than each row the first one is.

    Args:
        rates: Amount per second in every round, `[rounds]`, by name.
        unit: Of the rates, such as `rows a second`.
        digits: After the decimal point of the ratios.
        last: One more column: its heading, and its cells by name.
    """
    heading, cells = last or ("", {})
    own = next(iter(rates))
    more = f" {heading} |" if last else ""
    print(f"| | {unit} | {own} is faster by |{more}\n|---|---|---|{'---|' if last else ''}")
    for name, values in rates.items():
        ratios = rates[own] / values
        spread = f"({ratios.min():.{digits}f}–{ratios.max():.{digits}f})"
        row = f"| {name} | {np.median(values):,.0f} | {np.median(ratios):.{digits}f} {spread} |"
        print(row + (f" {cells[name]} |" if last else ""))


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
