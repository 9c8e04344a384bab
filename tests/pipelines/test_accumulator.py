import copy
import functools
import operator

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.audit.accumulator import Accumulator
from pipelines.audit.cell_index import CellIndex
from pipelines.audit.notes import Notes
from pipelines.audit.poisson import poisson_counts
from pipelines.config import SliceConfig
from pipelines.examples.splits import id_hashes

SEED, SAMPLES = 3, 12
SLICES = [SliceConfig(column="g"), SliceConfig(column="a"), SliceConfig(cross=["g", "a"])]
USERS = pa.table(
    {
        "user_id": ["u0", "u1", "u2", "u3"],
        "slice.g": ["F", "F", "M", None],
        "slice.a": ["1", "2", "1", "1"],
    }
)
INDEX = CellIndex.of(USERS, SLICES, SEED)
NAMES = [f"{name}={value}" for name, value in INDEX.names]


def users_of_cells(total: Accumulator) -> np.ndarray:
    """Int `[3, num_cells]`."""
    found = np.zeros((3, INDEX.num_cells), int)
    for cells, users in zip(INDEX.cells, total.users(INDEX).T, strict=True):
        found[:, cells] += users[:, None]
    return found


def sums_of(users: list[str], values: np.ndarray, positive: list[bool]) -> Accumulator:
    total = Accumulator.empty(INDEX, values.shape[1], SAMPLES, Notes.empty(INDEX, 4, 2, 8))
    hashes = id_hashes(pa.array(users, pa.string()), SEED)
    has = np.array([positive, np.logical_not(positive)], bool)
    total.add(hashes, values, has, INDEX, SEED)
    return total


def test_lists_are_counted_in_every_cell_of_their_user():
    """u0 has two lists, u2 one; a stranger is unknown in every slice, as u3 is in one."""
    users = ["u0", "u2", "u0", "stranger", "u3"]
    total = sums_of(users, np.arange(5.0)[:, None], [True, False, False, True, False])
    cells = ["all", *NAMES]
    assert {c: int(n) for c, n in zip(cells, total.lists, strict=True) if n} == {
        "all": 5,
        "g=F": 2,
        "g=M": 1,
        "g=unknown": 2,
        "a=1": 4,
        "a=unknown": 1,
        "g × a=F × 1": 2,
        "g × a=M × 1": 1,
        "g × a=unknown × 1": 1,
        "g × a=unknown × unknown": 1,
    }
    assert total.sums[:, 0].tolist()[:4] == [10.0, 2.0, 1.0, 7.0]


def test_users_are_counted_once_however_many_lists_they_have():
    users = ["u0", "u0", "u1", "stranger", "stranger", "other"]
    total = sums_of(users, np.ones((6, 1)), [True, True, False, True, True, False])
    people, with_positives, with_ndkl = users_of_cells(total)
    cells = ["all", *NAMES]
    assert dict(zip(cells, people.tolist(), strict=True))["all"] == 4
    assert dict(zip(cells, people.tolist(), strict=True))["g=F"] == 2
    assert dict(zip(cells, people.tolist(), strict=True))["g=unknown"] == 2
    assert dict(zip(cells, with_positives.tolist(), strict=True))["g=unknown"] == 1
    assert dict(zip(cells, with_positives.tolist(), strict=True))["all"] == 2
    assert dict(zip(cells, with_ndkl.tolist(), strict=True))["g=unknown"] == 1
    assert dict(zip(cells, with_ndkl.tolist(), strict=True))["all"] == 2


def test_all_lists_of_a_user_are_drawn_together():
    """The resampled number of lists is twice the number of times that their user was drawn."""
    total = sums_of(["u1", "u1"], np.ones((2, 1)), [False, False])
    times = poisson_counts(id_hashes(pa.array(["u1"]), SEED), SAMPLES, SEED)[0]
    np.testing.assert_array_equal(total.resampled[0, :, 0], 2 * times)


