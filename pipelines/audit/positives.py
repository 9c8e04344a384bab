"""What users chose of the lists, as files say: `--positives`."""

from __future__ import annotations

import pathlib

import numpy as np
import pyarrow as pa

from fairness_losses.errors import InvalidInputError
from pipelines.examples.checks import as_strings, is_missing
from pipelines.readers.files import check_columns, find_files, plan_chunks, read_chunk
from towers.config import ITEM_ID, USER_ID

_SETTING = "--positives"


def read_positives(path: pathlib.Path, max_missing_share: float) -> pa.Table:
    """Reads what is relevant to whom.

    Ids become strings as those of the examples do, since they are looked up among these: the
    number 7 is the user `7`.

    Args:
        path: A file of any format that examples are built from.
        max_missing_share: Largest share of pairs without a user or an item, which are left out.

    Returns:
        `user_id` and `item_id`, string, none of them empty.

    Raises:
        InvalidInputError: There is no such file, it has other columns, or too many pairs are empty.
    """
    files, columns = find_files(str(path), _SETTING), [USER_ID, ITEM_ID]
    check_columns(files, dict.fromkeys(columns, _SETTING))
    empty = pa.schema([(name, pa.string()) for name in columns]).empty_table()
    tables, read = [empty], 0
    for chunk in plan_chunks(files):
        for block in read_chunk(chunk, columns):
            ids = [as_strings(block.table[c], f"{chunk.path}, column `{c}`") for c in columns]
            whole = ~np.any([is_missing(each) for each in ids], axis=0)
            tables.append(pa.table(ids, columns).filter(pa.array(whole)))
            read += len(whole) + len(block.unreadable)
    pairs = pa.concat_tables(tables)
    _check(read, read - len(pairs), max_missing_share)
    return pairs


def _check(read: int, missing: int, max_missing_share: float) -> None:
    if not read:
        raise InvalidInputError(f"`{_SETTING}`: there are no pairs in the files.")
    if missing == read or missing > max_missing_share * read:
        raise InvalidInputError(
            f"`{_SETTING}`: {missing:,} of {read:,} pairs ({missing / read:.1%}) have no "
            f"`{USER_ID}` or no `{ITEM_ID}`; `data.max_dead_letter_share` is "
            f"{max_missing_share:.1%}. Correct them, or leave them out."
        )
