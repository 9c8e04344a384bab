"""A refreshed index answers as one that is built anew, and is built anew when that is due."""

import json
import pathlib
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.check import check_in_fresh_process
from serving.config import ServingConfig
from serving.export import export
from serving.index import build_index, load_index
from serving.refresh import RefreshedSearch
from serving.search import NO_ITEM, ExactSearch


@settings(max_examples=40, deadline=None)
@given(data=st.data(), num_items=st.integers(2, 12), num_excluded=st.integers(0, 6))
def test_refreshed_exact_search_equals_a_fresh_one(data, num_items, num_excluded):
    numbers = st.tuples(st.integers(-2, 2), st.integers(-2, 2))
    vectors = np.array(data.draw(st.lists(numbers, min_size=num_items, max_size=num_items)), "f")
    query = np.array([data.draw(numbers)], "f")
    some = st.sets(st.integers(0, num_items - 1), min_size=1, max_size=num_items - 1)
    added = np.array(sorted(data.draw(some)))
    base = np.setdiff1d(np.arange(num_items), added)
    rows = st.integers(NO_ITEM, num_items - 1)
    excluded = data.draw(st.lists(rows, min_size=num_excluded, max_size=num_excluded))
    k = data.draw(st.integers(1, num_items))

    question = query, k, tf.reshape(tf.constant(excluded, tf.int32), [1, -1])
    fresh = ExactSearch(vectors)(*question)
    refreshed = RefreshedSearch(
        ExactSearch(vectors[base]), base, ExactSearch(vectors[added]), added
    )(*question)

    assert refreshed[0].numpy().tolist() == fresh[0].numpy().tolist()
    assert refreshed[1].numpy().tolist() == fresh[1].numpy().tolist()


class Shop:
    """A catalogue that changes, and its index from one day to the next."""

    def __init__(self, root: pathlib.Path, clustered: Any) -> None:
        self.root, self.day = root, 0
        self.queries = clustered(400, seed=5)
        self.vectors = clustered(3000, seed=1)
        self.ids = np.array([f"item-{row}" for row in range(3000)])
        self.config = ServingConfig(index="scann", k=20, leaves=50, refresh_up_to=0.1)

    def change(self, removed: np.ndarray, added: np.ndarray) -> None:
        """Items go, and others come in at random places."""
        kept = np.setdiff1d(np.arange(len(self.ids)), removed)
        new = [f"new-{self.day}-{row}" for row in range(len(added))]
        order = np.random.default_rng(self.day).permutation(len(kept) + len(added))
        self.vectors = np.concatenate([self.vectors[kept], added])[order]
        self.ids = np.concatenate([self.ids[kept], new])[order]

    def index(self, previous: bool = True, **config: Any) -> dict:
        """Today's index, from yesterday's or without."""
        self.day += 1
        return build_index(
            self.vectors,
            np.where(np.arange(len(self.ids)) % 10, "large", "small"),
            self.config.model_copy(update=config),
            self.folder(self.day),
            seed=0,
            query_vectors=self.queries,
            item_ids=self.ids,
            previous_dir=self.folder(self.day - 1) if previous else None,
        )

    def folder(self, day: int) -> pathlib.Path:
        return self.root / str(day)

    def lists(self) -> tuple[np.ndarray, np.ndarray]:
        search, _ = load_index(self.folder(self.day), self.vectors)
        none = tf.zeros([len(self.queries), 0], tf.int32)
        rows, scores = tf.function(lambda q: search(q, 20, none))(tf.constant(self.queries))
        return rows.numpy(), scores.numpy()


def test_a_refreshed_index_finds_what_a_rebuilt_one_finds(tmp_path, clustered):
    shop = Shop(tmp_path, clustered)
    first = shop.index()
    assert first["refreshed"] is None
    shop.change(np.arange(0, 3000, 30), clustered(80, seed=3))
    refreshed = shop.index()
    assert refreshed["refreshed"] == {"built": 3000, "kept": 2900, "added": 80}
    assert refreshed["settings"] == first["settings"]
    rows, scores = shop.lists()
    expected = np.einsum("qd,qkd->qk", shop.queries, shop.vectors[rows])
    np.testing.assert_allclose(scores, expected, rtol=1e-4)
    assert all(len(set(row)) == 20 for row in rows)
    assert (np.diff(scores) <= 0).all()
    rebuilt = shop.index(previous=False)
    assert rebuilt["refreshed"] is None
    assert refreshed["recall"]["overall"] > rebuilt["recall"]["overall"] - 0.01


