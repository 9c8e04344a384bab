"""The softmax loss: by hand, against TensorFlow Recommenders, and against the full softmax."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs

from fairness_losses.catalogue_sample import StratifiedSample
from fairness_losses.groups import Groups
from towers.fused import fused_by_xla
from towers.retrieval_loss import MASKED, Candidates, RetrievalLoss


def normal(seed: int, *shape: int) -> tf.Tensor:
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def candidates(embedding, ids=None, weights=None) -> Candidates:
    """Every item once, and standing for itself, if nothing else is said."""
    size = embedding.shape[0]
    ids = tf.range(size) if ids is None else tf.constant(ids)
    log_weights = tf.zeros(size) if weights is None else tf.math.log(tf.constant(weights))
    return Candidates(tf.convert_to_tensor(embedding), ids, log_weights)


def full_softmax(query: tf.Tensor, catalogue: tf.Tensor, own: tf.Tensor, temperature: float):
    """Cross-entropy of each query's own item among the whole catalogue, float `[num_queries]`."""
    logits = tf.matmul(query, catalogue, transpose_b=True) / temperature
    return tf.nn.sparse_softmax_cross_entropy_with_logits(own, logits)


def step_by_step(query, among: Candidates, own, temperature: float) -> tf.Tensor:
    """The loss as its definition has it, for TensorFlow to differentiate."""
    scores = tf.matmul(query, among.embedding, transpose_b=True) / temperature
    is_own = tf.gather(among.ids, own)[:, tf.newaxis] == among.ids
    positive = tf.gather(scores, own, batch_dims=1)
    others = tf.where(is_own, MASKED, scores + among.log_weights)
    total = tf.reduce_logsumexp(tf.concat([positive[:, tf.newaxis], others], axis=1), axis=1)
    return tf.reduce_mean(total - positive)


def test_a_batch_of_two_by_hand():
    """Scores [[1, 0], [0, 1]] over temperature 1/2: log(e^2 + e^0) - 2 for either query."""
    value = RetrievalLoss(temperature=0.5)(tf.eye(2), candidates(tf.eye(2)), tf.range(2))
    assert float(value) == pytest.approx(np.log(np.exp(2) + 1) - 2, rel=1e-6)


def test_a_candidate_counts_as_often_as_it_stands_for_by_hand():
    """Scores as above over temperature 1; item 0 stands for 5 items and item 1 for 1/2.

    The own item counts once, whatever it stands for elsewhere: log(e + 1/2) - 1 for the first
    query and log(e + 5) - 1 for the second.
    """
    among = candidates(tf.eye(2), weights=[5.0, 0.5])
    value = RetrievalLoss(temperature=1.0)(tf.eye(2), among, tf.range(2))
    expected = (np.log(np.e + 0.5) + np.log(np.e + 5)) / 2 - 1
    assert float(value) == pytest.approx(expected, rel=1e-6)


def test_other_occurrences_of_the_own_item_are_left_out_by_hand():
    """Item 7 comes twice. For its query only item 8 is left: log(e + 3) - 1."""
    among = candidates(tf.constant([[1.0], [0.0], [1.0]]), [7, 8, 7], [2.0, 3.0, 4.0])
    value = RetrievalLoss(1.0)(tf.constant([[1.0]]), among, tf.constant([0]))
    assert float(value) == pytest.approx(np.log(np.e + 3) - 1, rel=1e-6)


def test_accidental_hits_that_are_kept_count_as_candidates_by_hand():
    """As above, but all that is there: log(2 e + 3 + 4 e) - 1."""
    among = candidates(tf.constant([[1.0], [0.0], [1.0]]), [7, 8, 7], [2.0, 3.0, 4.0])
    loss = RetrievalLoss(1.0, remove_accidental_hits=False)
    value = loss(tf.constant([[1.0]]), among, tf.constant([0]))
    assert float(value) == pytest.approx(np.log(6 * np.e + 3) - 1, rel=1e-6)


