"""Reading files chunk by chunk."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_log import write_gzip

from fairness_losses.errors import InvalidInputError
from pipelines.readers import delimited, parquet
from pipelines.readers.chunks import FILE, ROW
from pipelines.readers.files import (
    check_columns,
    find_files,
    plan_chunks,
    read_chunk,
)


def _read(pattern, columns):
    """All rows and all ragged row numbers."""
    chunks = plan_chunks(find_files(str(pattern), "data.path"))
    blocks = [b for c in chunks for b in read_chunk(c, columns)]
    good = [row for b in blocks for row in b.table.to_pylist()]
    return good, np.concatenate([b.unreadable for b in blocks]).tolist()


def test_csv_cells_stay_the_strings_they_are(tmp_path):
    """No number is guessed; quoted newlines and commas, spaces and Unicode survive."""
    text = 'id,x,other\n007,1.0,-\n"a,\nb",,-\n é ✓ ,NaN,-\n'
    (tmp_path / "t.csv").write_text(text, encoding="utf-8-sig")
    good, ragged = _read(tmp_path / "t.csv", ["x", "id"])
    assert good == [
        {"x": "1.0", "id": "007", FILE: 0, ROW: 1},
        {"x": "", "id": "a,\nb", FILE: 0, ROW: 2},
        {"x": "NaN", "id": " é ✓ ", FILE: 0, ROW: 3},
    ]
    assert ragged == []


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), max_size=60), st.sampled_from([24, 64, 16 << 20]))
def test_rows_keep_their_number_among_ragged_ones(tmp_path_factory, is_ragged, block):
    """Whatever the pattern of ragged rows and wherever blocks of the file end."""
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    lines = [f"{i}" if r else f"{i},x" for i, r in enumerate(is_ragged, 1)]
    path.write_text("\n".join(["id,y", *lines]) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delimited, "_BLOCK_BYTES", block)
        good, ragged = _read(path, ["id"]) if lines else ([], [])
    assert [(r["id"], r[ROW]) for r in good] == [
        (str(i), i) for i, r in enumerate(is_ragged, 1) if not r
    ]
    assert ragged == [i for i, r in enumerate(is_ragged, 1) if r]


def test_files_of_a_glob_are_read_in_order_of_their_names(tmp_path):
    write_gzip(tmp_path / "b.csv.gz", "id\n3\n")
    (tmp_path / "a.csv").write_text("id\n1\n2\n")
    good, _ = _read(tmp_path / "*.csv*", ["id"])
    assert [(r["id"], r[FILE], r[ROW]) for r in good] == [("1", 0, 1), ("2", 0, 2), ("3", 1, 1)]


def test_parquet_row_groups_are_chunks_that_know_their_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_ROWS", 1)
    pq.write_table(
        pa.table({"id": range(5), "x": range(5)}), tmp_path / "t.parquet", row_group_size=2
    )
    chunks = plan_chunks([str(tmp_path / "t.parquet")])
    found = [(c.row_groups, c.first_row, c.rows) for c in chunks]
    assert found == [((0,), 0, 2), ((1,), 2, 2), ((2,), 4, 1)]
    good, _ = _read(tmp_path / "t.parquet", ["id"])
    assert good == [{"id": i, FILE: 0, ROW: i + 1} for i in range(5)]


def test_small_row_groups_are_read_together(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_ROWS", 3)
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": range(7)}), path, row_group_size=2)
    found = [(c.row_groups, c.first_row, c.rows) for c in plan_chunks([str(path)])]
    assert found == [((0, 1), 0, 4), ((2, 3), 4, 3)]
    good, _ = _read(path, ["id"])
    assert good == [{"id": i, FILE: 0, ROW: i + 1} for i in range(7)]


def test_a_parquet_file_without_row_groups_has_no_chunk(tmp_path):
    path = tmp_path / "t.parquet"
    pq.ParquetWriter(path, pa.schema([("id", pa.int64())])).close()
    assert plan_chunks([str(path)]) == []


def test_missing_file_is_named_with_its_setting(tmp_path):
    with pytest.raises(InvalidInputError, match=r"`data.users.path`: there is no file .*nix\*.csv"):
        find_files(str(tmp_path / "nix*.csv"), "data.users.path")


@pytest.mark.parametrize("name", ["t.tsv", "t.csv.zip", "t"])
def test_file_of_no_known_format_is_refused(tmp_path, name):
    (tmp_path / name).write_text("id\n1\n")
    with pytest.raises(InvalidInputError, match="is of no known format"):
        find_files(str(tmp_path / name), "data.users.path")


def test_folder_is_refused(tmp_path):
    (tmp_path / "t.parquet").mkdir()
    (tmp_path / "t.parquet" / "part").write_text("")
    with pytest.raises(InvalidInputError, match="is a folder; give the glob"):
        find_files(str(tmp_path / "t.parquet"), "data.users.path")


def test_missing_column_is_named_with_the_nearest_ones(tmp_path):
    (tmp_path / "t.csv").write_text("user,item_idd,when\n")
    with pytest.raises(InvalidInputError) as error:
        check_columns([str(tmp_path / "t.csv")], {"item_id": "data.interactions.item"})
    assert "no column `item_id`, which `data.interactions.item` names" in str(error.value)
    assert "The nearest are `item_idd`." in str(error.value)


def test_column_that_is_there_twice_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("id,id\n1,2\n")
    with pytest.raises(InvalidInputError, match="`id` is there twice"):
        check_columns([str(tmp_path / "t.csv")], {"id": "data.users.id"})


def test_empty_file_is_refused(tmp_path):
    (tmp_path / "t.csv").write_text("")
    with pytest.raises(InvalidInputError, match="the file is empty"):
        check_columns([str(tmp_path / "t.csv")], {})


@pytest.mark.parametrize("keep", [0.0005, 0.5, 0.999])
def test_cut_gzip_is_refused_wherever_it_is_cut(tmp_path, keep):
    text = "id\n" + "".join(f"{i * 7919 % 10007}\n" for i in range(50_000))
    write_gzip(tmp_path / "t.csv.gz", text, keep)
    with pytest.raises(InvalidInputError, match=r"t.csv.gz: the file is damaged or cut short"):
        _read(tmp_path / "t.csv.gz", ["id"])


def test_cut_parquet_is_refused(tmp_path):
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"id": range(1000)}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InvalidInputError, match=r"t.parquet: the file is damaged or cut short"):
        plan_chunks([str(path)])


def test_text_that_is_not_utf8_is_refused(tmp_path):
    (tmp_path / "t.csv").write_bytes("id\nOslo\nTromsø\n".encode("latin-1"))
    with pytest.raises(InvalidInputError, match=r"t.csv: the text is not UTF-8"):
        _read(tmp_path / "t.csv", ["id"])
