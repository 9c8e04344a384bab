"""What a run reads: files, chunks and columns of each input, checked before any row is read."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Sequence

from fairness_losses.config import GroupsConfig
from fairness_losses.errors import InvalidInputError
from pipelines.config import RunConfig, SliceConfig, TableSource, fingerprint
from pipelines.readers.chunks import Chunk
from pipelines.readers.files import (
    check_columns,
    column_names,
    file_state,
    find_files,
    plan_chunks,
)
from towers.config import ITEM_ID, USER_ID, Feature, HistoryFeature, IdFeature

TIMESTAMP = "timestamp"
"""Name of the time in the examples."""

GROUP = "group"
"""Name of the item's group in the examples."""

SLICE_PREFIX = "slice."
"""Before the name of a sliced column in the examples."""

FREQUENCY = "frequency"
"""Name of an item's number of training examples in the catalogue."""

_RESERVED = {USER_ID, ITEM_ID, TIMESTAMP, GROUP, FREQUENCY}


@dataclasses.dataclass(frozen=True)
class Input:
    """The files of one input.

    Attributes:
        name: `interactions`, `users` or `items`.
        files: The files, sorted; `chunks.FILE` counts in this list.
        chunks: What to read.
        ids: Name in the examples (`user_id`, `item_id`) to column of the files.
    """

    name: str
    files: tuple[str, ...]
    chunks: tuple[Chunk, ...]
    ids: dict[str, str]


@dataclasses.dataclass(frozen=True)
class Log(Input):
    """The interaction log.

    Attributes:
        timestamp: Column of the time, if the log has one.
        split: Column of the split, if the log says it itself.
    """

    timestamp: str | None
    split: str | None

    @property
    def columns(self) -> list[str]:
        """Columns to read."""
        return [*self.ids.values(), *(c for c in (self.timestamp, self.split) if c)]


@dataclasses.dataclass(frozen=True)
class Table(Input):
    """The users or items table.

    Attributes:
        features: Features that come from this table.
        slices: Slices made of a column of this table.
        groups: How items are grouped, in the items table.
    """

    features: tuple[Feature, ...] = ()
    slices: tuple[SliceConfig, ...] = ()
    groups: GroupsConfig | None = None

    @property
    def id_name(self) -> str:
        """`user_id` or `item_id`."""
        return next(iter(self.ids))

    @property
    def columns(self) -> list[str]:
        """Columns to read."""
        return [
            *self.ids.values(),
            *(f.column for f in self.features),
            *(s.column for s in self.slices if s.column),
            *(self.groups.columns if self.groups else []),
        ]


@dataclasses.dataclass(frozen=True)
class Inputs:
    """All inputs of a run; without a table, users or items have an id and nothing else."""

    log: Log
    users: Table | None
    items: Table | None


def plan_inputs(config: RunConfig, source_dir: pathlib.Path | None) -> Inputs:
    """Finds the files and checks that they have the columns that the configuration names.

    Args:
        config: The run.
        source_dir: Folder of `interactions.parquet` and, optionally, `users.parquet` and
            `items.parquet` of a built-in data set; None if `data.dataset` is `files`.

    Raises:
        InvalidInputError: A file or column is missing, or a feature's name is ambiguous.
    """
    users = _table_source(config, source_dir, "users", USER_ID)
    items = _table_source(config, source_dir, "items", ITEM_ID)
    _check_features(config.features.query, USER_ID, users, items)
    _check_features(config.features.candidate, ITEM_ID, items, users)
    slices = tuple(s for s in config.slices if s.column)
    if users is None and slices:
        raise InvalidInputError("`slices` are columns of the users table, but there is none.")
    if items is None and config.groups:
        raise InvalidInputError("`groups` are columns of the items table, but there is none.")
    return Inputs(
        log=_plan_log(config, source_dir),
        users=_plan_table(users, "users", USER_ID, config.features.query, slices, None),
        items=_plan_table(items, "items", ITEM_ID, config.features.candidate, (), config.groups),
    )


def input_files(config: RunConfig) -> list[str]:
    """Returns the files that a run with `data.dataset: files` reads.

    Raises:
        InvalidInputError: A path matches no file.
    """
    data = config.data
    sources = {"interactions": data.interactions, "users": data.users, "items": data.items}
    return [
        file
        for name, source in sources.items()
        if source is not None
        for file in find_files(source.path or "", f"data.{name}.path")
    ]


