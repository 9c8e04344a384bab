"""Users whose exact lists are measured: who they are, and the exposure in their lists."""

import numpy as np
import pytest

from fairness_losses.browsing import dcg_weights
from fairness_losses.exposure import list_exposure
from fairness_losses.groups import Groups
from towers.audience import Audience
from towers.evaluation import exact_lists

GROUPS = Groups.from_labels(["a", "a", "b", "b", "unknown"])
CANDIDATE = np.array([[5.0], [4.0], [3.0], [2.0], [1.0]], np.float32)
"""Items in the order of their rows, and in the opposite one for a query below 0."""

QUERY = np.array([[1.0], [1.0], [-1.0]], np.float32)
SLICES = np.array([[1, 0], [0, 1], [0, 1]], np.float32)
SECOND, THIRD = 1 / np.log2(3), 0.5
"""Weights of the second and third rank; that of the first is 1."""


def audience(seen=((), ()), slices=SLICES, max_users=100) -> Audience:
    columns = {"user_id": np.arange(len(slices)), "history": np.arange(2 * len(slices)) % 7}
    columns["history"] = columns["history"].reshape(-1, 2)
    pairs = tuple(np.array(rows, int) for rows in seen)
    return Audience.build(columns, slices, pairs, max_users)


def test_exposure_of_every_slice_by_hand():
    """User 0 is listed a, a, b and the users of the second slice a, a, b and unknown, b, b."""
    exposure = audience().exposure(QUERY, CANDIDATE, GROUPS, depth=3)
    first = [1 + SECOND, THIRD, 0]
    second = [1 + SECOND, THIRD + SECOND + THIRD, 1]
    np.testing.assert_allclose(exposure, [first, second])


def test_what_users_have_seen_is_left_out_of_their_lists():
    """Without items 0 and 1, user 0 is listed b, b, unknown; without item 4, user 2 b, b, a."""
    seen = ([0, 2, 0], [0, 4, 1])
    exposure = audience(seen).exposure(QUERY, CANDIDATE, GROUPS, depth=3)
    first = [0, 1 + SECOND, THIRD]
    second = [1 + SECOND + THIRD, THIRD + 1 + SECOND, 0]
    np.testing.assert_allclose(exposure, [first, second])


def test_a_list_that_is_shorter_because_all_else_was_seen_counts_as_far_as_it_goes():
    exposure = audience(([0] * 4, [0, 1, 2, 3])).exposure(QUERY, CANDIDATE, GROUPS, depth=3)
    np.testing.assert_allclose(exposure[0], [0, 0, 1])


def test_with_no_slice_everybody_is_in_one():
    found = audience(slices=np.zeros((3, 0), np.float32))
    of_slices = audience().exposure(QUERY, CANDIDATE, GROUPS, depth=3)
    exposure = found.exposure(QUERY, CANDIDATE, GROUPS, depth=3)
    np.testing.assert_allclose(exposure, of_slices.sum(axis=0, keepdims=True))


def test_a_user_of_two_slices_counts_in_both():
    exposure = audience(slices=np.array([[1, 1], [0, 0], [0, 0]], np.float32)).exposure(
        QUERY, CANDIDATE, GROUPS, depth=1
    )
    np.testing.assert_allclose(exposure, [[1, 0, 0], [1, 0, 0]])


def test_users_are_taken_evenly_from_the_table_with_all_that_is_theirs():
    """Three of nine are the first, the middle one and the last."""
    slices = np.zeros((9, 0), np.float32)
    found = audience(([0, 3, 4, 8, 8], [1, 1, 2, 3, 0]), slices, max_users=3)
    np.testing.assert_array_equal(found.columns["user_id"], [0, 4, 8])
    np.testing.assert_array_equal(found.columns["history"], [[0, 1], [1, 2], [2, 3]])
    np.testing.assert_array_equal(found.slices, np.ones((3, 1)))
    assert found.seen.pairs(0, 3).tolist() == [[0, 1], [1, 2], [2, 0], [2, 3]]


def test_of_a_small_slice_there_are_more_who_count_in_it_alone():
    """Both slices lack some of their 100 among 100 users that are taken evenly of 1,000."""
    slices = np.zeros((1000, 2), np.float32)
    slices[::2, 0] = 1
    slices[:300:2, 1] = 1
    taken = np.linspace(0, 999, 100).astype(int)
    found = audience(slices=slices, max_users=100)
    np.testing.assert_array_equal(found.columns["user_id"][:100], taken)
    np.testing.assert_array_equal(found.slices[:100], slices[taken])
    assert found.slices[:, 1].sum() == 100
    assert len(set(found.columns["user_id"])) == len(found.columns["user_id"])
    of_first = found.slices[100:, 0].astype(bool)
    assert not (of_first & found.slices[100:, 1].astype(bool)).any()


def test_at_most_so_many_users_as_there_are():
    np.testing.assert_array_equal(audience(max_users=3).columns["user_id"], [0, 1, 2])


@pytest.mark.parametrize("depth", [1, 5])
def test_users_in_blocks_add_up_to_what_one_list_after_the_other_does(depth, monkeypatch):
    """Blocks of two users; the number of users is odd."""
    monkeypatch.setattr("towers.evaluation._SCORES_PER_BLOCK", 10)
    rng = np.random.default_rng(0)
    slices = rng.integers(0, 2, (7, 2)).astype(np.float32)
    query, candidate = rng.normal(size=(7, 3)), rng.normal(size=(5, 3))
    query, candidate = query.astype(np.float32), candidate.astype(np.float32)
    found = audience((rng.integers(0, 7, 9), rng.integers(0, 5, 9)), slices)
    exposure = found.exposure(query, candidate, GROUPS, depth)
    lists = np.concatenate([rows for _, rows in exact_lists(query, candidate, found.seen, depth)])
    each = list_exposure(lists, GROUPS.membership, dcg_weights(depth))
    np.testing.assert_allclose(exposure, slices.T @ each)
    assert exposure.shape == (2, 3)
