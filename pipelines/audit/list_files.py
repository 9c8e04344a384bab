"""Files of served lists: found, checked, and read some lists at a time, each list once."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairness_losses.errors import InvalidInputError
from pipelines.audit.list_checks import CANDIDATES, MODEL_VERSION, POLICY
from pipelines.audit.pseudonyms import Pseudonyms
from pipelines.examples.checks import as_strings, is_missing
from pipelines.examples.splits import id_hashes, pair_hashes
from pipelines.readers.chunks import Chunk, open_file, readable, with_origin
from pipelines.readers.files import check_columns, find_files, plan_chunks
from serving.log.lists import SALT, USER_HASH
from towers.config import USER_ID

LIST_ID = "list_id"
"""Column that tells the lists of a user apart, if a user may have several."""

_LISTS_PER_TABLE = 32_768


@dataclasses.dataclass(frozen=True)
class ListIds:
    """The ids of some lists.

    Attributes:
        lists: uint64 `[num_lists]`, what tells them apart.
        users: uint64 `[num_lists]`, whose they are; in a log, as long as a salt is used.
        missing: By the name of an id bool `[num_lists]`, whether it is empty: then neither counts.
    """

    lists: np.ndarray
    users: np.ndarray
    missing: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ListFiles:
    """Parquet files of lists, one row each.

    `user_id` is a string, `candidate_ids` a list of strings, best first; `policy` and
    `model_version` say what served it. Where there is a column `list_id`, a user may have several
    lists with different ones; else one. A serving log has `user_hash` and `salt` in place of
    `user_id`, see `serving.log.lists`.

    Attributes:
        pattern: What they were found by.
        files: Paths, sorted.
        chunks: What a worker reads at once.
        ids: Columns that a list is told apart by.
        seed: Of hashes.
        pseudonyms: Where the hashes of a log lead back to users; None if the files have ids.
    """

    pattern: str
    files: list[str]
    chunks: list[Chunk]
    ids: tuple[str, ...]
    seed: int
    pseudonyms: Pseudonyms | None = None

    @classmethod
    def find(cls, pattern: str, seed: int, pseudonyms: Pseudonyms | None = None) -> ListFiles:
        """Finds files and checks what columns they have.

        Args:
            pattern: Path or glob, of any file system that Beam knows.
            seed: Of hashes.
            pseudonyms: Where hashes lead back to users, for a log.

        Raises:
            InvalidInputError: There is no file, or one is of no use.
        """
        files = find_files(pattern, "--lists")
        schemas = [_schema(path) for path in files]
        is_log = _is_log(files, schemas, pseudonyms)
        who = (USER_HASH, SALT, LIST_ID) if is_log else (USER_ID,)
        needed = dict.fromkeys((*who, CANDIDATES, POLICY, MODEL_VERSION), "--lists")
        check_columns(files, needed)
        for path, schema in zip(files, schemas, strict=True):
            kind = schema.field(CANDIDATES).type
            if not (pa.types.is_list(kind) and pa.types.is_string(kind.value_type)):
                raise InvalidInputError(
                    f"{path}: the column `{CANDIDATES}` should be a list of strings. Received: "
                    f"{kind}. Convert it."
                )
        with_id = [LIST_ID in schema.names for schema in schemas]
        if any(with_id) and not all(with_id):
            raise InvalidInputError(
                f"{files[with_id.index(False)]}: there is no column `{LIST_ID}`, which other files "
                "have. Add it, or audit these files on their own."
            )
        ids = (who[0], LIST_ID) if all(with_id) else (USER_ID,)
        return cls(pattern, files, plan_chunks(files), ids, seed, pseudonyms if is_log else None)

    def ids_of(self, chunk: Chunk) -> ListIds:
        """Returns what tells the lists of a chunk apart, and whose they are."""
        with readable(chunk.path), open_file(chunk.path) as stream:
            table = pq.ParquetFile(stream).read_row_groups(chunk.row_groups, columns=list(self.ids))
        for name in self.ids:
            table = _with_strings(table, name, chunk.path)
        users = list_hashes(table, self.ids[:1], self.seed)
        hashes = list_hashes(table, self.ids, self.seed) if len(self.ids) > 1 else users
        return ListIds(hashes, users, missing_ids(table, self.ids))

    def tables(self, chunk: Chunk, others: Sequence[str] = ()) -> Iterator[pa.Table]:
        """Yields the lists of a chunk with their origin, some at a time.

        Args:
            chunk: What to read.
            others: Columns that are wanted besides those of a list. Ids are strings, the rest is
                as it is.
        """
        who = (USER_HASH, SALT) if self.pseudonyms else (USER_ID,)
        columns = [*who, CANDIDATES, POLICY, MODEL_VERSION, *others]
        row = chunk.first_row + 1
        with readable(chunk.path), open_file(chunk.path) as stream:
            leaves = pq.ParquetFile(stream).schema
            # An item is in many lists: its id is decoded, and looked up, once.
            encoded = [leaf.path for leaf in leaves if leaf.path.startswith(f"{CANDIDATES}.")]
            file = pq.ParquetFile(stream, read_dictionary=encoded)
            # Every row group has a dictionary of its own, and Arrow cannot merge those of lists.
            for batch in itertools.chain.from_iterable(
                file.iter_batches(_LISTS_PER_TABLE, [group], columns, use_threads=False)
                for group in chunk.row_groups
            ):
                table = pa.Table.from_batches([batch]).select(columns)
                if self.pseudonyms:
                    table = self.pseudonyms.resolve(table)
                for name in (n for n in (USER_ID, LIST_ID) if n in table.column_names):
                    table = _with_strings(table, name, chunk.path)
                yield with_origin(table, chunk.file, row + np.arange(len(table)))
                row += len(table)


def _with_strings(table: pa.Table, name: str, path: str) -> pa.Table:
    strings = as_strings(table[name], f"{path}, column `{name}`")
    return table.set_column(table.column_names.index(name), name, strings)


def missing_ids(lists: pa.Table, ids: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns which lists have an empty id, bool `[num_lists]` by its name.

    Args:
        lists: With the string columns `ids`.
        ids: `user_id`, or `user_id` and `list_id`.
    """
    return {name: is_missing(lists[name].combine_chunks()) for name in ids}