def inputs_fingerprint(config: RunConfig) -> str:
    """Returns a hash of the names, sizes and times of what `data.dataset: files` reads.

    Raises:
        InvalidInputError: A path matches no file.
    """
    return fingerprint([file_state(file) for file in input_files(config)])


def _table_source(
    config: RunConfig, source_dir: pathlib.Path | None, name: str, id_name: str
) -> TableSource | None:
    if source_dir is None:
        return getattr(config.data, name)
    path = source_dir / f"{name}.parquet"
    return TableSource(path=str(path), id=id_name) if path.exists() else None


def _plan_log(config: RunConfig, source_dir: pathlib.Path | None) -> Log:
    source = config.data.interactions
    path = str(source_dir / "interactions.parquet") if source_dir else source.path
    files = find_files(path or "", "data.interactions.path")
    if source_dir:
        ids = {USER_ID: USER_ID, ITEM_ID: ITEM_ID}
        timed = config.split.by in ("time", "last_n") or TIMESTAMP in column_names(files[0])
        timestamp = TIMESTAMP if timed else None
    else:
        ids = {USER_ID: source.user, ITEM_ID: source.item}
        timestamp = source.timestamp
    split = config.split.column if config.split.by == "column" else None
    needed = {ids[USER_ID]: "data.interactions.user", ids[ITEM_ID]: "data.interactions.item"}
    if timestamp:
        needed[timestamp] = "data.interactions.timestamp"
    if split:
        needed[split] = "split.column"
    check_columns(files, needed)
    return Log("interactions", tuple(files), tuple(plan_chunks(files)), ids, timestamp, split)


def _plan_table(
    source: TableSource | None,
    name: str,
    id_name: str,
    features: Sequence[Feature],
    slices: tuple[SliceConfig, ...],
    groups: GroupsConfig | None,
) -> Table | None:
    if source is None:
        return None
    files = find_files(source.path, f"data.{name}.path")
    tower = "query" if name == "users" else "candidate"
    columns = tuple(f for f in features if not isinstance(f, IdFeature | HistoryFeature))
    needed = {
        **{s.column: "slices" for s in slices if s.column},
        **dict.fromkeys(groups.columns if groups else [], "groups.columns"),
        **{f.column: f"features.{tower}" for f in columns},
        source.id: f"data.{name}.id",
    }
    check_columns(files, needed)
    ids = {id_name: source.id}
    chunks = tuple(plan_chunks(files))
    return Table(name, tuple(files), chunks, ids, columns, slices, groups)


def _check_features(
    features: Sequence[Feature], id_name: str, own: TableSource | None, other: TableSource | None
) -> None:
    """Every feature should be in the table of its side and in no other."""
    tower, table, side = (
        ("query", "users", "items") if id_name == USER_ID else ("candidate", "items", "users")
    )
    elsewhere = _names(other, side)
    for feature in features:
        column = feature.column
        if isinstance(feature, IdFeature):
            if column != id_name:
                raise InvalidInputError(
                    f"`features.{tower}`: the column of an `id` feature should be `{id_name}`. "
                    f"Received: {column}."
                )
        elif column in _RESERVED or column.startswith(SLICE_PREFIX) or "/" in column:
            raise InvalidInputError(
                f"`features.{tower}`: `{column}` cannot be the name of a feature, since it is "
                "taken in the examples or holds `/`. Rename the column."
            )
        elif isinstance(feature, HistoryFeature):
            continue  # Made from the log, and in no example.
        elif own is None:
            raise InvalidInputError(
                f"`features.{tower}` names `{column}`, a column of the {table} table, but there "
                f"is no {table} table. Give `data.{table}`."
            )
        elif column in elsewhere:
            where = "both tables" if column in _names(own, table) else f"the {side} table only"
            raise InvalidInputError(
                f"`features.{tower}` names `{column}`, which is in {where}. It should be in the "
                f"{table} table alone, since examples hold both tables' features: "
                + ("rename one of the two." if where == "both tables" else "move the feature.")
            )


def _names(source: TableSource | None, name: str) -> set[str]:
    if source is None:
        return set()
    files = find_files(source.path, f"data.{name}.path")
    return {c for path in files for c in column_names(path)} - {source.id}
