"""Rows of every type, through to TFRecord and back: each is in an example, or a dead letter."""

import decimal
import json
import pathlib
import tempfile
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from small_log import records

from pipelines.beam_runner import run
from pipelines.config import RunConfig
from pipelines.examples.checks import PARTS
from pipelines.examples.pipeline import examples_pipeline

IDS = st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=6)
WORDS = st.text(st.characters(blacklist_categories=["Cs"]), max_size=6)
HALVES = st.integers(-(2**20), 2**20).map(lambda n: n / 2)

CATEGORIES = {
    "strings": (pa.string(), WORDS),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), WORDS),
    "integers": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "bytes": (pa.uint8(), st.integers(0, 255)),
    "booleans": (pa.bool_(), st.booleans()),
    "halves": (pa.float64(), HALVES),
    "lists": (pa.list_(pa.string()), st.lists(WORDS, max_size=3)),
    "lists of integers": (pa.list_(pa.int32()), st.lists(st.integers(-9, 9), max_size=3)),
}
NUMBERS = {
    "double": (pa.float64(), st.floats(width=64)),
    "single": (pa.float32(), st.floats(width=32)),
    "integers": (pa.int64(), st.integers(-(2**53), 2**53)),
    "booleans": (pa.bool_(), st.booleans()),
    "decimals": (pa.decimal128(9, 2), st.integers(-999, 999).map(lambda n: decimal.Decimal(n) / 4)),
    "strings": (pa.string(), st.one_of(HALVES.map(str), st.just("a lot"))),
}
VECTORS = {
    "double": (pa.list_(pa.float64()), st.lists(st.floats(width=64), min_size=3, max_size=3)),
    "fixed": (pa.list_(pa.float32(), 3), st.lists(st.floats(width=32), min_size=3, max_size=3)),
}


@st.composite
def catalogues(draw) -> dict[str, Any]:
    """An items table, and what its columns are: `{name: (type, values)}`."""
    ids = draw(st.lists(IDS, min_size=2, max_size=8, unique=True))
    columns = {"id": (pa.string(), ids)}
    for name, kinds in (("category", CATEGORIES), ("number", NUMBERS), ("vector", VECTORS)):
        kind, values = kinds[draw(st.sampled_from(sorted(kinds)))]
        if name != "vector":
            values = st.none() | values
        columns[name] = (kind, draw(st.lists(values, min_size=len(ids), max_size=len(ids))))
    titles = draw(st.lists(WORDS, min_size=len(ids), max_size=len(ids)))
    columns["title"] = (pa.large_string(), titles)
    return columns


def as_text(value: Any) -> str:
    """How a category is spelled in an example."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def as_single(value: Any) -> float | None:
    """A number of an example; none where there is no finite one."""
    try:
        with np.errstate(over="ignore"):
            number = np.float32(float(value))
    except (TypeError, ValueError):
        return None
    return float(number) if np.isfinite(number) else None


def expected_items(columns: dict[str, Any]) -> dict[str, tuple]:
    """The features of every item that can be used."""
    items = {}
    for item, category, number, vector, title in zip(
        *(columns[name][1] for name in ("id", "category", "number", "vector", "title")), strict=True
    ):
        several = category if isinstance(category, list) else [category]
        single, parts = as_single(number), [as_single(value) for value in vector]
        if single is not None and None not in parts:
            features = (tuple(map(as_text, several or [None])), single, tuple(parts), title)
            items[item] = features
    return items


def build_files(
    folder: pathlib.Path, columns: dict[str, Any], log: list[tuple], limit: int
) -> pathlib.Path:
    """Writes the two tables and builds examples, however few are left."""
    items = {name: pa.array(values, kind) for name, (kind, values) in columns.items()}
    pq.write_table(pa.table(items), folder / "items.parquet")
    schema = pa.schema([("user", pa.string()), ("item", pa.string()), ("at", pa.int64())])
    users = [
        pa.array(values, kind)
        for values, kind in zip(zip(*log, strict=True), schema.types, strict=True)
    ]
    pq.write_table(pa.table(users, schema=schema), folder / "log.parquet")
    log_source = {
        "path": str(folder / "log.parquet"),
        "user": "user",
        "item": "item",
        "timestamp": "at",
    }
    features = [
        {"kind": kind, "column": column}
        for kind, column in (
            ("categorical", "category"),
            ("numeric", "number"),
            ("vector", "vector"),
            ("text", "title"),
        )
    ]
    config = RunConfig.model_validate(
        {
            "name": "Round trip",
            "data": {
                "interactions": log_source,
                "items": {"path": str(folder / "items.parquet"), "id": "id"},
                "max_broadcast_mb": limit,
            },
            "features": {"candidate": [{"kind": "id", "column": "item_id"}, *features]},
        }
    )
    run(examples_pipeline(config, None, folder / "out"))
    return folder / "out"


def read_back(out: pathlib.Path) -> Counter:
    """User, item, time and features of every example."""
    found = Counter()
    for part in PARTS:
        for record in records(out, part):
            feature = tf.train.Example.FromString(record).features.feature
            texts = {
                name: tuple(value.decode() for value in feature[name].bytes_list.value)
                for name in ("user_id", "item_id", "category", "title")
            }
            found[
                (
                    texts["user_id"][0],
                    texts["item_id"][0],
                    feature["timestamp"].int64_list.value[0],
                    texts["category"],
                    feature["number"].float_list.value[0],
                    tuple(feature["vector"].float_list.value),
                    texts["title"][0],
                )
            ] += 1
    return found


# A case takes a second: what fails is shown as it was drawn.
@settings(
    max_examples=12,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
@given(catalogues(), st.data())
def test_every_row_is_in_an_example_or_a_dead_letter(columns, data):
    items = st.sampled_from([*columns["id"][1], "", "somebody else's"])
    rows = st.tuples(st.none() | IDS, items, st.integers(-(10**9), 10**9))
    log = data.draw(st.lists(rows, min_size=1, max_size=30))
    with tempfile.TemporaryDirectory() as temporary:
        limit = data.draw(st.sampled_from([256, 0]), "max_broadcast_mb")
        out = build_files(pathlib.Path(temporary), columns, log, limit)
        features = expected_items(columns)
        usable = [bool(user) and item in features for user, item, _ in log]
        good = {row for row, is_good in zip(log, usable, strict=True) if is_good}
        assert read_back(out) == Counter((*row, *features[row[1]]) for row in good)
        counts = json.loads((out / "counts.json").read_text())["interactions"]
        assert counts["read"] == len(log)
        assert counts["duplicates"] == sum(usable) - len(good)
        with (out / "dead_letter" / "interactions.jsonl").open() as file:
            letters = [json.loads(line) for line in file]
        dead = [number for number, is_good in enumerate(usable, 1) if not is_good]
        assert [letter["row"] for letter in letters] == dead