def list_hashes(lists: pa.Table, ids: Sequence[str], seed: int) -> np.ndarray:
    """Returns what tells lists apart, uint64 `[num_lists]`; of no use where an id is empty.

    Args:
        lists: With the string columns `ids`.
        ids: `user_id`, or `user_id` and `list_id`.
        seed: Of the hashes.
    """
    hashes = [id_hashes(pc.fill_null(lists[n].combine_chunks(), ""), seed) for n in ids]
    return hashes[0] if len(hashes) == 1 else pair_hashes(*hashes)


def _is_log(
    files: Sequence[str], schemas: Sequence[pa.Schema], pseudonyms: Pseudonyms | None
) -> bool:
    """Whether the users of the files are hashes."""
    hashed = [USER_HASH in schema.names for schema in schemas]
    if any(hashed) and not all(hashed):
        raise InvalidInputError(
            f"{files[hashed.index(False)]}: there is no column `{USER_HASH}`, which other files "
            "have. Audit these files on their own."
        )
    if any(hashed) and pseudonyms is None:
        raise InvalidInputError(
            f"{files[0]}: the log holds hashes of the users' ids. Give `--salts`, the folder that "
            "the server keeps in `serving.log.salts`."
        )
    return any(hashed)


def _schema(path: str) -> pa.Schema:
    if not path.lower().endswith(".parquet"):
        raise InvalidInputError(
            f"`--lists`: {path} is no Parquet file. Lists should be in Parquet."
        )
    with readable(path), open_file(path) as stream:
        return pq.ParquetFile(stream).schema_arrow
