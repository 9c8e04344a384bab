"""Logs with a JSON object per line."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.errors import InvalidInputError
from pipelines.readers import json_lines
from pipelines.readers.chunks import FILE, ROW
from pipelines.readers.files import check_columns, column_names, find_files, plan_chunks, read_chunk


def read(path, columns):
    """All rows and the numbers of all unreadable ones."""
    chunks = plan_chunks(find_files(str(path), "data.path"))
    blocks = [b for c in chunks for b in read_chunk(c, columns)]
    rows = [row for b in blocks for row in b.table.to_pylist()]
    return rows, [n for b in blocks for n in b.unreadable.tolist()]


def values(path, column):
    return [row[column] for row in read(path, [column])[0]]


def write(path, *lines: str):
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return path


def test_numbers_strings_and_lists_keep_their_types(tmp_path):
    path = write(
        tmp_path / "t.jsonl",
        '{"id": 7, "x": 1.5, "name": "Åse", "genres": ["a", "b"], "other": {"a": 1}}',
        '{"genres": [], "name": null, "id": 8, "x": 2}',
    )
    assert read(path, ["name", "id", "x", "genres"]) == (
        [
            {"name": "Åse", "id": 7, "x": 1.5, "genres": ["a", "b"], FILE: 0, ROW: 1},
            {"name": None, "id": 8, "x": 2.0, "genres": [], FILE: 0, ROW: 2},
        ],
        [],
    )


@pytest.mark.parametrize("text", ["2024-01-02", "2024-01-02 03:04:05", "2024-01-02T03:04:05Z"])
def test_strings_that_look_like_times_stay_as_they_are(tmp_path, text):
    line = json.dumps({"at": text, "all": [text]})
    path = write(tmp_path / "t.jsonl", line, line)
    assert values(path, "at") == [text, text]
    assert values(path, "all") == [[text], [text]]


@pytest.mark.parametrize(
    "line",
    [
        '{"id": 2',
        "[2]",
        "2",
        '"id"',
        "{'id': 2}",
        '{"id": 2} {"id": 3}',
        '{"id": "\\ud83d"}',
        "[" * 9999,
    ],
)
def test_a_line_that_is_no_object_is_unreadable_and_the_others_stay(tmp_path, line):
    path = write(tmp_path / "t.jsonl", '{"id": 1}', line, '{"id": 3}')
    rows, unreadable = read(path, ["id"])
    assert [(r["id"], r[ROW]) for r in rows] == [(1, 1), (3, 3)]
    assert unreadable == [2]


@settings(max_examples=60, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["good", "bad", "empty"]), min_size=1, max_size=40),
    block=st.sampled_from([3, 20, 16 << 20]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_rows_keep_their_line_number(tmp_path_factory, kinds, block, end):
    """Whatever the pattern of lines, however they end and wherever blocks of the file do."""
    path = tmp_path_factory.mktemp("json") / "t.jsonl"
    text = {"good": '{{"id": {}}}', "bad": '{{"id": {}', "empty": ""}
    lines = [text[kind].format(i) for i, kind in enumerate(kinds, 1)]
    path.write_bytes(end.join(lines).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines, "_BLOCK_BYTES", block)
        rows, unreadable = read(path, ["id"])
    assert [(r["id"], r[ROW]) for r in rows] == [
        (i, i) for i, kind in enumerate(kinds, 1) if kind == "good"
    ]
    assert unreadable == [i for i, kind in enumerate(kinds, 1) if kind == "bad"]


@pytest.mark.parametrize("blank", ["", "\r", "\r\r", " ", "\t "])
def test_blank_lines_are_no_rows_but_counted(tmp_path, blank):
    path = write(tmp_path / "t.jsonl", '{"id": 1}', blank, '{"id": 3}')
    rows, unreadable = read(path, ["id"])
    assert [(r["id"], r[ROW]) for r in rows] == [(1, 1), (3, 3)]
    assert unreadable == []


@pytest.mark.parametrize(
    "lines", [['{"id": 1}{"id": 5}', "   "], ['{"id":', "1}", '{"id": 5}{"id": 6}']]
)
def test_as_many_objects_as_lines_are_not_an_object_per_line(tmp_path, lines):
    rows, unreadable = read(write(tmp_path / "t.jsonl", *lines, '{"id": 2}'), ["id"])
    assert [r["id"] for r in rows] == [2]
    assert unreadable == [i for i, line in enumerate(lines, 1) if line.strip()]


def test_a_column_may_be_in_one_of_several_files_and_another_be_empty(tmp_path):
    write(tmp_path / "a.jsonl")
    write(tmp_path / "b.jsonl", '{"id": 1}')
    write(tmp_path / "c.jsonl", '{"id": 2, "title": "two"}')
    files = find_files(str(tmp_path / "*.jsonl"), "data.items.path")
    check_columns(files, {"id": "data.items.id", "title": "features.candidate"})
    assert [r["title"] for r in read(tmp_path / "*.jsonl", ["title"])[0]] == [None, "two"]
    with pytest.raises(InvalidInputError, match="no column `price`"):
        check_columns(files, {"price": "features.candidate"})


def test_text_of_another_encoding_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "t.jsonl").write_bytes('{"id": 1}\n'.encode("utf-16"))
    with pytest.raises(InvalidInputError, match="not UTF-8"):
        check_columns([str(tmp_path / "t.jsonl")], {})


def test_whole_numbers_that_no_float_holds_stay_exact(tmp_path):
    """Identifiers of 64 bits without a sign, say."""
    path = write(tmp_path / "t.jsonl", '{"x": 1}', f'{{"x": {2**64 - 1}}}')
    assert values(path, "x") == ["1", str(2**64 - 1)]


def test_not_a_number_is_a_number(tmp_path):
    """As Python writes it; what it means is for those to say who use the column."""
    path = write(tmp_path / "t.jsonl", '{"x": NaN}', '{"x": 1}')
    assert np.isnan(values(path, "x")[0])


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["7", '"a"'], ["7", "a"]),
        (["true", "1"], [1, 1]),
        (["7.0", '"a"'], ["7", "a"]),
        (['["a"]', '"b"', "null"], [["a"], ["b"], None]),
        (["[1]", '["b"]'], [["1"], ["b"]]),
    ],
)
def test_values_of_several_types_become_strings(tmp_path, cells, expected):
    path = write(tmp_path / "t.jsonl", *(f'{{"x": {cell}}}' for cell in cells))
    assert values(path, "x") == expected


def test_of_a_key_that_is_there_twice_the_last_value_counts(tmp_path):
    """As everywhere in Python."""
    path = write(tmp_path / "t.jsonl", '{"id": 1, "id": 2}', '{"id": 3}')
    assert values(path, "id") == [2, 3]


def test_gzip(tmp_path):
    path = tmp_path / "t.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"id": 1}\n{"id": 2}\n'))
    assert values(path, "id") == [1, 2]
    path.write_bytes(gzip.compress(b'{"id": 1}\n{"id": 2}\n')[:-9])
    with pytest.raises(InvalidInputError, match=r"t.jsonl.gz: the file is damaged or cut short"):
        read(path, ["id"])


def test_columns_are_the_keys_of_all_first_lines(tmp_path):
    path = write(tmp_path / "t.jsonl", '{"b": 1}', "no object", '{"a": 1, "b": 2}')
    assert column_names(str(path)) == ["b", "a"]
    with pytest.raises(InvalidInputError, match="no column `c`"):
        check_columns([str(path)], {"c": "data.users.id"})


@pytest.mark.parametrize("text", ["", "\n\n", "[]\n"])
def test_a_file_without_an_object_is_refused(tmp_path, text):
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(InvalidInputError, match="the file is empty"):
        check_columns([str(tmp_path / "t.jsonl")], {})


def test_text_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "t.jsonl").write_bytes('{"id": "Tromsø"}\n'.encode("latin-1"))
    with pytest.raises(InvalidInputError, match=r"t.jsonl: the text is not UTF-8"):
        read(tmp_path / "t.jsonl", ["id"])


def test_arrow_and_line_by_line_agree(tmp_path, monkeypatch):
    """On what both can read."""
    rng = np.random.default_rng(0)
    lines = [
        json.dumps({"i": i, "x": i / 3, "s": f"é{i}", "l": [i] * (i % 3), "n": None})
        for i in rng.integers(0, 99, 50).tolist()
    ]
    path = write(tmp_path / "t.jsonl", *lines)
    fast = read(path, ["i", "x", "s", "l", "n"])
    monkeypatch.setattr(json_lines, "_parse", lambda *_: None)
    assert read(path, ["i", "x", "s", "l", "n"]) == fast
