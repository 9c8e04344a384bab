"""Columns whose parts have several types."""

import datetime
import decimal

import pyarrow as pa
import pytest

from pipelines.readers.types import TypesDifferError, as_array, common_schema, common_type, convert


def together(*parts: pa.Array):
    tables = [pa.table({"x": part}) for part in parts]
    schema = common_schema([table.schema for table in tables])
    found = pa.concat_tables(convert(table, schema) for table in tables)["x"]
    return found.type, found.to_pylist()


@pytest.mark.parametrize(
    ("parts", "kind", "values"),
    [
        ([pa.array([1]), pa.array([2])], pa.int64(), [1, 2]),
        ([pa.array([1], pa.int8()), pa.array([2])], pa.int64(), [1, 2]),
        ([pa.array([1]), pa.array([0.5])], pa.float64(), [1.0, 0.5]),
        ([pa.array([7]), pa.array(["a"])], pa.string(), ["7", "a"]),
        ([pa.array([True, None]), pa.array([2])], pa.int64(), [1, None, 2]),
        ([pa.array([True]), pa.array([0.5])], pa.float64(), [1.0, 0.5]),
        ([pa.array([True]), pa.array(["a"])], pa.string(), ["true", "a"]),
        ([pa.array([7.0]), pa.array(["a"])], pa.string(), ["7", "a"]),
        ([pa.array([decimal.Decimal("1.50")]), pa.array([2])], pa.float64(), [1.5, 2.0]),
        (
            [pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2)), pa.array([[3.0]])],
            pa.list_(pa.float64()),
            [[1.0, 2.0], [3.0]],
        ),
        ([pa.nulls(1), pa.array(["a"])], pa.string(), [None, "a"]),
        ([pa.nulls(1), pa.nulls(1)], pa.null(), [None, None]),
        (
            [pa.array([["a"], None]), pa.array(["b", None])],
            pa.list_(pa.string()),
            [["a"], None, ["b"], []],
        ),
        ([pa.array([[1]]), pa.array([["b"]])], pa.list_(pa.string()), [["1"], ["b"]]),
        ([pa.array([[1]]), pa.array([0.5])], pa.list_(pa.float64()), [[1.0], [0.5]]),
        ([pa.array(["a", "b"]).dictionary_encode(), pa.array(["c"])], pa.string(), list("abc")),
        ([pa.array(["a"], pa.large_string()), pa.array(["b"])], pa.string(), ["a", "b"]),
    ],
)
def test_parts_of_several_types(parts, kind, values):
    assert together(*parts) == (kind, values)


def test_whole_numbers_beyond_2_to_the_63_become_strings():
    large = pa.array([2**63], pa.uint64())
    assert together(pa.array([-1]), large) == (pa.string(), ["-1", str(2**63)])


def test_one_type_stays_as_it_is():
    times = pa.array([datetime.datetime(2024, 1, 2)], pa.timestamp("us"))
    assert together(times, times)[0] == pa.timestamp("us")


@pytest.mark.parametrize(
    "kind",
    [
        pa.struct([("a", pa.int64())]),
        pa.timestamp("us"),
        pa.duration("s"),
        pa.float16(),
        pa.binary(),
    ],
)
@pytest.mark.parametrize("other", [pa.int64(), pa.string()])
def test_other_types_have_nothing_in_common(kind, other):
    with pytest.raises(TypesDifferError, match=r"`x` holds .* and "):
        common_type([kind, other], "x")


def test_a_whole_number_that_is_no_float_is_refused_without_saying_it():
    with pytest.raises(TypesDifferError, match=r"^`x` holds values that double does not$"):
        together(pa.array([2**53 + 1]), pa.array([0.5]))


def test_json_values():
    assert as_array([1, 2.5, None]).to_pylist() == [1.0, 2.5, None]
    assert as_array([1, True, 0.5]).to_pylist() == [1.0, 1.0, 0.5]
    assert as_array([True, None]).to_pylist() == [True, None]
    mixed = [1, "a", None, True, 7.0, 0.5]
    assert as_array(mixed).to_pylist() == ["1", "a", None, "true", "7", "0.5"]
    assert as_array([[1], "a", None, []]).to_pylist() == [["1"], ["a"], None, []]
