"""A small `examples` folder, written as the contract of the run directory says."""

import collections
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from towers.config import ModelConfig

Columns = Mapping[str, Sequence[Any]]


def write_examples(
    folder: pathlib.Path,
    users: Columns,
    items: Columns,
    pairs: Mapping[str, Sequence[tuple[str, str]]],
    num_shards: int = 1,
) -> pathlib.Path:
    """Writes examples, tables and vocabularies.

    Args:
        folder: Where.
        users: `user_id`, features and `slice.*`, one value per user each.
        items: `item_id`, `group` and features, one value per item each.
        pairs: User id and item id of every example, by part.
        num_shards: Of each part.
    """
    (folder / "vocabularies").mkdir(parents=True)
    user_rows, item_rows = _rows(users, "user_id"), _rows(items, "item_id")
    for part in ("train", "validation", "test"):
        examples = [{**user_rows[u], **item_rows[i]} for u, i in pairs.get(part, [])]
        for shard in range(num_shards):
            name = f"{part}-{shard:05}-of-{num_shards:05}.tfrecord.gz"
            _write_shard(folder / name, examples[shard::num_shards])
        if part == "train":
            _write_vocabularies(folder / "vocabularies", examples)
    count = collections.Counter(item for _, item in pairs["train"])
    frequency = pa.array([count[i] for i in items["item_id"]], pa.int64())
    pq.write_table(_table(users), folder / "users.parquet")
    catalogue = _table(items).append_column("frequency", frequency)
    pq.write_table(catalogue, folder / "catalogue.parquet")
    return folder


def write_biased_log(
    folder: pathlib.Path, validation: bool = True, interactions_per_user: int = 12
) -> pathlib.Path:
    """Writes a log of 48 users in which group b, a third of the known items, is hardly chosen.

    There are 72 items of a, 36 of b and 12 of unknown groups, in four tastes. Users choose items
    of their taste 20 times as often as others, and items of b a twentieth as often as others.
    """
    groups = np.repeat(["a", "b", "unknown"], [72, 36, 12])
    taste = np.arange(120) % 4
    rng = np.random.default_rng(0)
    pairs: dict[str, list[tuple[str, str]]] = {"train": [], "validation": []}
    for user in range(48):
        wanted = np.where(taste == user % 4, 20.0, 1.0) * np.where(groups == "b", 0.05, 1.0)
        chosen = rng.choice(120, interactions_per_user, replace=False, p=wanted / wanted.sum())
        own = [(f"u{user}", f"i{item}") for item in chosen]
        held_out = 2 if validation else 0
        pairs["validation"] += own[:held_out]
        pairs["train"] += own[held_out:]
    ids = [f"u{user}" for user in range(48)]
    users = {
        "user_id": ids,
        "history": [[item for user, item in pairs["train"] if user == name] for name in ids],
        "slice.gender": [("F", "M", "unknown")[user // 20] for user in range(48)],
    }
    items = {"item_id": [f"i{item}" for item in range(120)], "group": groups.tolist()}
    return write_examples(folder, users, items, pairs, num_shards=2)


def small_model(**training: Any) -> ModelConfig:
    """Embeddings of 8 dimensions; the catalogue of `write_biased_log` is larger than its sample."""
    settings = {"batch_size": 64, "learning_rate": 0.02, "evaluate_at": [5], "catalogue_sample": 32}
    return ModelConfig.model_validate({"towers": {"dim": 8}, "training": {**settings, **training}})


def _table(columns: Columns) -> pa.Table:
    return pa.table({name: pa.array(values, _type(values)) for name, values in columns.items()})


def _type(values: Sequence[Any]) -> pa.DataType | None:
    """The pipeline writes numbers as float32."""
    first = values[0]
    if isinstance(first, list) and first and isinstance(first[0], float):
        return pa.list_(pa.float32())
    return pa.float32() if isinstance(first, float) else None


def _rows(columns: Columns, key: str) -> dict[str, dict[str, Any]]:
    rows = zip(*columns.values(), strict=True)
    return {row[key]: row for row in (dict(zip(columns, values, strict=True)) for values in rows)}


def _write_shard(path: pathlib.Path, examples: Sequence[Mapping[str, Any]]) -> None:
    with tf.io.TFRecordWriter(str(path), "GZIP") as writer:
        for row in examples:
            features = {name: _feature(value) for name, value in row.items()}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            writer.write(example.SerializeToString())


def _feature(value: Any) -> tf.train.Feature:
    values = value if isinstance(value, list) else [value]
    if values and isinstance(values[0], float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=values))
    encoded = [v.encode() for v in values]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=encoded))


def _write_vocabularies(folder: pathlib.Path, examples: Sequence[Mapping[str, Any]]) -> None:
    """Writes one for every column of strings, whether a feature or not."""
    for column in examples[0]:
        values = [e[column] for e in examples]
        flat = [v for value in values for v in (value if isinstance(value, list) else [value])]
        if isinstance(flat[0], str):
            count = sorted(collections.Counter(flat).items(), key=lambda pair: (-pair[1], pair[0]))
            table = {"value": [v for v, _ in count], "count": [n for _, n in count]}
            pq.write_table(pa.table(table), folder / f"{column}.parquet")
