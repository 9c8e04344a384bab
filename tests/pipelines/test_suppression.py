"""Small cells are hidden, and nothing that is shown gives them away."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.audit.suppression import hidden_cells


def crossed(counts):
    """Everybody, the rows, the columns and the cells of a table of users.

    Args:
        counts: int `[num_rows, num_columns]`.
    """
    rows, columns = counts.shape
    row, column = np.divmod(np.arange(counts.size), columns)
    contains = [np.ones(counts.size, bool)]
    contains += [row == i for i in range(rows)] + [column == j for j in range(columns)]
    contains += list(np.eye(counts.size, dtype=bool))
    names = [("", "")] + [("r", i) for i in range(rows)] + [("c", j) for j in range(columns)]
    names += [("r × c", (int(i), int(j))) for i, j in zip(row, column, strict=True)]
    # Who is not there is in no cell.
    present = counts.ravel() > 0
    return names, np.array(contains) & present, counts.ravel()


def hidden(counts, fewest=20):
    names, contains, users = crossed(np.asarray(counts))
    found = hidden_cells(contains, users, [name for name, _ in names], fewest)
    return {name for name, hide in zip(names, found, strict=True) if hide}


def one_way(*users, fewest=20):
    """What is hidden of one slice."""
    names, contains, counts = crossed(np.array([users]).T)
    kept = [i for i, (name, _) in enumerate(names) if name in ("", "r")]
    slices = [names[i][0] for i in kept]
    found = hidden_cells(contains[kept], counts, slices, fewest)
    return [i - 1 for i, hide in enumerate(found) if hide]


def test_large_cells_are_all_shown():
    assert one_way(20, 300) == []


def test_of_two_cells_none_is_shown_without_the_other():
    assert one_way(300, 19) == [0, 1]


def test_the_smallest_other_cell_goes_with_a_small_one():
    assert one_way(300, 5, 40, 100) == [1, 2]


def test_two_small_cells_whose_sum_is_small_take_a_third_along():
    """5 and 6 are 11 users, whom everybody less the others would show together."""
    assert one_way(300, 5, 6, 100) == [1, 2, 3]
    assert one_way(300, 15, 6, 100) == [1, 2]


def test_of_few_users_not_even_the_total_is_shown():
    assert one_way(12, 7) == [-1, 0, 1]


def test_a_crossed_cell_takes_a_rectangle_along():
    """Its row and its column each need another, and where those two meet is needed as well."""
    found = hidden([[5, 100, 200], [90, 80, 300], [400, 500, 600]])
    assert found == {("r × c", cell) for cell in [(0, 0), (0, 1), (1, 0), (1, 1)]}


def test_what_is_hidden_anyway_is_protected_too():
    names, contains, users = crossed(np.array([[30], [40], [50]]))
    given_hidden = np.array([name == ("r", 2) for name in names])
    found = hidden_cells(contains, users, [name for name, _ in names], 20, given_hidden)
    assert {name for name, hide in zip(names, found, strict=True) if hide} >= {("r", 2), ("r", 0)}


def test_differences_of_cells_that_are_no_slice_together_are_guarded():
    """All of country x are women, and only 4 women are of no country that is shown."""
    contains = np.array([[1, 1, 1], [1, 1, 0], [0, 0, 1], [1, 0, 0], [0, 0, 1]], bool)
    users = np.array([500, 4, 900])
    slices = ["", "gender", "gender", "country", "country"]
    found = hidden_cells(contains, users, slices, 20)
    assert found[3]


def in_row_space(rows, target):
    """Whether multiples of rows add up to the target, exactly: Gaussian elimination."""
    reduced = []
    for row in [*rows, target]:
        rest = [Fraction(int(x)) for x in row]
        for pivot, other in reduced:
            if rest[pivot]:
                factor = rest[pivot]
                rest = [a - factor * b for a, b in zip(rest, other, strict=True)]
        pivot = next((i for i, x in enumerate(rest) if x), None)
        if pivot is None:
            found = True
            continue
        found = False
        reduced.append((pivot, [x / rest[pivot] for x in rest]))
    return found


tables = st.tuples(st.integers(1, 4), st.integers(1, 4)).flatmap(
    lambda shape: st.lists(
        st.sampled_from([0, 1, 5, 9, 12, 19, 20, 21, 50, 100]),
        min_size=shape[0] * shape[1],
        max_size=shape[0] * shape[1],
    ).map(lambda users: np.array(users).reshape(shape))
)


@settings(max_examples=200, deadline=None)
@given(tables)
def test_no_hidden_cell_is_a_combination_of_shown_ones(counts):
    names, contains, users = crossed(counts)
    hide = hidden_cells(contains, users, [name for name, _ in names], 20)
    shown = contains[~hide]
    for cell in np.flatnonzero(hide):
        assert not in_row_space(shown, contains[cell])


@settings(max_examples=200, deadline=None)
@given(tables)
def test_no_shown_cell_less_others_of_a_slice_leaves_few_users(counts):
    names, contains, users = crossed(counts)
    slices = np.array([name for name, _ in names])
    hide = hidden_cells(contains, users, list(slices), 20)
    assert not (~hide & contains.any(axis=1) & (contains @ users < 20)).any()
    for whole in np.flatnonzero(~hide):
        for name in set(slices):
            left = contains[whole].copy()
            for part in np.flatnonzero(~hide & (slices == name)):
                if part != whole and not (contains[part] & ~contains[whole]).any():
                    left &= ~contains[part]
            assert not left.any() or users[left].sum() >= 20


def test_the_least_of_one_user_hides_nothing():
    assert hidden(np.array([[0, 1], [2, 300]]), fewest=1) == set()


@pytest.mark.parametrize("fewest", [2, 20])
def test_nothing_is_hidden_where_all_cells_are_large(fewest):
    assert hidden(np.full((3, 4), 20), fewest) == set()
