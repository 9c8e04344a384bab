from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from fairness_losses.errors import InvalidInputError
from fairness_losses.exposure import PADDING
from serving.experiments.interleaving import (
    TEAM_A,
    TEAM_B,
    credit,
    interleave,
    interleave_all,
    preference,
)

IDS = [f"request-{i}" for i in range(4000)]


def rankings(min_size=0):
    """Lists of items, best first; those of two retrievers have some in common."""
    return st.lists(st.integers(0, 30), unique=True, min_size=min_size, max_size=12)


def as_array(lists, width=12):
    return np.array([[*row, *[PADDING] * (width - len(row))] for row in lists])


def test_every_run_of_the_coins_gives_the_draft_worked_out_by_hand():
    # A would show 1, 2, 3, 5 and B 2, 1, 4, 6. Whoever begins, the first round takes 1 for A and 2
    # for B; in the second round the best that is left are 3 and 4.
    drafts = {
        (1, 2, 3, 4): (0, 1, 0, 1),
        (1, 2, 4, 3): (0, 1, 1, 0),
        (2, 1, 3, 4): (1, 0, 0, 1),
        (2, 1, 4, 3): (1, 0, 1, 0),
    }
    found = [interleave([1, 2, 3, 5], [2, 1, 4, 6], 4, request_id, "salt") for request_id in IDS]
    counts = dict.fromkeys(drafts, 0)
    for items, teams in found:
        assert drafts[tuple(items)] == tuple(teams)
        counts[tuple(items)] += 1
    # Both coins are fair and independent.
    assert chisquare(list(counts.values())).pvalue > 0.001


def test_an_item_that_is_gone_is_passed_over():
    # If A begins it takes 1; B's first two are then 1, which is gone, and 2.
    drafts = {((1, 2), (0, 1)), ((1, 2), (1, 0))}
    found = {
        tuple(map(tuple, interleave([1, 2], [1, 2], 2, request_id, "salt"))) for request_id in IDS
    }
    assert found == drafts


@given(
    st.lists(st.tuples(rankings(), rankings()), min_size=1, max_size=8),
    st.integers(1, 14),
    st.text(max_size=5),
)
def test_many_requests_at_once_are_what_each_is_alone(pairs, k, salt):
    ids = IDS[: len(pairs)]
    lists_a, lists_b = (as_array(side) for side in zip(*pairs, strict=True))
    together = interleave_all(lists_a, lists_b, k, ids, salt)
    for row, (a, b) in enumerate(pairs):
        items, teams = interleave(a, b, k, ids[row], salt)
        padding = [PADDING] * (k - len(items))
        assert together.items[row].tolist() == items + padding
        assert together.teams[row].tolist() == teams + padding


@given(rankings(), rankings(), st.integers(1, 14), st.sampled_from(IDS))
def test_a_draft_is_fair(list_a, list_b, k, request_id):
    items, teams = interleave(list_a, list_b, k, request_id, "salt")
    assert len(set(items)) == len(items)
    # Neither team is ever more than one pick ahead, and after every round they are even.
    ahead = np.cumsum([1 if team == TEAM_A else -1 for team in teams])
    assert (np.abs(ahead) <= 1).all()
    assert (ahead[1::2] == 0).all()
    for team, own in ((TEAM_A, list_a), (TEAM_B, list_b)):
        picked = [item for item, t in zip(items, teams, strict=True) if t == team]
        # Each team keeps the order of its list and has picked the best there was.
        places = [own.index(item) for item in picked]
        assert places == sorted(places)
        for place, item in zip(places, picked, strict=True):
            assert set(own[:place]) <= set(items[: items.index(item)])


@given(rankings(min_size=1), rankings(min_size=1))
def test_a_list_is_as_long_as_wanted_if_both_are(list_a, list_b):
    k = min(len(list_a), len(list_b))
    assert len(interleave(list_a, list_b, k, "request", "salt")[0]) == k


@given(rankings(min_size=1), st.integers(1, 12))
def test_equal_lists_come_out_as_they_are(ranking, k):
    for request_id in IDS[:20]:
        assert interleave(ranking, ranking, k, request_id, "salt")[0] == ranking[:k]


