"""Files of what users chose: ids are those of the examples, and what is no pair is told."""

import pathlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairness_losses.errors import InvalidInputError
from pipelines.audit.positives import read_positives


def written(folder: pathlib.Path, columns: dict) -> pathlib.Path:
    pq.write_table(pa.table(columns), folder / "chosen.parquet")
    return folder / "chosen.parquet"


@pytest.mark.parametrize(
    "columns",
    [
        {"user_id": ["7", "8"], "item_id": ["1", "2"]},
        {"user_id": [7, 8], "item_id": [1.0, 2.0]},
        {
            "item_id": pa.array(["1", "2"]).dictionary_encode(),
            "user_id": ["7", "8"],
            "more": [1, 2],
        },
    ],
)
def test_ids_are_spelled_like_those_of_the_examples(tmp_path, columns):
    """Numbers hash differently from strings, and would be relevant to nobody."""
    pairs = read_positives(written(tmp_path, columns), 0.0)
    assert pairs.to_pydict() == {"user_id": ["7", "8"], "item_id": ["1", "2"]}


def test_other_formats_are_read_too(tmp_path):
    (tmp_path / "chosen.csv").write_text("item_id,user_id\n1,7\n2,8\n")
    pairs = read_positives(tmp_path / "chosen.csv", 0.0)
    assert pairs.to_pydict() == {"user_id": ["7", "8"], "item_id": ["1", "2"]}


def test_a_column_that_is_missing_is_named(tmp_path):
    with pytest.raises(InvalidInputError, match="no column `item_id`, which `--positives` names"):
        read_positives(written(tmp_path, {"user_id": ["7"], "item": ["1"]}), 0.0)


def test_pairs_without_an_id_are_left_out_unless_they_are_many(tmp_path):
    path = written(tmp_path, {"user_id": ["7", None, "8", ""], "item_id": ["1", "2", None, "3"]})
    assert read_positives(path, 0.75).to_pydict() == {"user_id": ["7"], "item_id": ["1"]}
    with pytest.raises(InvalidInputError, match=r"3 of 4 pairs \(75.0%\) have no `user_id`"):
        read_positives(path, 0.5)


def test_no_pairs_at_all_are_refused(tmp_path):
    nothing = pa.array([], pa.string())
    path = written(tmp_path, {"user_id": nothing, "item_id": nothing})
    with pytest.raises(InvalidInputError, match="there are no pairs"):
        read_positives(path, 1.0)
