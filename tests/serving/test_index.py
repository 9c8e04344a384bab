"""The index: its kind, its settings, its recall, and that it comes out the same twice."""

import json
import pathlib
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from fairness_losses.errors import InvalidInputError
from serving.config import ServingConfig
from serving.index import build_index, choose_kind, load_index
from serving.index_audit import ShareChangedError


def _build(vectors: np.ndarray, out_dir: pathlib.Path, seed: int = 0, **config: Any) -> dict:
    groups = np.where(np.arange(len(vectors)) % 10, "large", "small")
    settings = ServingConfig(**config)
    queries = vectors[: min(len(vectors), 1500)]
    return build_index(vectors, groups, settings, out_dir, seed, query_vectors=queries)


@pytest.mark.parametrize(
    ("index", "num_items", "kind"),
    [("auto", 50, "exact"), ("auto", 51, "scann"), ("exact", 51, "exact"), ("scann", 50, "scann")],
)
def test_auto_takes_exact_up_to_the_given_size(index, num_items, kind):
    assert choose_kind(ServingConfig(index=index, exact_up_to=50), num_items) == kind


def test_exact_index_reports_itself(tmp_path, clustered):
    report = _build(clustered(40, seed=1), tmp_path / "index", k=100)
    assert report == json.loads((tmp_path / "index" / "index.json").read_text())
    assert report["recall"]["by_group"] == {"large": 1.0, "small": 1.0}
    assert report["target_reached"]
    assert {name: report[name] for name in ("kind", "num_items", "dim", "k", "settings")} == {
        "kind": "exact", "num_items": 40, "dim": 16, "k": 40, "settings": {}
    }  # fmt: skip
    assert not report["tuned"]


def test_scann_index_finds_most_of_every_group(tmp_path, clustered):
    report = _build(clustered(3000, seed=1), tmp_path / "index", index="scann", k=20)
    # Of 1500 queries one half chose the settings and the other measured them.
    assert report["tuned"]
    assert report["recall"]["num_queries"] == 750
    assert 0.95 < report["recall"]["overall"] <= 1
    assert report["target_reached"]
    assert report["short_groups"] == []
    for name, recall in report["recall"]["by_group"].items():
        group = report["groups"][name]
        assert group["recall"]["value"] == recall > 0.95
        assert group["recall"]["low"] < recall < group["recall"]["high"]
    counts = [group["recall"]["count"] for group in report["groups"].values()]
    assert sum(counts) == 750 * 20
    assert sum(group["share"]["found"] for group in report["groups"].values()) == pytest.approx(1)


def test_given_settings_are_taken_as_they_are(tmp_path, clustered):
    report = _build(clustered(3000, seed=1), tmp_path / "index", index="scann", k=20, reorder=70)
    assert report["settings"] == {"leaves": 55, "leaves_to_search": 10, "reorder": 70}
    assert not report["tuned"]
    assert not (tmp_path / "index" / "tuning.json").exists()


def test_a_target_that_coarse_settings_miss_is_said_to_be_missed(tmp_path, clustered):
    report = _build(
        clustered(3000, seed=1), tmp_path / "index", index="scann", k=20, leaves_to_search=1
    )
    assert report["recall"]["overall"] < 0.95
    assert not report["target_reached"]
    assert report["short_groups"] == ["large", "small"]


def test_a_share_that_changes_too_much_stops_the_build(tmp_path, clustered):
    vectors = clustered(3000, seed=1)
    settings = {"index": "scann", "k": 20, "leaves_to_search": 1, "reorder": 20}
    assert _build(vectors, tmp_path / "index", **settings)["groups"]
    with pytest.raises(ShareChangedError, match=r"`(large|small)` has .* of the places") as error:
        _build(vectors, tmp_path / "index", max_share_change=1e-5, **settings)
    assert error.value.exit_code == 3


def test_sharded_indexes_answer_as_one_piece_does(tmp_path, clustered):
    vectors, queries = clustered(3000, seed=1), clustered(200, seed=2)
    for kind in ("exact", "scann"):
        answers = []
        for shards in (1, 4):
            folder = tmp_path / f"{kind}{shards}"
            assert _build(vectors, folder, index=kind, k=20, shards=shards)["shards"] == shards
            search, _ = load_index(folder, vectors)
            answers.append(search(tf.constant(queries), 20, tf.zeros([200, 0], tf.int32)))
        assert (answers[0][0].numpy() == answers[1][0].numpy()).all()
        np.testing.assert_allclose(answers[0][1], answers[1][1], rtol=1e-6)


def test_scann_built_twice_answers_the_same(tmp_path, clustered):
    # Coarse settings, so that many candidates are near the border of being found.
    vectors = clustered(3000, seed=1)
    answers = []
    for name in ("first", "second"):
        _build(vectors, tmp_path / name, index="scann", k=20, leaves_to_search=3, reorder=20)
        search, _ = load_index(tmp_path / name, vectors)
        answers.append(search(tf.constant(vectors), 20, tf.zeros([3000, 0], tf.int32)))
    assert (answers[0][0].numpy() == answers[1][0].numpy()).all()
    assert (answers[0][1].numpy() == answers[1][1].numpy()).all()


def test_two_loaded_scann_indexes_do_not_answer_for_each_other(tmp_path, clustered):
    searches = []
    for seed in (1, 2):
        vectors = clustered(500, seed=seed)
        _build(vectors, tmp_path / str(seed), index="scann", k=5)
        searches.append((vectors, load_index(tmp_path / str(seed), vectors)[0]))
    for vectors, search in searches * 2:
        rows, _ = search(tf.constant(vectors), 1, tf.zeros([500, 0], tf.int32))
        assert (rows.numpy()[:, 0] == np.arange(500)).mean() > 0.95


def test_odd_dimensions_are_hashed_too(tmp_path, clustered):
    vectors = clustered(400, seed=1, dim=7)
    assert _build(vectors, tmp_path / "index", index="scann", k=5)["recall"]["overall"] > 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"leaves": 101}, "`serving.leaves` should be at most the number of items, 100"),
        ({"leaves": 5, "leaves_to_search": 6}, "`serving.leaves_to_search` should be at most"),
        ({"shards": 101}, "`serving.shards` should be at most the number of items, 100"),
        ({"k": 30, "reorder": 29}, "`serving.reorder` should be at least `serving.k`, here 30"),
    ],
)
def test_settings_that_scann_would_silently_bend_are_refused(
    tmp_path, clustered, settings, message
):
    with pytest.raises(InvalidInputError, match=message):
        _build(clustered(100, seed=1), tmp_path / "index", index="scann", **settings)


def test_too_few_items_for_scann(tmp_path, clustered):
    with pytest.raises(InvalidInputError, match=r"at least 16 items. Received: 15"):
        _build(clustered(15, seed=1), tmp_path / "index", index="scann")


def test_an_interrupted_build_is_not_loaded(tmp_path, clustered):
    with pytest.raises(InvalidInputError, match="no complete index"):
        load_index(tmp_path, clustered(4, seed=1))


def test_an_index_of_another_catalogue_is_not_loaded(tmp_path, clustered):
    _build(clustered(40, seed=1), tmp_path / "index")
    with pytest.raises(InvalidInputError, match=r"of 40 vectors .* has 41"):
        load_index(tmp_path / "index", clustered(41, seed=1))
