"""The users and items tables: their rows checked, features, groups and slices made ready."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairness_losses.config import UNKNOWN, GroupsConfig
from fairness_losses.errors import InvalidInputError
from pipelines.config import SliceConfig
from pipelines.examples.checks import (
    Checked,
    Rejections,
    as_numbers,
    as_strings,
    is_missing,
    unreadable_rows,
)
from pipelines.examples.inputs import GROUP, SLICE_PREFIX, Table
from pipelines.readers.chunks import FILE, ROW
from pipelines.readers.files import read_chunk
from pipelines.readers.types import TypesDifferError, common_schema, convert, is_list
from towers.config import (
    ITEM_ID,
    CategoricalFeature,
    Feature,
    NumericFeature,
    TextFeature,
    VectorFeature,
)

_UNSTATED = tuple(GroupsConfig.model_fields["unknown_values"].default)


@dataclasses.dataclass(frozen=True)
class Shape:
    """What all rows of a table have to agree on, whichever part of it they are in.

    Attributes:
        schema: Of the columns as they are read.
        lengths: Column of a vector to the number of rows `[longest + 1]` by its length.
    """

    schema: pa.Schema
    lengths: Mapping[str, np.ndarray]


def shape_of(table: pa.Table, plan: Table) -> Shape:
    """Returns the shape of some rows as they are read."""
    vectors = [f.column for f in plan.features if isinstance(f, VectorFeature)]
    return Shape(table.schema, {name: np.bincount(_lengths(table[name])) for name in vectors})


def common_shape(shapes: Iterable[Shape], plan: Table) -> Shape:
    """Returns the shape that all rows are brought to.

    Raises:
        InvalidInputError: A column is of types that nothing can stand for.
    """
    shapes = list(shapes) or [shape_of(_empty(plan), plan)]
    try:
        schema = common_schema([shape.schema for shape in shapes])
    except TypesDifferError as error:
        raise _types_differ(plan, error) from error
    lengths = {
        name: np.sum(
            list(itertools.zip_longest(*(s.lengths[name] for s in shapes), fillvalue=0)), axis=1
        )
        for name in shapes[0].lengths
    }
    return Shape(schema, lengths)


def load_table(plan: Table) -> Checked:
    """Reads and checks a whole table.

    Returns:
        Usable rows, sorted by id: the id; `group` for items; features (categorical: string or
        list of strings; numeric: float32; text: string; vector: list of float32); and for users
        one string column `slice.<column>` for each slice of a column.

    Raises:
        InvalidInputError: A file is damaged, or a column is of a type that cannot be what the
            configuration says.
    """
    blocks = [(b, c.file) for c in plan.chunks for b in read_chunk(c, plan.columns)]
    tables = [block.table for block, _ in blocks]
    shape = common_shape((shape_of(table, plan) for table in tables), plan)
    checked = [check_rows(table, plan, shape) for table in tables or [_empty(plan)]]
    unique = without_repeats(pa.concat_tables(c.good for c in checked))
    dead = [*(c.dead for c in checked), *(unreadable_rows(*block) for block in blocks)]
    return Checked(unique.good, pa.concat_tables([*dead, unique.dead]))


def check_rows(table: pa.Table, plan: Table, shape: Shape) -> Checked:
    """Checks some rows of a table, each by itself.

    Args:
        table: The rows as they are read.
        plan: What the table is.
        shape: Of the whole table.

    Returns:
        Usable rows as `load_table` describes them, unsorted, with `FILE` and `ROW`.

    Raises:
        InvalidInputError: A column is of a type that cannot be what the configuration says.
    """
    try:
        table = convert(table, shape.schema).combine_chunks()
    except TypesDifferError as error:
        raise _types_differ(plan, error) from error
    where = f"data.{plan.name}, column"
    rejections = Rejections(len(table))
    id_column = plan.ids[plan.id_name]
    ids = as_strings(table[id_column], f"{where} `{id_column}`")
    rejections.add(is_missing(ids), f"`{id_column}` is empty")
    columns = {plan.id_name: ids}
    if plan.id_name == ITEM_ID:
        columns[GROUP] = _groups(table, plan, where)
    for feature in plan.features:
        counts = shape.lengths.get(feature.column)
        values, problem, wrong = feature_values(table[feature.column], feature, where, counts)
        rejections.add(wrong, f"`{feature.column}` {problem}")
        columns[feature.column] = values
    for cut in plan.slices:
        labels = slice_labels(table[cut.column], cut, f"{where} `{cut.column}`")
        not_a_number = pc.is_null(labels).to_numpy(zero_copy_only=False)
        rejections.add(not_a_number, f"`{cut.column}` has bands but is not a number")
        columns[f"{SLICE_PREFIX}{cut.column}"] = labels
    origin = {FILE: table[FILE], ROW: table[ROW]}
    dead = rejections.dead(pa.table({plan.id_name: ids, **origin}))
    return Checked(pa.table(columns | origin).filter(pa.array(rejections.ok)), dead)


def without_repeats(rows: pa.Table) -> Checked:
    """Keeps the first row of every id.

    Args:
        rows: All usable rows of some ids, from `check_rows`, in any order.

    Returns:
        The rows sorted by id, without `FILE` and `ROW`.
    """
    id_name = rows.column_names[0]
    keys = [(id_name, "ascending"), (FILE, "ascending"), (ROW, "ascending")]
    rows = rows.take(pc.sort_indices(rows.select([name for name, _ in keys]), keys))
    ids = rows[id_name].combine_chunks()
    repeats = np.zeros(len(ids), bool)
    repeats[1:] = pc.equal(ids[1:], ids[:-1]).to_numpy(zero_copy_only=False)
    rejections = Rejections(len(rows))
    rejections.add(repeats, "duplicate id")
    good = rows.drop([FILE, ROW]).filter(pa.array(rejections.ok)).combine_chunks()
    return Checked(good, rejections.dead(rows.select([id_name, FILE, ROW])))


def ids_table(id_name: str, ids: pa.Array) -> pa.Table:
    """Returns the table of users or items that have an id and nothing else.

    Args:
        id_name: `user_id` or `item_id`.
        ids: Distinct ids.
    """
    table = pa.table({id_name: ids.cast(pa.string())}).sort_by(id_name)
    if id_name == ITEM_ID:
        table = table.append_column(GROUP, pa.array([UNKNOWN] * len(table), pa.string()))
    return table


def slice_labels(column: pa.ChunkedArray, cut: SliceConfig, where: str) -> pa.Array:
    """Returns the slice of every user.

    Args:
        column: The column that is sliced.
        cut: How.
        where: Beginning of the error message.

    Returns:
        Strings `[num_rows]`: the value or the label of its band; `unknown` where nobody stated
        it or it lies below the first band; null where a banded value is not a number.

    Raises:
        InvalidInputError: The column holds neither strings nor numbers.
    """
    strings = as_strings(column, where)
    unstated = is_missing(strings, _UNSTATED)
    if cut.bands is None:
        return pc.if_else(pa.array(unstated), UNKNOWN, strings)
    numbers = as_numbers(column, where)
    band = np.where(unstated, 0, np.searchsorted(cut.bands, numbers, side="right"))
    labels = pa.array([UNKNOWN, *band_labels(cut.bands)]).take(pa.array(band))
    return pc.if_else(pa.array(unstated | np.isfinite(numbers)), labels, None)


def band_labels(edges: Sequence[float]) -> list[str]:
    """Returns the labels of bands, given their lower edges: `0–24`, `25–44`, `45+`."""
    pairs = itertools.pairwise(edges)
    if all(float(edge).is_integer() for edge in edges):
        lasts = [(int(low), int(high) - 1) for low, high in pairs]
        closed = [f"{low}–{last}" if low < last else f"{low}" for low, last in lasts]
        return [*closed, f"{int(edges[-1])}+"]
    return [*(f"{low:g}–<{high:g}" for low, high in pairs), f"{edges[-1]:g}+"]


def group_labels(columns: Sequence[pa.Array], config: GroupsConfig) -> pa.Array:
    """Returns the group of every item: the columns' values joined by ` × `, or `unknown`."""
    unknown = np.any([is_missing(c, tuple(config.unknown_values)) for c in columns], axis=0)
    joined = pc.binary_join_element_wise(*columns, " × ")
    return pc.if_else(pa.array(unknown), UNKNOWN, joined)


