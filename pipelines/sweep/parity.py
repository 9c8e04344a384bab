"""How far an exposure ratio is from 1, in either direction."""

from __future__ import annotations


def from_parity(ratio: float) -> float:
    """Returns the distance of a ratio from 1: `1 - min(ratio, 1 / ratio)`.

    It orders ratios as `|log(ratio)|` does, so half and double are equally far (0.5), and stays
    finite where a group has no exposure at all (1).

    Args:
        ratio: Exposure share over target share, not negative.

    Returns:
        From 0 to 1, and 0 at a ratio of 1.
    """
    return 1.0 - (ratio if ratio <= 1 else 1 / ratio)