def test_two_variants_are_compared_on_the_same_resamples():
    users = ["u0", "u1", "u2"]
    one = sums_of(users, np.ones((3, 1)), [False] * 3)
    other = sums_of(users[::-1], np.ones((3, 1)) * 5, [False] * 3)
    np.testing.assert_array_equal(other.resampled, 5 * one.resampled)


def test_more_lists_than_are_drawn_at_once():
    """3,000 lists of one user: every draw counts for all of them."""
    total = sums_of(["u0"] * 3000, np.ones((3000, 1)), [False] * 3000)
    times = poisson_counts(id_hashes(pa.array(["u0"]), SEED), SAMPLES, SEED)[0]
    np.testing.assert_array_equal(total.resampled[0, :, 0], 3000 * times)


@st.composite
def divided_lists(draw):
    """Lists with whole-number sums, which floats add up exactly, in parts."""
    size = draw(st.integers(1, 12))
    users = draw(
        st.lists(st.sampled_from(["u0", "u1", "u2", "u3", "x", "y"]), min_size=size, max_size=size)
    )
    values = draw(st.lists(st.integers(-50, 50), min_size=2 * size, max_size=2 * size))
    positive = draw(st.lists(st.booleans(), min_size=size, max_size=size))
    part = draw(st.lists(st.integers(0, 3), min_size=size, max_size=size))
    return users, np.array(values, float).reshape(size, 2), positive, np.array(part)


def assert_equal(one: Accumulator, other: Accumulator) -> None:
    for name in ("lists", "sums", "resampled", "seen"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for had, has in zip(one.strangers, other.strangers, strict=True):
        np.testing.assert_array_equal(had, has)
    np.testing.assert_array_equal(one.users(INDEX), other.users(INDEX))


def added(*parts: Accumulator) -> Accumulator:
    return functools.reduce(operator.iadd, parts[1:], copy.deepcopy(parts[0]))


@settings(max_examples=60, deadline=None)
@given(divided_lists(), st.permutations(range(4)))
def test_any_division_order_and_grouping_gives_the_same(lists, order):
    users, values, positive, part = lists
    whole = sums_of(users, values, positive)
    parts = [
        sums_of(
            [u for u, p in zip(users, part, strict=True) if p == number],
            values[part == number],
            [x for x, p in zip(positive, part, strict=True) if p == number],
        )
        for number in range(4)
    ]
    a, b, c, d = (parts[i] for i in order)
    assert_equal(added(a, b, c, d), whole)
    assert_equal(added(a, added(b, added(c, d))), whole)
    assert_equal(added(added(d, c), added(b, a)), whole)


def test_sums_of_floats_agree_in_any_order_up_to_rounding():
    rng = np.random.default_rng(0)
    users = [f"u{i}" for i in rng.integers(0, 4, 1000)]
    values = rng.random((1000, 3))
    whole = sums_of(users, values, [False] * 1000)
    order = rng.permutation(1000)
    halves = [
        sums_of([users[i] for i in half], values[half], [False] * 500)
        for half in np.split(order, 2)
    ]
    np.testing.assert_allclose(added(*halves).resampled, whole.resampled, rtol=1e-12)


def test_an_index_without_users_knows_nobody():
    nobody = CellIndex.of(USERS.slice(0, 0), SLICES, SEED)
    assert nobody.look_up(np.array([1, 2], np.uint64)).tolist() == [0, 0]
    assert [value for _, value in nobody.names] == ["unknown", "unknown", "unknown × unknown"]


@pytest.mark.parametrize("slices", [SLICES, []])
def test_every_known_user_is_found_and_no_other(slices):
    index = CellIndex.of(USERS, slices, SEED)
    hashes = id_hashes(pa.array(["u3", "nobody", "u0"]), SEED)
    place = index.look_up(hashes)
    assert (index.users[place[[0, 2]]] == hashes[[0, 2]]).all()
    assert place[1] == 4
