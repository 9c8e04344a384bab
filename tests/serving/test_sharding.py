"""A catalogue in shards answers as the catalogue in one piece, to the last tie."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.scann_index import build_scann
from serving.scann_state import load_state
from serving.search import NO_ITEM, ExactSearch, load_scann_search
from serving.sharding import ShardedScannSearch, ShardedSearch, shard_starts

SETTINGS = {"leaves": 24, "leaves_to_search": 5, "reorder": 60}
NUM_ITEMS = 1500


def _exact_shards(vectors: np.ndarray, shards: int) -> ShardedSearch:
    starts = shard_starts(len(vectors), shards)
    parts = [ExactSearch(vectors[a:b]) for a, b in itertools.pairwise(starts)]
    return ShardedSearch(parts, starts)


@settings(max_examples=40, deadline=None)
@given(data=st.data(), num_items=st.integers(1, 12), num_excluded=st.integers(0, 6))
def test_exact_shards_equal_one_piece(data, num_items, num_excluded):
    # Small integers make ties common, within shards and between them, and their sums exact.
    numbers = st.tuples(st.integers(-2, 2), st.integers(-2, 2))
    vectors = np.array(data.draw(st.lists(numbers, min_size=num_items, max_size=num_items)), "f")
    query = np.array([data.draw(numbers)], "f")
    rows = st.integers(NO_ITEM, num_items - 1)
    excluded = data.draw(st.lists(rows, min_size=num_excluded, max_size=num_excluded))
    k = data.draw(st.integers(1, num_items))
    shards = data.draw(st.integers(1, num_items))

    question = query, k, tf.reshape(tf.constant(excluded, tf.int32), [1, -1])
    whole = ExactSearch(vectors)(*question)
    pieces = _exact_shards(vectors, shards)(*question)

    assert pieces[0].numpy().tolist() == whole[0].numpy().tolist()
    assert pieces[1].numpy().tolist() == whole[1].numpy().tolist()


@pytest.fixture(scope="module")
def index(tmp_path_factory, clustered):
    """A folder with an index of items of which some are alike, in different shards."""
    vectors = clustered(NUM_ITEMS, seed=1)
    vectors[::10] = vectors[7]
    folder = tmp_path_factory.mktemp("index") / "scann"
    build_scann(vectors, 20, SETTINGS, folder)
    return folder, vectors


@pytest.fixture(scope="module")
def queries(index, clustered):
    """Half of them near the items that are alike."""
    queries = clustered(120, seed=2)
    queries[::2] = index[1][7] + 0.02 * queries[::2]
    return queries


def _ask(search, queries, k, excluded):
    answer = tf.function(lambda q, e: search(q, k, e))(
        tf.constant(queries), tf.constant(excluded, tf.int32)
    )
    return [tensor.numpy() for tensor in answer]


@pytest.mark.parametrize(("k", "num_excluded"), [(1, 0), (20, 0), (60, 0), (20, 30)])
def test_scann_shards_equal_one_piece(index, queries, k, num_excluded):
    folder, _ = index
    excluded = np.random.default_rng(0).integers(0, NUM_ITEMS, [len(queries), num_excluded])
    state = load_state(folder)
    answers = [
        _ask(ShardedScannSearch(state, shards, **SETTINGS), queries, k, excluded)
        for shards in (1, 2, 7)
    ]
    for rows, scores in answers[1:]:
        assert (rows == answers[0][0]).all()
        assert (scores == answers[0][1]).all()


def test_scann_shards_find_what_scann_finds(index, queries):
    # ScaNN chooses among codes of equal score as it likes, and 150 items of this catalogue have
    # the same code; where it has no such choice, it finds the same.
    folder, _ = index
    ours = _ask(ShardedScannSearch(load_state(folder), 3, **SETTINGS), queries, 20, _none(queries))
    theirs = _ask(load_scann_search(folder, NUM_ITEMS, SETTINGS), queries, 20, _none(queries))
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-5)
    assert (ours[0][1::2] == theirs[0][1::2]).mean() > 0.99


def test_shards_give_full_lists_without_what_is_excluded(index, queries):
    # All but 25 items are excluded, more than the leaves looked into hold.
    left = np.arange(0, NUM_ITEMS, 60)
    excluded = np.tile(np.setdiff1d(np.arange(NUM_ITEMS), left), [len(queries), 1])
    search = ShardedScannSearch(load_state(index[0]), 3, **SETTINGS)
    rows, scores = _ask(search, queries, 25, excluded)
    assert all(sorted(r) == left.tolist() for r in rows)
    assert (np.diff(scores) <= 0).all()


def test_of_equal_scores_the_lower_row_comes_first(index, queries):
    rows, scores = _ask(
        ShardedScannSearch(load_state(index[0]), 4, **SETTINGS), queries, 60, _none(queries)
    )
    alike = np.diff(scores) == 0
    assert alike.sum() > 1000
    assert (np.diff(rows)[alike] > 0).all()


class Several(tf.Module):
    """Several indexes in one SavedModel."""

    def __init__(self, searches):
        super().__init__()
        self.searches = searches

    @tf.function(input_signature=[tf.TensorSpec([None, 16], tf.float32)])
    def rows(self, queries):
        nothing = tf.zeros([tf.shape(queries)[0], 0], tf.int32)
        return tf.stack([search(queries, 20, nothing)[0] for search in self.searches])


def test_of_several_indexes_in_a_saved_model_each_answers_for_itself(
    index, queries, clustered, tmp_path
):
    folder, _ = index
    build_scann(clustered(NUM_ITEMS, seed=9), 20, SETTINGS, tmp_path / "other")
    module = Several(
        [
            load_scann_search(folder, NUM_ITEMS, SETTINGS),
            load_scann_search(tmp_path / "other", NUM_ITEMS, SETTINGS),
            ShardedScannSearch(load_state(folder), 3, **SETTINGS),
        ]
    )
    before = module.rows(tf.constant(queries)).numpy()
    assert (before[0] != before[1]).any()
    tf.saved_model.save(module, str(tmp_path / "saved"))
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    assert (loaded.rows(tf.constant(queries)).numpy() == before).all()


def _none(queries: np.ndarray) -> np.ndarray:
    return np.zeros([len(queries), 0])
