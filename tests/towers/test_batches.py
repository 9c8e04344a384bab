"""Batches of pairs and of users: what is in them, shuffling, resuming, histories."""

import numpy as np
import pytest

from towers.batches import PairBatches, UserBatches, epochs_of, steps_per_epoch
from towers.examples import Examples
from towers.user_choices import UserChoices

EXAMPLES = Examples(
    query={"user_id": np.arange(10) * 10},
    users=np.zeros(10, object),
    candidates=np.arange(10, dtype=np.int32),
)
NO_SLICES = np.zeros((10, 0), np.float32)


class TestPairs:
    def batches(self, first_epoch: int = 0, seed: int = 1, batch_size: int = 4) -> list[list[int]]:
        pairs = PairBatches(EXAMPLES, np.arange(10), {}, NO_SLICES, None, None)
        batches = list(epochs_of(pairs, batch_size, seed, first_epoch, 3).as_numpy_iterator())
        for batch in batches:
            np.testing.assert_array_equal(batch["query"]["user_id"], batch["candidate"] * 10)
        return [batch["candidate"].tolist() for batch in batches]

    def test_every_epoch_has_whole_batches_of_different_examples(self):
        batches = self.batches()
        assert [len(batch) for batch in batches] == [4] * 6
        for epoch in (batches[:2], batches[2:4], batches[4:]):
            assert len({example for batch in epoch for example in batch}) == 8

    def test_epochs_are_shuffled_differently(self):
        batches = self.batches()
        assert batches[:2] != batches[2:4] != batches[4:]
        assert batches != self.batches(seed=2)

    def test_a_later_start_gives_the_later_epochs(self):
        assert self.batches(first_epoch=1) == self.batches()[2:]

    def test_a_batch_larger_than_the_data_is_all_of_it(self):
        batches = self.batches(batch_size=64)
        assert [sorted(batch) for batch in batches] == [list(range(10))] * 3

    def test_a_history_leaves_out_the_positive_that_is_to_be_found(self):
        """Users 0 and 1 chose items 0 and 1, and 1 and 2; items are numbered from 2 on."""
        users = np.array([0, 0, 1, 1])
        examples = Examples({}, np.zeros(4, object), np.array([0, 1, 1, 2], np.int32))
        history = {"history": np.array([[2, 3, 0], [4, 3, 0]], np.int32)}
        pairs = PairBatches(
            examples,
            users,
            history,
            np.zeros((2, 0)),
            None,
            ("history", np.arange(2, 5, dtype=np.int32)),
        )
        batch = pairs.gather(np.arange(4), np.int64(0))
        np.testing.assert_array_equal(
            batch["query"]["history"], [[0, 3, 0], [2, 0, 0], [4, 0, 0], [0, 3, 0]]
        )

    def test_for_a_regularizer_a_batch_says_what_its_users_chose_and_who_they_are(self):
        users = np.array([1, 0, 1, 1])
        examples = Examples({}, np.zeros(4, object), np.array([7, 5, 8, 9], np.int32))
        choices = UserChoices(users, examples.candidates, num_users=2, width=8, seed=0)
        slices = np.array([[1, 0], [0, 1]], np.float32)
        batch = PairBatches(examples, users, {}, slices, choices, None).gather(
            np.array([1, 2]), np.int64(0)
        )
        assert [sorted(set(row.tolist()) - {-1}) for row in batch["wanted"].numpy()] == [
            [5],
            [7, 8, 9],
        ]
        assert (batch["given"].numpy() == -1).all()
        np.testing.assert_array_equal(batch["slices"], slices)


class TestUsers:
    """Five users, of whom user 3 chose nothing; user `u` chose items `10 u` to `10 u + 5`."""

    USERS = np.repeat([0, 1, 2, 4], 6)
    ITEMS = USERS * 10 + np.tile(np.arange(6), 4)

    def batches(self, history: bool = True, width: int = 16) -> UserBatches:
        choices = UserChoices(self.USERS, self.ITEMS, num_users=5, width=width, seed=0)
        columns = {"user_id": np.arange(5), "history": np.zeros((5, 6), np.int32)}
        if not history:
            del columns["history"]
        numbers = ("history", np.arange(100, dtype=np.int32) + 2) if history else None
        return UserBatches(columns, np.eye(5, 2), choices, (0.3, 0.7), numbers)

    def test_an_epoch_has_every_active_user_once(self):
        batches = self.batches()
        assert batches.size == 4
        assert steps_per_epoch(batches, 2) == 2
        epoch = list(epochs_of(batches, 2, seed=1, first_epoch=0, epochs=1))
        users = np.concatenate([batch["query"]["user_id"].numpy() for batch in epoch])
        assert sorted(users) == [0, 1, 2, 4]

    def test_what_is_given_is_the_history_and_the_rest_is_wanted(self):
        batch = self.batches().gather(np.arange(4), np.int64(3))
        given, wanted = batch["given"].numpy(), batch["wanted"].numpy()
        for row, user in enumerate(batch["query"]["user_id"].numpy()):
            own = [set(part[row].tolist()) - {-1} for part in (given, wanted)]
            assert own[0] | own[1] == set(range(user * 10, user * 10 + 6))
            assert not own[0] & own[1]
            assert own[1]
        history = batch["query"]["history"].numpy()
        np.testing.assert_array_equal(history, np.where(given == -1, 0, given + 2))
        assert (given != -1).any()

    def test_without_a_history_all_is_wanted(self):
        batch = self.batches(history=False).gather(np.arange(4), np.int64(0))
        assert (batch["given"].numpy() == -1).all()
        assert (batch["wanted"].numpy() != -1).all()

    def test_of_users_with_many_items_a_part_stands_for_all(self):
        """Of 6 items 4 are looked at, each for 1.5."""
        batches = self.batches(width=4)
        batch = batches.gather(np.arange(4), np.int64(0))
        assert batch["wanted"].shape == (4, 4)
        np.testing.assert_allclose(batch["weights"], 1.5)

    def test_every_item_is_looked_at_equally_often(self):
        batches = self.batches(history=False, width=4)
        seen = np.zeros(100)
        for step in range(200):
            wanted = batches.gather(np.arange(4), np.int64(step))["wanted"].numpy()
            np.add.at(seen, wanted.ravel(), 1)
        np.testing.assert_allclose(seen[self.ITEMS], 200 * 4 / 6, rtol=0.35)
        assert seen.sum() == pytest.approx(200 * 16)

    def test_the_same_step_draws_the_same_batch(self):
        first, again, other = (
            self.batches().gather(np.arange(4), np.int64(step))["given"].numpy()
            for step in (1, 1, 2)
        )
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()
