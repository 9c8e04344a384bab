"""Splits against hand-computed ones, and the join that precedes them."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.config import SplitConfig
from pipelines.examples.joins import in_order, look_up, with_hashes
from pipelines.examples.splits import (
    ORIGIN,
    USER_ROW,
    assign_parts,
    id_hashes,
    pair_hashes,
    time_thresholds,
)
from pipelines.readers.chunks import FILE, ROW

TRAIN, VALIDATION, TEST = 0, 1, 2


def _by_time(times, validation=0.2, test=0.2):
    split = SplitConfig(by="time", validation=validation, test=test)
    seconds, counts = np.unique(times, return_counts=True)
    thresholds = time_thresholds(seconds, counts, split)
    table = pa.table({"timestamp": pa.array(times, pa.int64())})
    return assign_parts(table, split, thresholds, np.zeros(len(times), np.uint64)).tolist()


def test_time_split_takes_the_latest():
    assert _by_time([1, 5, 2, 4, 3]) == [0, 2, 0, 1, 0]


def test_interactions_of_the_same_second_stay_together():
    """Of ten, two are for the test; but three are in the last second."""
    assert _by_time([1, 1, 1, 1, 1, 2, 3, 9, 9, 9]) == [0] * 5 + [1, 1] + [2] * 3


def test_time_split_without_validation():
    assert _by_time([1, 2, 3, 4, 5], validation=0.0) == [0, 0, 0, 0, 2]


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 30), min_size=1, max_size=60),
    st.sampled_from([(0.1, 0.1), (0.3, 0.2), (0.0, 0.5), (0.45, 0.5)]),
)
def test_test_is_strictly_after_validation_is_strictly_after_training(times, shares):
    parts = np.array(_by_time(times, *shares))
    times = np.array(times)
    assert (parts == TEST).sum() >= round(shares[1] * len(times))
    for earlier, later in ((TRAIN, VALIDATION), (VALIDATION, TEST), (TRAIN, TEST)):
        if (parts == earlier).any() and (parts == later).any():
            assert times[parts == earlier].max() < times[parts == later].min()


@pytest.mark.parametrize(("n", "expected"), [(1, [0, 0, 1, 2, 0, 0]), (2, [0] * 6)])
def test_last_n_spares_users_with_too_few(n, expected):
    """User 0 has four interactions, user 1 two: fewer than 2 n + 1 = 3."""
    table = pa.table({USER_ROW: pa.array([0, 0, 0, 0, 1, 1], pa.int32())})
    parts = assign_parts(table, SplitConfig(by="last_n", n=n), None, np.zeros(6, np.uint64))
    assert parts.tolist() == expected


def test_last_n_of_nothing():
    table = pa.table({USER_ROW: pa.array([], pa.int32())})
    assert not len(assign_parts(table, SplitConfig(by="last_n"), None, np.zeros(0, np.uint64)))


def test_hash_split_follows_the_place_in_the_unit_interval():
    hashes = (np.array([0.05, 0.15, 0.29, 0.31, 0.99]) * 2.0**64).astype(np.uint64)
    split = SplitConfig(by="hash", validation=0.2, test=0.1)
    assert assign_parts(pa.table({}), split, None, hashes).tolist() == [2, 1, 1, 0, 0]


def test_hashes_are_stable_and_differ_by_seed():
    """The expected numbers pin them: a change would move data between training and test."""
    users, item = pa.array(["u1", "u2"]), pa.array(["i1", "i1"])
    hashes = id_hashes(users, 42)
    assert hashes.tolist() == [3609983857535664567, 8172831378312741367]
    assert (hashes != id_hashes(users, 43)).all()
    pairs = pair_hashes(hashes, id_hashes(item, 42))
    assert pairs.tolist() == [4602994810130078231, 4689063650868355927]


def test_hash_shares_are_close_to_those_asked_for():
    """Of 40,000 pairs 10 % is 4,000 with a standard deviation of 60."""
    ids = id_hashes(pa.array(np.arange(200).astype(str)), 1)
    hashes = pair_hashes(np.repeat(ids, 200), np.tile(ids, 200))
    split = SplitConfig(by="hash", validation=0.1, test=0.1)
    counts = np.bincount(assign_parts(pa.table({}), split, None, hashes))
    np.testing.assert_allclose(counts, [32_000, 4_000, 4_000], atol=300)


def _log(rows):
    names = ["user_id", "item_id", "timestamp", FILE, ROW]
    return pa.table(list(map(list, zip(*rows, strict=True))), names=names)


_USERS = with_hashes(pa.table({"user_id": ["u1", "u2"]}), 1)
_ITEMS = with_hashes(pa.table({"item_id": ["i1", "i2"]}), 1)
_ROWS = [
    ("u2", "i1", 5, 0, 1),
    ("u1", "i2", 7, 0, 2),
    ("u1", "i1", 7, 0, 3),
    ("u1", "i1", 7, 1, 1),
    ("u1", "i1", 3, 1, 2),
    ("u9", "i1", 3, 1, 3),
    ("u1", "i9", 3, 1, 4),
]


@settings(deadline=None)
@given(st.permutations(_ROWS))
def test_join_orders_rows_and_drops_repetitions_whatever_order_they_come_in(rows):
    found = look_up(_log(rows), _USERS, _ITEMS)
    ordered, repeated = in_order(found.good)
    origins = [divmod(origin, 1 << 40) for origin in ordered[ORIGIN].to_pylist()]
    assert origins == [(1, 2), (0, 3), (0, 2), (0, 1)]
    assert repeated == 1
    reasons = {r[ROW]: r["reason"] for r in found.dead.to_pylist()}
    assert reasons == {
        3: "the user is not in the users table",
        4: "the item is not in the items table",
    }


def test_without_times_a_pair_counts_once():
    found = look_up(_log(_ROWS).drop(["timestamp"]), _USERS, _ITEMS)
    ordered, repeated = in_order(found.good)
    assert len(ordered) == 3
    assert repeated == 2