def feature_values(
    column: pa.ChunkedArray, feature: Feature, where: str, lengths: np.ndarray | None = None
) -> tuple[pa.Array, str, np.ndarray]:
    """Returns the values of a feature as examples hold them.

    Args:
        column: Of the table, or of anything else that names and spells features as it does.
        feature: What the column is; neither an id nor a history.
        where: Beginning of the error message.
        lengths: Of a vector as in `Shape`, if the column is a part of a table.

    Returns:
        The values `[num_rows]`; what may be wrong with them; and bool `[num_rows]`, true where it
        is.

    Raises:
        InvalidInputError: The column is of a type that cannot be such a feature.
    """
    where = f"{where} `{feature.column}`"
    fine = np.zeros(len(column), bool)
    if isinstance(feature, CategoricalFeature):
        return _categories(column, feature, where), "", fine
    if isinstance(feature, TextFeature):
        return pc.fill_null(as_strings(column, where), ""), "", fine
    if isinstance(feature, NumericFeature):
        numbers = _as_floats(column, where)
        missing = ~np.isfinite(numbers)
        if feature.default is not None:
            numbers, missing = np.where(missing, np.float32(feature.default), numbers), fine
        return pa.array(numbers), "is missing or not a finite number", missing
    assert isinstance(feature, VectorFeature)
    counts = (np.bincount(_lengths(column)) if lengths is None else lengths)[1:]
    return _vectors(column, where, usual=1 + int(counts.argmax()) if counts.any() else 0)


