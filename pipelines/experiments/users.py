"""From lists to users: what only shows when all lists are seen together.

A list is left out if it repeats another one, or lies outside of the experiment; then all lists of a
user who is a bot, or was seen in two arms. Lists that another version served than the arm names
stay, as do those of users whom the hash would have put into another arm: users belong to the arm
whose lists they were served, and to leave some out afterwards would compare other users. They are
counted.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np

from pipelines.experiments.lists import Lists
from pipelines.slicing import distinct_rows
from serving.experiments.config import Experiment

_DAY = 86_400


@dataclasses.dataclass(frozen=True)
class Users:
    """Users of an experiment, sorted by their hash.

    Attributes:
        user: uint64 `[num_users]`.
        arm: int16 `[num_users]`.
        first: int64 `[num_users]`, seconds of the first list.
        lists: float64 `[num_users]`, how many.
        exposure: float64 `[num_users, num_groups]`, of all lists.
        daily_lists: float64 `[num_users, num_days]`, by day since the first list.
        last: Second of the last list of all.
        left_out: uint64, users who were left out.
        counts: What became of the lists, see `gather`.
    """

    user: np.ndarray
    arm: np.ndarray
    first: np.ndarray
    lists: np.ndarray
    exposure: np.ndarray
    daily_lists: np.ndarray
    last: int
    left_out: np.ndarray
    counts: dict[str, Any]


def gather(lists: Lists, experiment: Experiment) -> Users:
    """Sums the lists of every user.

    Args:
        lists: Of the experiment.
        experiment: With start, end and what a bot is.

    Returns:
        The users. `counts` has `read`, `used` and `left_out` (by reason), which add up;
        `users_left_out` by reason; `other_version` and `other_arm_than_assigned`, lists that were
        used; and `versions`, lists per arm and model version.
    """
    start, end = (int(t.timestamp()) for t in (experiment.start, experiment.end))
    left_out = Counter(lists.left_out)
    kept = np.zeros(len(lists.user), bool)
    kept[np.unique(lists.number, return_index=True)[1]] = True
    left_out["repeats another list"] = int((~kept).sum())
    for reason, applies in (
        ("before the start", lists.seconds < start),
        ("after the end", lists.seconds >= end),
    ):
        left_out[reason] = int((kept & applies).sum())
        kept &= ~applies
    users_left_out: dict[str, int] = {}
    gone = []
    for who, reason, found in (
        ("bots", "user is a bot", _bots(lists, kept, experiment.max_lists_per_day)),
        ("in two arms", "user was in two arms", _in_two_arms(lists, kept)),
    ):
        applies = kept & np.isin(lists.user, found)
        left_out[reason] = int(applies.sum())
        users_left_out[who] = len(found)
        kept &= ~applies
        gone.append(found)
    counts = {
        "read": lists.read,
        "used": int(kept.sum()),
        "left_out": {reason: n for reason, n in left_out.items() if n},
        "users_left_out": users_left_out,
        "other_version": int(lists.is_other_version[kept].sum()),
        "other_arm_than_assigned": int(lists.is_misplaced[kept].sum()),
        "versions": [
            {"arm": arm, "model_version": version, "lists": n}
            for (arm, version), n in sorted(lists.versions.items())
        ],
    }
    return _sums(lists, kept, experiment.days, np.concatenate(gone), counts)


def _bots(lists: Lists, kept: np.ndarray, most: int) -> np.ndarray:
    """Users with too many lists on a day."""
    user, day = lists.user[kept], lists.seconds[kept] // _DAY
    first, kind = distinct_rows([user, day])
    return np.unique(user[first[np.bincount(kind, minlength=len(first)) > most]])


def _in_two_arms(lists: Lists, kept: np.ndarray) -> np.ndarray:
    order = np.argsort(lists.user[kept], kind="stable")
    user, arm = lists.user[kept][order], lists.arm[kept][order]
    changes = (user[1:] == user[:-1]) & (arm[1:] != arm[:-1])
    return np.unique(user[1:][changes])


def _sums(
    lists: Lists, kept: np.ndarray, days: int, left_out: np.ndarray, counts: dict[str, Any]
) -> Users:
    users, row = np.unique(lists.user[kept], return_inverse=True)
    seconds, number = lists.seconds[kept], len(users)
    first = np.full(number, np.iinfo(np.int64).max)
    np.minimum.at(first, row, seconds)
    arm = np.zeros(number, np.int16)
    arm[row] = lists.arm[kept]
    exposure = [np.bincount(row, of_group, minlength=number) for of_group in lists.exposure[kept].T]
    return Users(
        user=users,
        arm=arm,
        first=first,
        lists=np.bincount(row, minlength=number).astype(np.float64),
        exposure=np.stack(exposure, axis=1) if exposure else np.zeros((number, 0)),
        daily_lists=per_day(row, (seconds - first[row]) // _DAY, None, (number, days)),
        last=int(seconds.max()) if len(seconds) else 0,
        left_out=np.unique(left_out),
        counts=counts,
    )


def per_day(
    row: np.ndarray, day: np.ndarray, value: np.ndarray | None, shape: tuple[int, int]
) -> np.ndarray:
    """Sums values per user and day, float64 `shape`.

    Args:
        row: int `[n]`, the user.
        day: int `[n]`, days since the user's first list.
        value: float64 `[n]`; None counts.
        shape: Number of users and of days.
    """
    place = row * shape[1] + day
    return np.bincount(place, value, minlength=shape[0] * shape[1]).astype(float).reshape(shape)