def test_equal_lists_prefer_nobody_however_users_click():
    lists = np.tile(np.arange(10), (len(IDS), 1))
    drawn = interleave_all(lists, lists, 10, IDS, "salt")
    clicks = np.zeros(lists.shape, int)
    clicks[:, [0, 3, 4]] = 1  # Places of both kinds: first and second of a round.
    assert preference(credit(drawn.teams, clicks)).p_value > 0.01
    # Every place is as likely to be A's as B's: 0.5 within four standard errors.
    assert np.abs((drawn.teams == TEAM_B).mean(axis=0) - 0.5).max() < 4 * 0.5 / len(IDS) ** 0.5


def test_a_request_has_its_list_again_and_another_under_another_salt():
    ranking = (list(range(20)), list(range(10, 30)))
    drawn = [interleave(*ranking, 20, "request", salt) for salt in ("one", "one", "two")]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_longer_list_begins_as_a_shorter_one():
    ranking = (list(range(40)), list(range(20, 60)))
    long, short = (interleave(*ranking, k, "request", "salt")[0] for k in (40, 7))
    assert long[:7] == short


def test_clicks_are_credited_to_the_team_of_the_item():
    teams = np.array([[0, 1, 1, 0], [1, 0, -1, -1]])
    clicks = np.array([[True, False, True, True], [True, False, False, False]])
    assert credit(teams, clicks).tolist() == [[2, 1], [0, 1]]


def test_a_click_on_no_item_is_refused():
    with pytest.raises(InvalidInputError, match="row 1 at place 2, where the list holds no item"):
        credit(np.array([[0, 1, 1], [1, 0, -1]]), np.array([[0, 0, 0], [0, 0, 1]]))


def test_the_preference_is_a_sign_test():
    # Of 10 requests B wins 8, A wins 1 and one is a tie.
    credits = np.array([[0, 1]] * 8 + [[2, 1]] + [[1, 1]])
    found = preference(credits)
    assert (found.wins_a, found.wins_b, found.ties) == (1, 8, 1)
    # (8 + 1/2) / 10 - 1/2, and two-sided: 2 (1 + 9) / 2^9.
    assert found.value == pytest.approx(0.35)
    assert found.p_value == pytest.approx(2 * 10 / 512)
    # Clopper-Pearson of 8 in 9 is 0.5175 to 0.9972, of which 9 in 10 are decided.
    assert found.low == pytest.approx(0.9 * 0.0175, abs=1e-4)
    assert found.high == pytest.approx(0.9 * 0.4972, abs=1e-4)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=60))
def test_interval_and_test_agree_and_names_do_not_matter(pairs):
    credits = np.array(pairs)
    found, swapped = preference(credits), preference(credits[:, ::-1])
    assert -0.5 <= found.low <= found.value <= found.high <= 0.5
    assert (found.low > 0 or found.high < 0) == (found.p_value < 0.05)
    assert swapped.value == -found.value
    assert swapped.p_value == pytest.approx(found.p_value)
    assert swapped.low == pytest.approx(-found.high)


def test_ten_thousand_requests_of_one_user_are_one_vote():
    credits = np.array([[0, 1]] * 10_000 + [[1, 0]] * 6)
    users = np.array(["robot"] * 10_000 + list("abcdef"))
    found = preference(credits, users)
    assert (found.wins_a, found.wins_b) == (6, 1)


def test_without_a_winner_nothing_is_known():
    found = preference(np.zeros((5, 2)))
    assert (found.value, found.low, found.high, found.p_value) == (0, -0.5, 0.5, 1)


@pytest.mark.parametrize(
    ("lists_a", "lists_b", "k", "message"),
    [
        ([[1, 2]], [[1, 2], [3, 4]], 2, r"`lists_a` should have the shape \[2, length\]"),
        ([[1, 2], [3, 3]], [[1, 2], [3, 4]], 2, "Row 1 holds item 3 twice"),
        ([[1, 2], [3, 4]], [[1, 2], [3, 4]], 0, "`k` should be at least 1. Received: 0"),
    ],
)
def test_lists_that_cannot_be_drafted_are_refused(lists_a, lists_b, k, message):
    with pytest.raises(InvalidInputError, match=message):
        interleave_all(np.array(lists_a), np.array(lists_b), k, ["r", "s"], "salt")


def test_credits_and_users_have_to_fit():
    with pytest.raises(InvalidInputError, match="at least one request"):
        preference(np.zeros((0, 2)))
    with pytest.raises(InvalidInputError, match="one entry for each of the 3 requests"):
        preference(np.zeros((3, 2)), np.zeros(2))