def test_refreshes_add_up_until_a_build_is_due(tmp_path, clustered):
    shop = Shop(tmp_path, clustered)
    shop.index()
    shop.change(np.arange(100), clustered(50, seed=3))
    assert shop.index()["refreshed"] == {"built": 3000, "kept": 2900, "added": 50}
    # The 50 new ones of yesterday stay new; 100 and another 30 of the first are gone by now.
    gone = [row for row, name in enumerate(shop.ids) if name.startswith("item-")][:30]
    shop.change(np.array(gone), clustered(20, seed=4))
    assert shop.index()["refreshed"] == {"built": 3000, "kept": 2870, "added": 70}
    # 130 and 100 gone, 70 new: more than a tenth.
    gone = [row for row, name in enumerate(shop.ids) if name.startswith("item-")][:100]
    shop.change(np.array(gone), np.zeros([0, 16], np.float32))
    assert shop.index()["refreshed"] is None
    assert pq.read_table(shop.folder(shop.day) / "items.parquet").num_rows == len(shop.ids)


def test_another_vector_is_another_item_and_another_order_none(tmp_path, clustered):
    shop = Shop(tmp_path, clustered)
    shop.index()
    shop.change(np.array([], int), np.zeros([0, 16], np.float32))
    assert shop.index()["refreshed"] == {"built": 3000, "kept": 3000, "added": 0}
    shop.vectors = shop.vectors.copy()
    shop.vectors[:40] = clustered(40, seed=9)
    assert shop.index()["refreshed"] == {"built": 3000, "kept": 2960, "added": 40}
    rows, scores = shop.lists()
    expected = np.einsum("qd,qkd->qk", shop.queries, shop.vectors[rows])
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


def test_another_training_and_other_settings_build_anew(tmp_path, clustered):
    shop = Shop(tmp_path, clustered)
    shop.index()
    assert shop.index(recall_target=0.9)["refreshed"] is None
    assert shop.index(recall_target=0.9)["refreshed"] is not None
    assert shop.index(recall_target=0.9, refresh_up_to=0.0)["refreshed"] is None
    shop.vectors = clustered(3000, seed=8)
    assert shop.index(recall_target=0.9)["refreshed"] is None


def test_what_misses_the_target_after_a_refresh_is_built_anew(tmp_path, clustered):
    shop = Shop(tmp_path, clustered)
    shop.index()
    # As if the settings had been made for another catalogue.
    path = shop.folder(shop.day) / "index.json"
    report = json.loads(path.read_text())
    path.write_text(json.dumps({**report, "settings": {**report["settings"], "reorder": 20}}))
    shop.change(np.arange(10), clustered(10, seed=3))
    assert shop.index()["refreshed"] is None


def test_a_refreshed_index_can_be_sharded(tmp_path, clustered):
    shop = Shop(tmp_path, clustered)
    shop.index()
    shop.change(np.arange(0, 3000, 30), clustered(80, seed=3))
    assert shop.index(shards=3)["refreshed"] is not None
    sharded = shop.lists()
    shop.day -= 1
    assert shop.index()["shards"] == 1
    assert (shop.lists()[0] == sharded[0]).all()


@pytest.mark.slow
def test_a_refreshed_index_in_shards_is_served_by_a_fresh_process(
    tmp_path, clustered, save_query_tower, save_catalogue
):
    shop = Shop(tmp_path / "index", clustered)
    shop.index()
    shop.change(np.arange(0, 3000, 30), clustered(80, seed=3))
    assert shop.index(shards=3)["refreshed"] is not None
    users = [f"u{i}" for i in range(8)]
    version_dir = export(
        save_query_tower(users, shop.queries[:8]),
        save_catalogue(shop.vectors, shop.ids.tolist(), ["a"] * len(shop.ids)),
        shop.folder(shop.day),
        ServingConfig(k=20),
        tmp_path / "serving",
        1,
        {},
        {"user_id": np.array(users, dtype=object), "offset": np.zeros([8, 1])},
    )
    check_in_fresh_process(version_dir)
    exchanges = json.loads((version_dir / "expected.json").read_text())
    served = [e for e in exchanges if e["signature"] == "serving_default"]
    lists = next(e for e in served if len(e["inputs"]["user_id"]) == 8)["outputs"]
    assert lists["candidate_ids"] == shop.ids[shop.lists()[0][:8]].tolist()
