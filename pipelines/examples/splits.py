"""Which interaction is for training, validation or test; and which shard it lies in."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pyarrow as pa

from pipelines.config import SplitConfig
from pipelines.examples.checks import PARTS, SPLIT
from pipelines.examples.inputs import TIMESTAMP

USER_ROW, ITEM_ROW = "__user_row", "__item_row"
"""Columns with the row of the users and items table that an interaction belongs to, int32."""

ORIGIN = "__origin"
"""Column with a number that grows with file and row, int64."""

HASH = "__hash"
"""Column with the hash of an id, uint64."""

TRAIN, VALIDATION, TEST = range(len(PARTS))


@dataclasses.dataclass(frozen=True)
class TimeThresholds:
    """The first second, in seconds since 1970, of validation and of test."""

    validation: float
    test: float


def id_hashes(ids: pa.Array, seed: int) -> np.ndarray:
    """Returns a stable hash of every id, uint64 `[num_ids]`.

    Args:
        ids: string `[num_ids]`.
        seed: Other seeds give other hashes.
    """
    # SipHash wants a key of exactly 16 characters.
    key = f"{seed % 10**16:016d}"
    return pd.util.hash_array(ids.to_numpy(zero_copy_only=False), hash_key=key, categorize=False)


def pair_hashes(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Returns a stable hash of user and item, uint64 `[num_rows]`; repeats share theirs.

    It mixes the two as pandas hashes the columns of a row, and as Python once hashed tuples.

    Args:
        users: uint64 `[num_rows]`, hashes of the users.
        items: uint64 `[num_rows]`, hashes of the items.
    """
    first, second = np.uint64(1_000_003), np.uint64(1_000_003 + 82_520 + 4)
    with np.errstate(over="ignore"):
        mixed = ((np.uint64(0x345678) ^ users) * first ^ items) * second
        return mixed + np.uint64(97_531)


def time_thresholds(seconds: np.ndarray, counts: np.ndarray, split: SplitConfig) -> TimeThresholds:
    """Finds the exact quantiles of time that the held-out parts begin at.

    Interactions of the same second stay together, so a part may be larger than its share.

    Args:
        seconds: int64 `[num_times]`, distinct and increasing.
        counts: int64 `[num_times]`, interactions at each.
        split: The shares.
    """
    total = int(counts.sum())
    test = _latest(seconds, counts, round(split.test * total))
    before = seconds < test
    validation = _latest(seconds[before], counts[before], round(split.validation * total))
    return TimeThresholds(validation=min(validation, test), test=test)


def assign_parts(
    table: pa.Table, split: SplitConfig, thresholds: TimeThresholds | None, hashes: np.ndarray
) -> np.ndarray:
    """Divides interactions.

    Args:
        table: Whole users, with their rows together and in order of time.
        split: The rule.
        thresholds: For the rule `time`.
        hashes: uint64 `[num_rows]`, from `pair_hashes`.

    Returns:
        int8 `[num_rows]`, index into `checks.PARTS`.
    """
    if split.by == "column":
        return table[SPLIT].to_numpy()
    if split.by == "last_n":
        return _by_last_n(table[USER_ROW].to_numpy(), split.n)
    if split.by == "time":
        assert thresholds is not None
        place = table[TIMESTAMP].to_numpy()
        test, held_out = place >= thresholds.test, place >= thresholds.validation
    else:
        place = hashes / 2.0**64
        test, held_out = place < split.test, place < split.test + split.validation
    return np.select([test, held_out], [TEST, VALIDATION], TRAIN).astype(np.int8)


def _by_last_n(users: np.ndarray, n: int) -> np.ndarray:
    starts = np.flatnonzero(np.concatenate([[True], users[1:] != users[:-1]])[: len(users)])
    lengths = np.diff(np.append(starts, len(users)))
    from_end = np.repeat(starts + lengths, lengths) - 1 - np.arange(len(users))
    enough = np.repeat(lengths >= 2 * n + 1, lengths)
    return np.select(
        [enough & (from_end < n), enough & (from_end < 2 * n)], [TEST, VALIDATION], TRAIN
    ).astype(np.int8)


def _latest(seconds: np.ndarray, counts: np.ndarray, wanted: int) -> float:
    """The second from which on at least `wanted` interactions follow; infinite for none."""
    if wanted == 0 or not len(seconds):
        return np.inf
    later = counts[::-1].cumsum()
    enough = int(np.searchsorted(later, wanted))
    return float(seconds[::-1][min(enough, len(seconds) - 1)])
