"""Team-draft interleaving: both retrievers answer every request, and clicks say whose items won.

Two captains pick players in turns. In every round a coin says who picks first; each team picks the
best item of its list that nobody has picked, and both picks take the next two places. A click is
credited to the team of the item. With equal lists no team is preferred, whatever users click.

Source: Radlinski, Kurup and Joachims, "How Does Clickthrough Data Reflect Retrieval Quality?",
CIKM 2008, section 3.2 (algorithm 2). What the clicks come to: Chapelle, Joachims, Radlinski and
Yue, "Large-Scale Validation and Analysis of Interleaved Search Evaluation", TOIS 2012, section 3.

`interleave` draws one list, for a service; `interleave_all` draws those of many requests in NumPy.
Both take their coins from a hash of the salt and the id of the request, so that they agree, in
every process, and a request that is repeated has the same list.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Hashable, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from scipy.stats import binomtest

from fairness_losses.errors import InvalidInputError
from fairness_losses.exposure import PADDING

TEAM_A, TEAM_B = 0, 1
"""Which list an item was picked from. Items that nobody picked have the team `PADDING`."""

Item = TypeVar("Item", bound=Hashable)


def interleave(
    list_a: Sequence[Item], list_b: Sequence[Item], k: int, request_id: str, salt: str
) -> tuple[list[Item], list[int]]:
    """Interleaves the two lists of one request.

    Args:
        list_a: Item ids, best first, each once.
        list_b: The same of the other retriever.
        k: Places of the interleaved list.
        request_id: Of the request; with the same id and salt it is the same list.
        salt: Of the experiment.

    Returns:
        Items and their teams, at most `k` of each: the list ends where one of the two has nothing
        more to pick, which cannot be before `k` if both have at least `k` items.

    Raises:
        InvalidInputError: `k` is not positive.
    """
    coins = _coins([request_id], salt, _rounds(k))[0]
    lists, positions, sizes = (list_a, list_b), [0, 0], [0, 0]
    items: list[Item] = []
    teams: list[int] = []
    taken: set[Item] = set()
    while len(items) < k:
        for team in (TEAM_A, TEAM_B):
            while positions[team] < len(lists[team]) and lists[team][positions[team]] in taken:
                positions[team] += 1
        if positions[TEAM_A] == len(list_a) or positions[TEAM_B] == len(list_b):
            break
        is_even = sizes[TEAM_A] == sizes[TEAM_B]
        team = int(coins[len(items) // 2]) if is_even else int(sizes[TEAM_A] > sizes[TEAM_B])
        item = lists[team][positions[team]]
        items.append(item)
        teams.append(team)
        taken.add(item)
        sizes[team] += 1
    return items, teams


class Interleaved(NamedTuple):
    """Interleaved lists.

    Attributes:
        items: int `[num_requests, k]`; `PADDING` behind the end of a list.
        teams: int8 `[num_requests, k]`, `TEAM_A`, `TEAM_B` or `PADDING`.
    """

    items: np.ndarray
    teams: np.ndarray


def interleave_all(
    lists_a: np.ndarray, lists_b: np.ndarray, k: int, request_ids: Sequence[str], salt: str
) -> Interleaved:
    """Interleaves the lists of many requests; row by row it is what `interleave` returns.

    Args:
        lists_a: Item numbers, int `[num_requests, length]`, best first, each once in a row;
            `PADDING` behind the end of a list.
        lists_b: The same of the other retriever; its length may differ.
        k: Places of the interleaved lists.
        request_ids: Of the requests, `[num_requests]`.
        salt: Of the experiment.

    Returns:
        The lists, as long as `k`.

    Raises:
        InvalidInputError: Shapes do not fit, `k` is not positive, or an item is twice in a list.
    """
    _check_lists(lists_a, lists_b, request_ids)
    coins = _coins(request_ids, salt, _rounds(k))
    lists = (lists_a, lists_b)
    twins = (_places_in(lists_a, lists_b), _places_in(lists_b, lists_a))
    # One more column, which is never taken: who points there has nothing more to pick.
    taken = tuple(np.pad(rows == PADDING, ((0, 0), (0, 1))) for rows in lists)
    items = np.full((len(lists_a), k), PADDING, np.result_type(lists_a, lists_b))
    teams = np.full((len(lists_a), k), PADDING, np.int8)
    surplus = np.zeros(len(lists_a), np.int64)  # Picks of A less picks of B: -1, 0 or 1.
    going = np.arange(len(lists_a))
    for place in range(k):
        following = [part[going].argmin(axis=1) for part in taken]
        is_open = (following[0] < lists_a.shape[1]) & (following[1] < lists_b.shape[1])
        going = going[is_open]
        own = np.where(surplus[going] == 0, coins[going, place // 2], surplus[going] > 0)
        teams[going, place] = own
        surplus[going] += 1 - 2 * own.astype(np.int64)
        for team in (TEAM_A, TEAM_B):
            rows, positions = going[own == team], following[team][is_open][own == team]
            items[rows, place] = lists[team][rows, positions]
            taken[team][rows, positions] = True
            there = twins[team][rows, positions]
            taken[1 - team][rows[there >= 0], there[there >= 0]] = True
    return Interleaved(items, teams)


def credit(teams: np.ndarray, clicks: np.ndarray) -> np.ndarray:
    """Clicks on the items of each team.

    Args:
        teams: `[num_requests, k]`, as `Interleaved` has them.
        clicks: Clicks per place, bool or int, `[num_requests, k]`; places that nobody picked an
            item for have none.

    Returns:
        int64 `[num_requests, 2]`, of A and B.

    Raises:
        InvalidInputError: The shapes differ, or a place without an item was clicked.
    """
    if teams.shape != clicks.shape:
        raise InvalidInputError(
            f"`clicks` should have the shape of `teams`, {list(teams.shape)}. Received: "
            f"{list(clicks.shape)}."
        )
    stray = (teams == PADDING) & (clicks != 0)
    if stray.any():
        row, place = np.argwhere(stray)[0]
        raise InvalidInputError(
            f"`clicks` has a click in row {row} at place {place}, where the list holds no item: "
            "clicks and lists are of different requests."
        )
    return np.stack([np.where(teams == t, clicks, 0).sum(axis=1) for t in (TEAM_A, TEAM_B)], axis=1)


@dataclasses.dataclass(frozen=True)
class Preference:
    """Which of two retrievers users prefer.

    Attributes:
        wins_a: Users (or requests) with more clicks for A.
        wins_b: With more clicks for B.
        ties: With as many for both.
        value: Preference for B, from -0.5 (A always wins) to 0.5: the share of B's wins, where a
            tie counts as half a win, less 0.5.
        low: Lower end of its interval.
        high: Upper end of its interval.
        p_value: Of the hypothesis that, where there is a winner, both are as likely to be it.
    """

    wins_a: int
    wins_b: int
    ties: int
    value: float
    low: float
    high: float
    p_value: float


def preference(
    credits: np.ndarray, users: np.ndarray | None = None, confidence: float = 0.95
) -> Preference:
    """Tests whether one team gets more clicks.

    A sign test, exact: of the m units with a winner, the wins of B are binomial with probability
    1/2 if nobody is preferred. The interval is that of Clopper and Pearson for the share of B among
    them, scaled by m over all units; it holds given the number of ties, and leaves out 0 exactly
    where the p-value is below 1 - `confidence`. Where all are ties nothing is known, and it is
    -0.5 to 0.5.

    Args:
        credits: Clicks of A and B, `[num_requests, 2]`.
        users: Who made each request, `[num_requests]`. Clicks are then summed per user, since the
            requests of one user are not independent; without it every request counts on its own.
        confidence: Level of the interval, between 0 and 1.

    Raises:
        InvalidInputError: There is no request, or shapes do not fit.
    """
    if credits.ndim != 2 or credits.shape[1] != 2 or not len(credits):
        raise InvalidInputError(
            "`credits` should have the shape [num_requests, 2] with at least one request. "
            f"Received: {list(credits.shape)}."
        )
    difference = credits[:, TEAM_B].astype(np.float64) - credits[:, TEAM_A]
    if users is not None:
        if users.shape != difference.shape:
            raise InvalidInputError(
                f"`users` should have one entry for each of the {len(credits)} requests. "
                f"Received: {list(users.shape)}."
            )
        difference = np.bincount(np.unique(users, return_inverse=True)[1], difference)
    wins_a, wins_b = int((difference < 0).sum()), int((difference > 0).sum())
    decided, total = wins_a + wins_b, len(difference)
    value = (wins_b - wins_a) / (2 * total)
    if not decided:
        return Preference(wins_a, wins_b, total, value, -0.5, 0.5, 1.0)
    test = binomtest(wins_b, decided)
    interval = test.proportion_ci(confidence, method="exact")
    low, high = (float(end - 0.5) * decided / total for end in interval)
    return Preference(wins_a, wins_b, total - decided, value, low, high, float(test.pvalue))


def _rounds(k: int) -> int:
    if k < 1:
        raise InvalidInputError(f"`k` should be at least 1. Received: {k}.")
    return -(-k // 2)


def _coins(request_ids: Sequence[str], salt: str, rounds: int) -> np.ndarray:
    """Who picks first in every round, uint8 `[num_requests, rounds]`.

    SHAKE-256 gives as many bits as are asked for, and of more the first are the same.
    """
    salted = hashlib.shake_256(f"{salt}\0".encode())
    num_bytes = -(-rounds // 8)

    def digest(request_id: str) -> bytes:
        hashed = salted.copy()
        hashed.update(request_id.encode())
        return hashed.digest(num_bytes)

    hashes = np.frombuffer(b"".join(map(digest, request_ids)), np.uint8)
    return np.unpackbits(hashes.reshape(-1, num_bytes), axis=1)[:, :rounds]


def _places_in(lists: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Where each item of a list is on the other one of its row, -1 if it is not there."""
    both = np.hstack([others, lists])
    order = np.argsort(both, axis=1, kind="stable")
    ordered = np.take_along_axis(both, order, axis=1)
    # An item that both lists have is there twice, that of `others` first.
    is_twin = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PADDING)
    rows, places = np.nonzero(is_twin)
    found = np.full(lists.shape, -1)
    found[rows, order[rows, places + 1] - others.shape[1]] = order[rows, places]
    return found


def _check_lists(lists_a: np.ndarray, lists_b: np.ndarray, request_ids: Sequence[str]) -> None:
    for name, lists in (("lists_a", lists_a), ("lists_b", lists_b)):
        if lists.ndim != 2 or len(lists) != len(request_ids):
            raise InvalidInputError(
                f"`{name}` should have the shape [{len(request_ids)}, length], one row for each of "
                f"`request_ids`. Received: {list(lists.shape)}."
            )
        ordered = np.sort(lists, axis=1)
        twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PADDING)
        if twice.any():
            row, place = np.argwhere(twice)[0]
            raise InvalidInputError(
                f"`{name}` should hold every item once per row. Row {row} holds item "
                f"{ordered[row, place]} twice."
            )