@pytest.mark.parametrize("remove_accidental_hits", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_with_the_whole_catalogue_it_is_the_full_softmax(temperature, remove_accidental_hits):
    query, catalogue, own = normal(1, 9, 6), normal(2, 12, 6), tf.constant([3, 0, 11] * 3)
    value = RetrievalLoss(temperature, remove_accidental_hits)(query, candidates(catalogue), own)
    expected = tf.reduce_mean(full_softmax(query, catalogue, own, temperature))
    np.testing.assert_allclose(value, expected, rtol=1e-5)


@pytest.mark.parametrize("remove_accidental_hits", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_uncorrected_it_is_the_mean_of_the_retrieval_task_of_tfrs(
    temperature, remove_accidental_hits
):
    """Theirs sums over the batch. Items recur: each stands for as many as it has occurrences."""
    rows = np.random.default_rng(3).integers(0, 10, 24)
    items, own, counts = np.unique(rows, return_inverse=True, return_counts=True)
    query, vectors = normal(1, 24, 8), normal(2, len(items), 8)
    theirs = tfrs.tasks.Retrieval(
        temperature=temperature, remove_accidental_hits=remove_accidental_hits
    )(query, tf.gather(vectors, own), candidate_ids=tf.constant(rows), compute_metrics=False)
    among = candidates(vectors, items, counts.astype(np.float32))
    ours = RetrievalLoss(temperature, remove_accidental_hits)(query, among, tf.constant(own))
    np.testing.assert_allclose(ours, theirs / 24, rtol=1e-5)


def test_with_hits_kept_the_correction_is_that_of_tfrs():
    """It divides an item that is drawn with probability q by q, the own one, too.

    That adds the mean of -log q of the own items, a constant, to the loss.
    """
    rows = np.random.default_rng(3).integers(0, 10, 24)
    probability = tf.nn.softmax(normal(4, 10)).numpy()
    items, own, counts = np.unique(rows, return_inverse=True, return_counts=True)
    query, vectors = normal(1, 24, 8), normal(2, len(items), 8)
    theirs = tfrs.tasks.Retrieval()(
        query,
        tf.gather(vectors, own),
        candidate_sampling_probability=tf.constant(probability[rows]),
        compute_metrics=False,
    )
    among = candidates(vectors, items, (counts / probability[items]).astype(np.float32))
    ours = RetrievalLoss(1.0, remove_accidental_hits=False)(query, among, tf.constant(own))
    np.testing.assert_allclose(ours + np.log(probability[rows]).mean(), theirs / 24, rtol=1e-5)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("scale", [0.3, 30.0])
def test_value_and_gradients_are_those_of_the_definition(scale, fused):
    """With small scores exponentials are shifted by a bound, with large ones by the largest."""
    rng = np.random.default_rng(0)
    embeddings = [scale * normal(1, 7, 4), scale * normal(2, 9, 4)]
    ids, own = tf.constant([0, 1, 2, 3, 4, 5, 1, 0, 8]), tf.constant([0, 1, 2, 3, 4, 5, 8])
    log_weights = tf.constant(rng.normal(size=9), tf.float32)

    def ours(parts: list[tf.Tensor]) -> tf.Tensor:
        return RetrievalLoss(0.5)(parts[0], Candidates(parts[1], ids, log_weights), own)

    def definition(parts: list[tf.Tensor]) -> tf.Tensor:
        return step_by_step(parts[0], Candidates(parts[1], ids, log_weights), own, 0.5)

    results = []
    for loss in (fused_by_xla(ours) if fused else ours, definition):
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            value = 3.0 * loss(embeddings)
        results.append((value, tape.gradient(value, embeddings)))
    (value, gradients), (expected_value, expected) = results
    np.testing.assert_allclose(value, expected_value, rtol=1e-4, atol=1e-5)
    for gradient, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(gradient, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_scores_of_thousands_neither_overflow_nor_vanish(sign):
    """The own item scores 5,000 above the other or as much below it."""
    query = tf.Variable([[100.0]])
    among = candidates(tf.constant([[25.0], [-25.0]]) * sign)
    with tf.GradientTape() as tape:
        value = RetrievalLoss(1.0)(query, among, tf.constant([0]))
    assert float(value) == pytest.approx(0.0 if sign > 0 else 5000.0)
    assert float(tape.gradient(value, query)) == pytest.approx(0.0 if sign > 0 else 50.0)


def test_scores_that_are_nan_make_the_loss_nan():
    query = tf.constant([[np.nan, 1.0], [0.0, 1.0]])
    assert np.isnan(RetrievalLoss(1.0)(query, candidates(tf.eye(2)), tf.range(2)))


def test_padding_counts_for_nothing():
    query, vectors, own = normal(1, 4, 6), normal(2, 7, 6), tf.constant([0, 1, 2, 3])
    padded = Candidates(
        vectors, tf.constant([0, 1, 2, 3, 4, 0, 0]), tf.constant([0.0] * 5 + [MASKED] * 2)
    )
    for remove_accidental_hits in (True, False):
        loss = RetrievalLoss(0.3, remove_accidental_hits)
        expected = loss(query, candidates(vectors[:5]), own)
        np.testing.assert_allclose(loss(query, padded, own), expected, rtol=1e-5)


@pytest.mark.parametrize("remove_accidental_hits", [True, False])
def test_gradients_are_finite_when_the_whole_batch_is_one_item(remove_accidental_hits):
    """Nothing is left as a negative, so that there is nothing to learn."""
    query, vector = tf.Variable(normal(1, 5, 6)), tf.Variable(normal(2, 1, 6))
    with tf.GradientTape() as tape:
        loss = RetrievalLoss(0.01, remove_accidental_hits)
        value = loss(query, candidates(vector), tf.zeros(5, tf.int32))
    gradients = tape.gradient(value, [query, vector])
    assert float(value) == pytest.approx(0.0, abs=1e-4)
    for gradient in gradients:
        np.testing.assert_allclose(tf.convert_to_tensor(gradient), 0.0, atol=1e-4)


def test_loss_is_zero_in_the_limit_of_a_positive_that_outscores_all():
    value = RetrievalLoss(0.01)(tf.eye(4), candidates(tf.eye(4)), tf.range(4))
    assert float(value) == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("temperature", [-1.0, 0.0, float("nan")])
def test_temperature_is_positive(temperature):
    message = rf"`temperature` should be a positive float\. Received: {temperature}\."
    with pytest.raises(ValueError, match=message):
        RetrievalLoss(temperature)


def test_negatives_of_a_stratified_sample_give_the_gradient_of_the_full_softmax_per_group():
    """By simulation, 600 samples of 60 of 300 items: the mean gradient on every group's items.

    What is left of the difference is noise and the curvature of the logarithm, of the order of
    one divided by the size of the sample; without the weights it is far larger.
    """
    counts = {"a": 240, "b": 50, "c": 10}
    groups = Groups.from_labels(np.repeat(list(counts), list(counts.values())))
    query, catalogue = tf.math.l2_normalize(normal(1, 20, 6), 1), 0.5 * normal(2, 300, 6)
    own = tf.constant(np.random.default_rng(0).integers(0, 300, 20), tf.int32)
    sample, loss = StratifiedSample(groups, 60, seed=0), RetrievalLoss(0.5)

    @tf.function
    def gradient(step: tf.Tensor, weighted: tf.Tensor) -> tf.Tensor:
        rows = tf.concat([own, sample.rows(step)], axis=0)
        weights = tf.where(weighted, tf.math.log(sample.weights), 0.0)
        log_weights = tf.concat([tf.fill([20], MASKED), weights], axis=0)
        with tf.GradientTape() as tape:
            tape.watch(catalogue)
            value = loss(
                query, Candidates(tf.gather(catalogue, rows), rows, log_weights), tf.range(20)
            )
        return tf.convert_to_tensor(tape.gradient(value, catalogue))

    with tf.GradientTape() as tape:
        tape.watch(catalogue)
        value = tf.reduce_mean(full_softmax(query, catalogue, own, 0.5))
    exact = groups.membership.T @ tape.gradient(value, catalogue).numpy()
    errors = {}
    for weighted in (True, False):
        steps = (gradient(tf.constant(step, tf.int64), weighted).numpy() for step in range(600))
        estimate = groups.membership.T @ np.mean(list(steps), axis=0)
        errors[weighted] = np.linalg.norm(estimate - exact, axis=1) / np.linalg.norm(exact, axis=1)
    assert (errors[True] < 0.08).all()
    assert (errors[False] > 0.25).all()
