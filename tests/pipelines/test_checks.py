"""Checks of interactions and the conversions behind them."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.errors import InvalidInputError
from pipelines.examples.checks import (
    Rejections,
    as_numbers,
    as_seconds,
    as_strings,
    check_interactions,
)
from pipelines.examples.inputs import Log
from pipelines.readers.chunks import FILE, ROW, Block, Chunk


def _column(values, kind=None):
    return pa.chunked_array([pa.array(values, kind)])


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        (_column(["007", "", None]), ["007", "", None]),
        (_column([7, None], pa.int32()), ["7", None]),
        (_column([7.0, 2.5, None, float("nan")]), ["7", "2.5", None, None]),
        (_column([1234567890123.0]), ["1234567890123"]),
        (_column(["a", "b", "a"]).dictionary_encode(), ["a", "b", "a"]),
        (_column([b"a"], pa.binary()), ["a"]),
        (_column([True]), ["true"]),
        (_column([None], pa.null()), [None]),
        (pa.chunked_array([], pa.int64()), []),
    ],
)
def test_ids_become_strings_without_decimals(column, expected):
    assert as_strings(column, "x").to_pylist() == expected


def test_lists_are_no_ids():
    with pytest.raises(InvalidInputError, match=r"data\.users: should hold strings or numbers"):
        as_strings(_column([["a"]]), "data.users")


def test_numbers_are_parsed_and_the_rest_is_nan():
    expected = [1.0, -2.5, np.nan, np.nan, 1e3]
    np.testing.assert_equal(as_numbers(_column(["1", "-2.5", "x", "", "1e3"]), "x"), expected)
    np.testing.assert_equal(as_numbers(_column([1, None]), "x"), [1.0, np.nan])
    np.testing.assert_equal(as_numbers(_column([2**62 + 1]), "x"), [2.0**62])


@pytest.mark.parametrize(
    "text",
    [
        "1577836800",
        "1577836800.9",
        "2020-01-01",
        "2020-01-01T00:00",
        "2020-01-01 00:00:00",
        "2020-01-01T00:00:00.9Z",
        "2020-01-01T01:30:00+01:30",
        "2019-12-31T19:00:00-0500",
    ],
)
def test_times_are_seconds_or_iso_8601(text):
    """The first second of 2020, written in different ways, beside a time of another kind."""
    seconds, valid = as_seconds(_column([text, "x"]), "x")
    assert seconds[0] == 1577836800
    assert valid.tolist() == [True, False]


@pytest.mark.parametrize(
    "text", ["", "today", "2020-13-01", "01/02/2020", "2020", "inf", "1600000000000", "10:30"]
)
def test_what_is_no_time_is_not_guessed_to_be_one(text):
    """`2020` is not a year but 2020 seconds; milliseconds would lie beyond the year 9999."""
    _, valid = as_seconds(_column([text]), "x")
    assert valid.tolist() == [text == "2020"]


def test_arrow_dates_and_timestamps_are_times():
    moment = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    for kind in (pa.timestamp("ms"), pa.timestamp("ns", tz="Europe/Oslo"), pa.date32()):
        value = moment.date() if pa.types.is_date(kind) else moment
        seconds, valid = as_seconds(_column([value, None], kind), "x")
        assert seconds[0] == 1577836800
        assert valid.tolist() == [True, False]


def test_the_first_reason_counts():
    rejections = Rejections(3)
    rejections.add(np.array([True, False, False]), "first")
    rejections.add(np.array([True, True, False]), "second")
    dead = rejections.dead(pa.table({FILE: [0, 0, 0], ROW: [1, 2, 3]}))
    assert rejections.ok.tolist() == [False, False, True]
    assert dead["reason"].to_pylist() == ["first", "second"]
    assert dead[ROW].to_pylist() == [1, 2]


_LOG = Log("interactions", (), (), {"user_id": "u", "item_id": "i"}, "t", "s")
_CELL = st.sampled_from(["", "a", "b", "1", "train", "test", "x"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(_CELL, _CELL, _CELL, _CELL), max_size=20))
def test_every_row_is_either_usable_or_dead(cells):
    columns = list(zip(*cells, strict=True)) or [[]] * 4
    table = pa.table([pa.array(c, pa.string()) for c in columns], names=["u", "i", "t", "s"])
    rows = np.arange(1, len(cells) + 1)
    table = table.append_column(FILE, pa.array(np.zeros(len(cells), np.int32)))
    table = table.append_column(ROW, pa.array(rows))
    checked = check_interactions(
        Block(table, np.array([], np.int64)), _LOG, Chunk("log.csv", 0, None, 0, 0)
    )
    usable = [u != "" and i != "" and t == "1" and s in ("train", "test") for u, i, t, s in cells]
    assert checked.good[ROW].to_pylist() == rows[usable].tolist()
    assert checked.dead[ROW].to_pylist() == rows[~np.array(usable, bool)].tolist()
