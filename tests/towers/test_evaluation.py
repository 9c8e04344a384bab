"""Exact evaluation: the lists it makes, and metrics against plain NumPy."""

import numpy as np
import pytest

from fairness_losses.browsing import dcg_weights
from fairness_losses.exposure import exposure_ratio, list_exposure
from fairness_losses.groups import Groups
from towers import evaluation
from towers.catalogue import EntityTable
from towers.evaluation import HeldOut, Positives, evaluate, exact_lists

NONE_SEEN = np.zeros(0, np.int64)


def seen(pairs: list[tuple[int, int]], num_users: int) -> Positives:
    rows, items = np.array(pairs, np.int64).reshape(-1, 2).T
    return Positives.from_pairs(rows, items, num_users)


def lists_of(query, candidate, positives: Positives, k: int) -> np.ndarray:
    query, candidate = np.asarray(query, np.float32), np.asarray(candidate, np.float32)
    return np.concatenate([lists for _, lists in exact_lists(query, candidate, positives, k)])


class TestExactLists:
    # The score of item i is its vector: best to worst 2, 0, 3, 1.
    CANDIDATE = ((3.0,), (1.0,), (4.0,), (2.0,))

    def test_best_items_come_first(self):
        lists = lists_of([[1.0], [-1.0]], self.CANDIDATE, seen([], 2), 3)
        np.testing.assert_array_equal(lists, [[2, 0, 3], [1, 3, 0]])

    def test_seen_items_are_left_out_for_the_user_who_saw_them(self):
        lists = lists_of([[1.0], [1.0]], self.CANDIDATE, seen([(0, 2), (0, 3)], 2), 2)
        np.testing.assert_array_equal(lists, [[0, 1], [2, 0]])

    def test_short_lists_end_with_minus_1(self):
        lists = lists_of([[1.0]], self.CANDIDATE, seen([(0, 0), (0, 1), (0, 3)], 1), 3)
        np.testing.assert_array_equal(lists, [[2, -1, -1]])

    def test_a_user_who_saw_everything_has_an_empty_list(self):
        lists = lists_of([[1.0]], self.CANDIDATE, seen([(0, i) for i in range(4)], 1), 2)
        np.testing.assert_array_equal(lists, [[-1, -1]])

    def test_ties_go_by_row(self):
        lists = lists_of([[1.0]], [(1.0,), (2.0,), (1.0,), (2.0,), (1.0,)], seen([], 1), 5)
        np.testing.assert_array_equal(lists, [[1, 3, 0, 2, 4]])

    @pytest.mark.parametrize("scores_per_block", [1, 35, 100])
    def test_the_size_of_blocks_does_not_matter(self, scores_per_block, monkeypatch):
        """10 users and 15 items: blocks of 1, 2 and 6 users."""
        rng = np.random.default_rng(0)
        query, candidate = rng.normal(size=(10, 4)), rng.normal(size=(15, 4))
        positives = seen([(u, i) for u in range(10) for i in range(15) if rng.random() < 0.4], 10)
        whole = lists_of(query, candidate, positives, 12)
        monkeypatch.setattr(evaluation, "_SCORES_PER_BLOCK", scores_per_block)
        np.testing.assert_array_equal(lists_of(query, candidate, positives, 12), whole)
        assert (whole == -1).any()

    def test_blocks_say_where_they_begin(self, monkeypatch):
        monkeypatch.setattr(evaluation, "_SCORES_PER_BLOCK", 8)
        query, candidate = np.ones((5, 1), np.float32), np.array(self.CANDIDATE, np.float32)
        blocks = [(start, len(b)) for start, b in exact_lists(query, candidate, seen([], 5), 2)]
        assert blocks == [(0, 2), (2, 2), (4, 1)]


class TestPositives:
    def test_repetitions_count_once(self):
        positives = seen([(1, 5), (0, 3), (1, 5), (1, 2)], 3)
        np.testing.assert_array_equal(positives.counts(), [1, 2, 0])

    def test_pairs_of_some_users(self):
        positives = seen([(0, 1), (1, 0), (1, 2), (2, 2)], 3)
        np.testing.assert_array_equal(positives.pairs(1, 3), [[0, 0], [0, 2], [1, 2]])

    def test_which_items_of_lists_they_hold(self):
        positives = seen([(0, 1), (1, 0), (1, 2), (2, 2)], 3)
        lists = np.array([[0, 1, 2], [2, 1, -1]])
        np.testing.assert_array_equal(positives.holds(1, lists), [[1, 0, 1], [1, 0, 0]])

    def test_no_list_holds_anything_of_users_without_items(self):
        positives = seen([(0, 1)], 3)
        assert not positives.holds(1, np.array([[0, 1], [1, -1]])).any()

    def test_the_end_of_a_list_is_no_item_of_the_user_before(self):
        """-1 of user 1 must not be read as the last item of user 0."""
        positives = seen([(0, 5)], 2)
        assert not positives.holds(0, np.array([[-1, -1], [-1, 5]])).any()


