"""A sample of users that merges: whoever is in it is there with all lists."""

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipelines.audit.user_sample import UserSample

lists = st.lists(st.tuples(st.integers(0, 12), st.integers(0, 9)), max_size=30)


def sample(rows, size):
    users = np.array([user for user, _ in rows], np.uint64)
    return UserSample.of(users, np.array([[float(x)] for _, x in rows]).reshape(-1, 1), size)


@given(lists, st.integers(1, 6), st.lists(st.integers(0, 30), max_size=3))
def test_parts_in_any_order_give_the_sample_of_the_whole(rows, size, cuts):
    cuts = [0, *sorted(min(c, len(rows)) for c in cuts), len(rows)]
    parts = [sample(rows[a:b], size) for a, b in itertools.pairwise(cuts)]
    total = sample([], size)
    for part in reversed(parts):
        total += part
    least = sorted({user for user, _ in rows})[:size]
    assert total.users.tolist() == least
    assert total.sums[:, 0].tolist() == [sum(x for u, x in rows if u == user) for user in least]


def test_what_is_added_stays_as_it_is():
    one, other = sample([], 3), sample([(1, 2)], 3)
    one += other
    one += sample([(1, 5)], 3)
    assert (one.sums.tolist(), other.sums.tolist()) == ([[7.0]], [[2.0]])