def no_rows(plan: Table) -> pa.Table:
    """Returns what `check_rows` returns of a table without rows."""
    nothing = _empty(plan)
    return check_rows(nothing, plan, shape_of(nothing, plan)).good


def _types_differ(plan: Table, error: TypesDifferError) -> InvalidInputError:
    return InvalidInputError(f"data.{plan.name}: {error}; write the files again with one schema.")


def _empty(plan: Table) -> pa.Table:
    schema = pa.schema(
        [*((c, pa.string()) for c in plan.columns), (FILE, pa.int32()), (ROW, pa.int64())]
    )
    return schema.empty_table()


def _groups(table: pa.Table, plan: Table, where: str) -> pa.Array:
    if plan.groups is None:
        return pa.array([UNKNOWN] * len(table), pa.string())
    columns = [as_strings(table[c], f"{where} `{c}`") for c in plan.groups.columns]
    return group_labels(columns, plan.groups)


def _categories(column: pa.ChunkedArray, feature: CategoricalFeature, where: str) -> pa.Array:
    if not is_list(column.type):
        strings = pc.fill_null(as_strings(column, where), "")
        return pc.split_pattern(strings, feature.separator) if feature.separator else strings
    # A list without values stands for one missing value, so that it has an embedding, too.
    values, lengths = _flatten(column)
    counts = np.maximum(lengths, 1)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    taken = np.full(offsets[-1], -1)
    taken[np.repeat(lengths > 0, counts)] = np.arange(len(values))
    strings = as_strings(values, where).take(pa.array(taken, mask=taken < 0))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pc.fill_null(strings, ""))


def _vectors(column: pa.ChunkedArray, where: str, usual: int) -> tuple[pa.Array, str, np.ndarray]:
    if not is_list(column.type):
        raise InvalidInputError(
            f"{where}: a vector should be a list of numbers, which CSV cannot hold. "
            f"Received: {column.type}."
        )
    values, lengths = _flatten(column)
    numbers = _as_floats(pa.chunked_array([values]), where)
    usable = (lengths == usual) & (lengths > 0)
    kept = numbers[np.repeat(usable, lengths)].reshape(usable.sum(), usual)
    dense = np.zeros((len(lengths), usual), np.float32)
    dense[usable] = kept
    wrong = ~usable | ~np.isfinite(dense).all(axis=1)
    offsets = pa.array(np.arange(len(lengths) + 1) * usual, pa.int32())
    vectors = pa.ListArray.from_arrays(offsets, pa.array(dense.ravel()))
    return vectors, f"is not a vector of {usual} finite numbers", wrong


def _as_floats(column: pa.ChunkedArray, where: str) -> np.ndarray:
    with np.errstate(over="ignore"):  # What is too large for float32 is infinite, hence refused.
        return as_numbers(column, where).astype(np.float32)


def _lengths(column: pa.ChunkedArray) -> np.ndarray:
    """The number of values in each row, when a scalar is a list of one; 0 for null."""
    if is_list(column.type):
        lengths = pc.fill_null(pc.list_value_length(column), 0)
    else:
        lengths = pc.is_valid(column)
    return lengths.to_numpy().astype(np.int64)


def _flatten(column: pa.ChunkedArray) -> tuple[pa.Array, np.ndarray]:
    """All values of a list column, and the number of values in each row (0 for null)."""
    lists = column.combine_chunks()
    return pc.list_flatten(lists), _lengths(column)
