"""What an index costs: recall, shares, their intervals and the limit."""

import numpy as np
import pytest

from serving.index_audit import (
    FEWEST_LISTED,
    Comparison,
    ShareChangedError,
    check_shares,
    describe,
    wilson_interval,
)

GROUPS = ("a", "b", "c"), np.array([0, 0, 1, 2])


def _compared() -> Comparison:
    # Query 0 finds one of (0, 1), and its list is short; query 1 finds both of (0, 2) and the 1,
    # which is not on the exact list. Item 3 is never listed.
    return Comparison.of(np.array([[0, 1], [2, 0]]), np.array([[0, -1, -1], [0, 2, 1]]), *GROUPS)


def test_recall_worked_by_hand():
    compared = _compared()
    # Group a, items 0 and 1, is listed 3 times and found 2 times.
    assert compared.recall == 0.75
    recalls = compared.group_recalls()
    assert recalls["a"]["value"] == pytest.approx(2 / 3)
    assert recalls["a"]["count"] == 3
    assert recalls["b"]["value"] == 1
    assert recalls["c"] is None


def test_shares_worked_by_hand():
    # Exact lists have a 3 times of 4, the index's 3 times of 4 as well.
    shares = _compared().shares(seed=0)
    assert shares["a"]["exact"] == shares["a"]["found"] == 0.75
    assert shares["a"]["change"]["value"] == 0
    assert shares["a"]["change"]["count"] == 3
    assert shares["c"] is None


def test_a_short_list_is_not_full():
    exact = np.array([[0, 1], [2, 0]])
    found = np.array([[0, -1], [0, 1]])
    assert Comparison.of(exact, found, *GROUPS).is_full.tolist() == [False, True]


def test_fewer_columns_than_exact_lists_are_short_lists():
    compared = Comparison.of(np.array([[0, 1], [2, 0]]), np.array([[0], [0]]), *GROUPS)
    assert not compared.is_full.any()
    assert compared.recall == 0.5


def test_an_exact_list_may_be_short_too():
    # Query 1's exact list holds the item 3 alone. The place that it lacks is nobody's: were it
    # taken for a row, it would be the item 3 on the list of query 0.
    exact, found = np.array([[3, 1], [3, -1]]), np.array([[3, 0], [3, -1]])
    compared = Comparison.of(exact, found, *GROUPS)
    assert compared.listed.tolist() == [[1, 0, 1], [0, 0, 1]]
    assert compared.recall == pytest.approx(2 / 3)
    assert compared.is_full.all()


def test_wilson_interval_of_independent_places_is_the_textbook_one():
    # 90 of 100, one per query: (0.8256, 0.9448) by Wilson's formula at 1.96.
    hits = np.r_[np.ones(90), np.zeros(10)]
    assert wilson_interval(hits, np.ones(100)) == pytest.approx((0.8256, 0.9448), abs=1e-3)


def test_places_that_are_lost_together_count_less():
    # The same 90 of 100, but lost by one query of ten: as good as ten places.
    hits, listed = np.r_[np.full(9, 10), 0], np.full(10, 10)
    low, high = wilson_interval(hits, listed)
    alone = wilson_interval(np.r_[np.ones(90), np.zeros(10)], np.ones(100))
    assert low < alone[0] < alone[1] < high


def test_finding_everything_is_no_proof_of_a_recall_of_one():
    low, high = wilson_interval(np.full(20, 5), np.full(20, 5))
    # Wilson's lower end for 100 of 100: 1 / (1 + 1.96² / 100).
    assert low == pytest.approx(1 / (1 + 1.959964**2 / 100))
    assert high == 1


def test_the_interval_of_a_recall_holds_it_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        # Places of a query share their luck: recalls of queries are spread around .9.
        hits = rng.binomial(20, rng.beta(9, 1, size=200))
        low, high = wilson_interval(hits, np.full(200, 20))
        held += low <= 0.9 <= high
    assert 0.92 < held / 400 < 0.98


def _lists(num_queries: int, lost: int) -> Comparison:
    """Lists of 0 to 9, the last the small group, whose item the first `lost` queries miss."""
    codes = np.array([0] * 9 + [1] + [0])
    exact = np.tile(np.arange(10), [num_queries, 1])
    found = exact.copy()
    found[:lost, 9] = 10
    return Comparison.of(exact, found, ["large", "small"], codes)


def test_a_group_that_falls_short_is_named_although_all_items_do_not():
    report = describe(_lists(FEWEST_LISTED, lost=FEWEST_LISTED // 5), target=0.95, seed=0)
    assert report["recall"]["overall"] == pytest.approx(0.98)
    assert report["short_groups"] == ["small"]
    assert not report["target_reached"]


def test_a_group_with_too_few_places_is_reported_but_not_judged():
    report = describe(_lists(FEWEST_LISTED - 1, lost=FEWEST_LISTED // 5), target=0.95, seed=0)
    assert report["groups"]["small"]["recall"]["value"] < 0.95
    assert report["short_groups"] == []
    assert report["target_reached"]


def test_a_share_that_falls_by_more_than_the_limit_is_refused():
    # The small group has a tenth of the places and loses 100 of 500.
    groups = describe(_lists(500, lost=100), target=0.95, seed=0)["groups"]
    change = groups["small"]["share"]["change"]
    assert change["value"] == pytest.approx(-0.2)
    assert change["low"] < -0.2 < change["high"] < 0
    check_shares(groups, limit=0.21)
    with pytest.raises(ShareChangedError, match=r"`small` has 10.00% .* and 8.00% .*, -20.0%"):
        check_shares(groups, limit=0.19)


def test_a_share_of_few_places_stops_nothing():
    check_shares(describe(_lists(FEWEST_LISTED - 1, 200), 0.95, seed=0)["groups"], limit=0.1)