class TestHeldOut:
    USERS = EntityTable(
        ids=np.array(list("abcde"), object),
        columns={"user_id": np.array([1, 2, 3, 4, 5])},
        labels={"gender": np.array(["F", "M", "F", "M", "unknown"], object)},
    )

    def test_users_without_anything_held_out_are_left_out(self):
        held_out = HeldOut.build(
            self.USERS,
            relevant=(np.array([3, 1, 3]), np.array([7, 8, 9])),
            seen=(np.array([0, 1, 3]), np.array([1, 2, 3])),
            max_users=10,
        )
        assert len(held_out) == 2
        np.testing.assert_array_equal(held_out.columns["user_id"], [2, 4])
        np.testing.assert_array_equal(held_out.slices["gender"], ["M", "M"])
        np.testing.assert_array_equal(held_out.relevant.counts(), [1, 2])
        np.testing.assert_array_equal(held_out.relevant.items, [8, 7, 9])
        np.testing.assert_array_equal(held_out.seen.items, [2, 3])

    def test_too_many_users_are_thinned_out_evenly(self):
        everyone = np.arange(5)
        held_out = HeldOut.build(self.USERS, (everyone, everyone), (everyone, everyone + 5), 3)
        np.testing.assert_array_equal(held_out.columns["user_id"], [1, 3, 5])

    def test_what_was_chosen_before_is_not_relevant_again(self):
        """User 1 chose item 8 in training, too, and user 0 nothing but such an item."""
        held_out = HeldOut.build(
            self.USERS,
            relevant=(np.array([1, 1, 0]), np.array([8, 9, 4])),
            seen=(np.array([1, 0]), np.array([8, 4])),
            max_users=10,
        )
        np.testing.assert_array_equal(held_out.columns["user_id"], [2])
        np.testing.assert_array_equal(held_out.relevant.items, [9])

    def test_nothing_held_out_is_nobody_to_evaluate(self):
        held_out = HeldOut.build(
            self.USERS, (NONE_SEEN, NONE_SEEN), (np.array([1]), np.array([2])), 10
        )
        assert len(held_out) == 0


def random_case() -> tuple[np.ndarray, np.ndarray, HeldOut, Groups]:
    rng = np.random.default_rng(0)
    num_users, num_items = 30, 25
    chosen = rng.random((num_users, num_items))
    relevant, seen_before = chosen < 0.15, chosen > 0.6
    relevant[:, 0] |= ~relevant.any(axis=1)
    seen_before &= ~relevant
    held_out = HeldOut(
        columns={},
        slices={"gender": np.array([("F", "M", "unknown")[u % 3] for u in range(num_users)])},
        relevant=Positives.from_pairs(*np.nonzero(relevant), num_users),
        seen=Positives.from_pairs(*np.nonzero(seen_before), num_users),
    )
    groups = Groups.from_labels([("a", "b", "b", "unknown")[i % 4] for i in range(num_items)])
    query = rng.normal(size=(num_users, 6)).astype(np.float32)
    return query, rng.normal(size=(num_items, 6)).astype(np.float32), held_out, groups


def brute_force(query, candidate, held_out: HeldOut, k: int) -> tuple[list, list, list]:
    """Lists, recall and NDCG of every user, by loops over plain Python."""
    lists, recall, ndcg = [], [], []
    for user, vector in enumerate(query):
        known = set(held_out.seen.items[held_out.seen.rows == user])
        wanted = set(held_out.relevant.items[held_out.relevant.rows == user])
        best = [i for i in np.argsort(-(candidate @ vector), kind="stable") if i not in known][:k]
        gains = [1 / np.log2(rank + 2) for rank, item in enumerate(best) if item in wanted]
        ideal = sum(1 / np.log2(rank + 2) for rank in range(min(k, len(wanted))))
        lists.append(best + [-1] * (k - len(best)))
        recall.append(len(gains) / min(k, len(wanted)))
        ndcg.append(sum(gains) / ideal)
    return lists, recall, ndcg


def test_metrics_agree_with_brute_force_overall_per_slice_and_per_group():
    query, candidate, held_out, groups = random_case()
    target = np.array([0.4, 0.6, 0.0])
    metrics = evaluate(query, candidate, held_out, [3, 8], groups, target, min_users=1)
    for k in (3, 8):
        lists, recall, ndcg = brute_force(query, candidate, held_out, k)
        for name, values in (("recall", np.array(recall)), ("ndcg", np.array(ndcg))):
            assert metrics[f"{name}@{k}"] == pytest.approx(values.mean())
            for gender in ("F", "M", "unknown"):
                expected = values[held_out.slices["gender"] == gender].mean()
                assert metrics[f"{name}@{k}[gender={gender}]"] == pytest.approx(expected)
    exposure = list_exposure(np.array(lists), groups.membership, dcg_weights(8)).sum(axis=0)
    ratios = exposure_ratio(exposure, target)
    assert metrics["exposure_ratio[a]"] == pytest.approx(ratios[0])
    assert metrics["exposure_ratio[b]"] == pytest.approx(ratios[1])
    assert len(metrics) == 2 * 2 * 4 + 2


def test_without_a_target_exposure_is_not_measured():
    query, candidate, held_out, groups = random_case()
    metrics = evaluate(query, candidate, held_out, [3], groups, None)
    assert metrics == evaluate(query, candidate, held_out, [3])
    assert not any(name.startswith("exposure") for name in metrics)


def test_a_cutoff_beyond_the_catalogue_takes_all_of_it():
    """Everything unseen is on the list, so that all that is relevant is found."""
    query, candidate, held_out, _ = random_case()
    assert evaluate(query, candidate, held_out, [5000])["recall@5000"] == 1.0
