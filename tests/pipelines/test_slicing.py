import pyarrow as pa
import pytest

from pipelines.config import SliceConfig
from pipelines.slicing import divide

USERS = pa.table(
    {
        "user_id": ["a", "b", "c", "d"],
        "slice.gender": ["M", "F", None, "F"],
        "slice.age": ["5–9", "10–19", "unknown", "5–9"],
    }
)
SLICES = [
    SliceConfig(column="gender"),
    SliceConfig(column="age"),
    SliceConfig(cross=["gender", "age"]),
]


@pytest.fixture
def cells() -> dict:
    divided = divide(pa.array(["a", "b", "c", "d", "e"]), USERS, SLICES)
    return {
        name: {value: who.tolist() for value, who in values.items()}
        for name, values in divided.slices.items()
    }


def test_users_are_divided_by_column(cells):
    assert cells["gender"] == {"F": [1, 3], "M": [0], "unknown": [2, 4]}


def test_missing_values_and_missing_users_are_unknown_and_last(cells):
    """`c` has no gender, `e` is not in the table."""
    assert list(cells["gender"])[-1] == "unknown"
    assert cells["gender"]["unknown"] == [2, 4]


def test_bands_are_in_the_order_of_their_numbers(cells):
    assert list(cells["age"]) == ["5–9", "10–19", "unknown"]


def test_a_cross_has_a_cell_per_combination_that_occurs(cells):
    assert cells["gender × age"] == {
        "F × 5–9": [3],
        "F × 10–19": [1],
        "M × 5–9": [0],
        "unknown × unknown": [2, 4],
    }


def test_without_slices_there_is_everyone_alone():
    divided = divide(pa.array(["a", "b"]), USERS, [])
    assert divided.everyone.tolist() == [0, 1]
    assert divided.slices == {}
