"""What candidates of batch, sample and memory stand for: the catalogue, group by group.

Everything here is by simulation: items are drawn as training draws them, popular ones more often.
"""

from collections.abc import Callable

import numpy as np
import pytest
import tensorflow as tf

from fairness_losses.candidate_memory import CandidateMemory
from fairness_losses.catalogue_sample import StratifiedSample
from towers.catalogue import EntityTable
from towers.objectives import PairObjective, draw_probability
from towers.retrieval_loss import CatalogueNegatives, RetrievalLoss

Loss = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tf.Tensor]
"""Of queries, items, own rows and step."""

Recorder = Callable[..., tuple[np.ndarray, np.ndarray]]

NUM_ITEMS, BATCH, DIM = 60, 48, 4
GROUPS = np.repeat(["head", "middle", "tail"], [6, 24, 30])
MEMBERSHIP = (GROUPS[:, None] == np.unique(GROUPS)).astype(np.float64)
FREQUENCY = np.ceil(1000 / np.arange(1, NUM_ITEMS + 1)).astype(np.int64)
PROBABILITY = FREQUENCY / FREQUENCY.sum()
CATALOGUE = EntityTable(
    ids=np.arange(NUM_ITEMS).astype(object),
    columns={},
    labels={"group": GROUPS.astype(object)},
    frequency=FREQUENCY,
)
TERMS = np.exp(np.random.default_rng(0).normal(size=NUM_ITEMS)).astype(np.float32)
"""exp(s) of every item, for one query."""


def sample(size: int = 16) -> StratifiedSample:
    return StratifiedSample(CATALOGUE.groups, size, seed=0)


def recorder(objective: PairObjective, sampled: StratifiedSample | None) -> Recorder:
    """Returns a function to ids and log weights that the objective hands to its loss."""

    @tf.function
    def candidates(rows: tf.Tensor, step: tf.Tensor) -> list[tf.Tensor]:
        handed: list[tf.Tensor] = []

        def record(embeddings, own, ids, log_weights):
            handed.extend([ids, log_weights])
            return tf.constant(0.0)

        objective._loss = record
        drawn = None
        if sampled is not None:
            drawn = CatalogueNegatives(
                tf.zeros([sampled.size, DIM]), sampled.rows(step), sampled.weights
            )
        query = tf.zeros([tf.size(rows), DIM])
        objective(query, {"candidate": rows}, drawn, lambda r: tf.zeros([tf.size(r), DIM]))
        return handed

    def recorded(rows: np.ndarray, step: int = 0) -> tuple[np.ndarray, np.ndarray]:
        ids, log_weights = candidates(tf.constant(rows, tf.int32), tf.constant(step, tf.int64))
        return ids.numpy(), log_weights.numpy()

    return recorded


def batches(count: int) -> np.ndarray:
    return np.random.default_rng(1).choice(NUM_ITEMS, (count, BATCH), p=PROBABILITY)


def errors_of_partitions(
    objective: PairObjective,
    sampled: StratifiedSample | None,
    reweigh: Callable[[np.ndarray, np.ndarray], np.ndarray] = lambda ids, log_weights: log_weights,
) -> np.ndarray:
    """How many standard errors estimates are from the catalogue, per group.

    What is estimated is the sum of exp(s) over all items but the own item of the first query, by
    the weighted sum over all candidates but that item, in 1,500 batches.
    """
    differences, recorded = [], recorder(objective, sampled)
    for step, rows in enumerate(batches(1500)):
        ids, log_weights = recorded(rows, step)
        counted = (ids != rows[0]) & (log_weights > -1e8)
        ids, log_weights = ids[counted], reweigh(ids[counted], log_weights[counted])
        others = TERMS * (np.arange(NUM_ITEMS) != rows[0])
        differences.append(
            (np.exp(log_weights) * TERMS[ids]) @ MEMBERSHIP[ids] - others @ MEMBERSHIP
        )
    # A memory of 100 candidates ties together three batches.
    found = np.array(differences)[3::3]
    return np.abs(found.mean(axis=0)) / (found.std(axis=0) / np.sqrt(len(found)))


def objective(
    sampled: StratifiedSample | None = None, memory: int = 0, logq_correction: bool = True
) -> PairObjective:
    held = None
    if memory:
        held = CandidateMemory(memory, DIM, draw_probability(CATALOGUE, logq_correction))
    return PairObjective(RetrievalLoss(1.0), CATALOGUE, logq_correction, sampled, held)


def test_weights_by_hand():
    """5 pairs, so 4 other draws of the log; item 0 has the share 1000/4704 of it.

    16 draws of the sample: 8 evenly, 2 2/3 for each group, and 8 by size, 0.8, 3.2 and 4: for the
    head 3.47, 3 of 6 items. Item 0 is to be expected 4 * 1000/4704 + 1/2 times and is there twice.
    """
    sampled = sample()
    assert FREQUENCY.sum() == 4704
    np.testing.assert_array_equal(sampled.expected_draws[:6], [0.5] * 6)
    rows = np.array([3, 0, 0, 7, 40])
    ids, log_weights = recorder(objective(sampled), sampled)(rows)
    np.testing.assert_array_equal(ids[:4], [3, 0, 7, 40])
    assert np.exp(log_weights[1]) == pytest.approx(2 / (4000 / 4704 + 0.5), rel=1e-5)
    assert (log_weights[4:256] < -1e8).all()
    expected = 4 * PROBABILITY + sampled.expected_draws
    np.testing.assert_allclose(np.exp(log_weights[256:]), 1 / expected[ids[256:]], rtol=1e-5)
    assert len(ids) == 256 + 16


@pytest.mark.parametrize("with_sample", [False, True])
@pytest.mark.parametrize("memory", [0, 100])
def test_partitions_are_those_of_the_catalogue_in_every_group(with_sample, memory):
    """In-batch negatives alone, mixed with a uniform sample, and both with past candidates."""
    sampled = sample() if with_sample else None
    assert (errors_of_partitions(objective(sampled, memory), sampled) < 4).all()


def test_without_or_with_a_wrong_correction_the_same_check_fails():
    """So that it is known to be able to: no correction, the wrong sign, and the sample's alone."""
    sampled = sample()

    def wrong_sign(ids: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
        return -log_weights

    def sample_alone(ids: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
        return -np.log(sampled.expected_draws[ids])

    assert errors_of_partitions(objective(logq_correction=False), None).max() > 20
    assert errors_of_partitions(objective(sampled), sampled, wrong_sign).max() > 20
    assert errors_of_partitions(objective(sampled), sampled, sample_alone).max() > 20


def test_no_candidate_stands_for_more_than_in_the_sample_alone():
    """However rare it is in batches: what keeps the estimate of small groups steady."""
    sampled = sample()
    ids, log_weights = recorder(objective(sampled), sampled)(batches(1)[0])
    assert (np.exp(log_weights[256:]) < 1 / sampled.expected_draws[ids[256:]] + 1e-5).all()


class Choosers:
    """Four kinds of users, and how often each chooses every item."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(2)
        log_choice = np.log(PROBABILITY) + self.rng.normal(size=(4, NUM_ITEMS))
        self.choice = np.exp(log_choice) / np.exp(log_choice).sum(axis=1, keepdims=True)
        frequency = np.ceil(1e6 * self.choice.mean(axis=0)).astype(np.int64)
        self.catalogue = EntityTable(CATALOGUE.ids, {}, CATALOGUE.labels, frequency)

    def draw(self, size: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Kinds of users, and the items that they choose."""
        kinds = self.rng.integers(0, 4, size)
        below = self.rng.random((size, 1)) > self.choice[kinds].cumsum(axis=1)
        rows = np.minimum(below.sum(axis=1), NUM_ITEMS - 1)
        return tf.constant(kinds), tf.constant(rows, tf.int32)

    def mean_gradients(
        self, losses: list[Loss], tastes: tf.Tensor, items: tf.Tensor, size: int, steps: int
    ) -> np.ndarray:
        """Of losses with respect to items, `[num_losses, steps, num_items, dim]`."""

        @tf.function
        def gradients(kinds: tf.Tensor, rows: tf.Tensor, step: tf.Tensor) -> list[tf.Tensor]:
            found = []
            for loss in losses:
                with tf.GradientTape() as tape:
                    tape.watch(items)
                    value = loss(tf.gather(tastes, kinds), items, rows, step)
                found.append(tf.convert_to_tensor(tape.gradient(value, items)))
            return found

        steps_of = (gradients(*self.draw(size), tf.constant(s, tf.int64)) for s in range(steps))
        return np.swapaxes([[g.numpy() for g in found] for found in steps_of], 0, 1)


def loss_of(pairs: PairObjective, sampled: StratifiedSample | None) -> Loss:
    def loss(query, items, rows, step):
        drawn = None
        if sampled is not None:
            ids = sampled.rows(step)
            drawn = CatalogueNegatives(tf.gather(items, ids), ids, sampled.weights)
        return pairs(query, {"candidate": rows}, drawn, lambda r: tf.gather(items, r))

    return loss


def full_softmax(query, items, rows, step):
    logits = tf.matmul(query, items, transpose_b=True)
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(rows, logits))


@pytest.mark.parametrize("with_sample", [False, True])
def test_gradients_of_every_group_are_those_of_the_full_softmax(with_sample):
    """Means over 100 batches of 1,600, for users and items at random.

    What is left is the curvature of the logarithm, in proportion to 1 / batch.
    """
    users, sampled = Choosers(), sample() if with_sample else None
    tastes = tf.constant(users.rng.normal(size=(4, DIM)), tf.float32)
    items = tf.constant(users.rng.normal(size=(NUM_ITEMS, DIM)), tf.float32)
    corrected, uncorrected = (
        loss_of(PairObjective(RetrievalLoss(1.0), users.catalogue, logq, sampled), sampled)
        for logq in (True, False)
    )
    losses = [full_softmax, corrected, uncorrected]
    means = users.mean_gradients(losses, tastes, items, 1600, 100).mean(axis=1)
    exact, found, wrong = np.einsum("ig,mid->mgd", MEMBERSHIP, means)
    length = np.linalg.norm(exact, axis=1)
    assert (np.linalg.norm(found - exact, axis=1) < 0.06 * length).all()
    assert (np.linalg.norm(wrong - exact, axis=1) > 0.2 * length).any()


@pytest.mark.parametrize("remove_accidental_hits", [True, False])
@pytest.mark.parametrize("with_sample", [False, True])
def test_a_model_that_is_right_is_pushed_nowhere(with_sample, remove_accidental_hits):
    """At scores `log P(item | user)` the full softmax has no gradient; nor may an estimate of it.

    A group's part of the gradient is how far training would move its share of what users choose,
    here in units of that share: less than half a percent.
    """
    users, sampled = Choosers(), sample() if with_sample else None
    items = tf.constant(np.log(users.choice).T, tf.float32)
    loss = RetrievalLoss(1.0, remove_accidental_hits)
    ours = loss_of(PairObjective(loss, users.catalogue, True, sampled), sampled)
    found = users.mean_gradients([ours], tf.eye(4), items, 400, 300)[0].sum(axis=2) @ MEMBERSHIP
    share = users.choice.mean(axis=0) @ MEMBERSHIP
    assert (found.std(axis=0) / np.sqrt(300) < 0.001 * share).all()
    assert (np.abs(found.mean(axis=0)) < 0.005 * share).all()


def test_to_correct_the_own_item_as_if_it_were_drawn_pushes_small_groups_down():
    """The same check of the loss that subtracts log q of every item and leaves out hits.

    It moves the tail by -9 percent of its share, in favour of the head.
    """
    users = Choosers()
    items = tf.constant(np.log(users.choice).T, tf.float32)
    frequency = users.catalogue.frequency
    log_probability = tf.constant(np.log(frequency / frequency.sum()), tf.float32)

    def usual(query, items, rows, step):
        logits = tf.matmul(query, tf.gather(items, rows), transpose_b=True)
        logits -= tf.gather(log_probability, rows)
        position = tf.range(tf.size(rows))
        hits = (rows[:, None] == rows) & (position[:, None] != position)
        logits = tf.where(hits, -1e9, logits)
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(position, logits)
        return tf.reduce_mean(losses)

    found = users.mean_gradients([usual], tf.eye(4), items, 400, 100)[0].sum(axis=2) @ MEMBERSHIP
    push = -found.mean(axis=0) / (users.choice.mean(axis=0) @ MEMBERSHIP)
    head, _, tail = push
    assert 0.07 < head < 0.11
    assert -0.12 < tail < -0.08


def test_a_catalogue_that_is_sampled_whole_is_the_full_softmax():
    sampled = sample(NUM_ITEMS)
    rng = np.random.default_rng(0)
    query = tf.constant(rng.normal(size=(5, DIM)), tf.float32)
    items = tf.constant(rng.normal(size=(NUM_ITEMS, DIM)), tf.float32)
    rows = tf.constant([3, 0, 0, 7, 40])
    drawn = CatalogueNegatives(items, tf.range(NUM_ITEMS), sampled.weights)
    value = objective(sampled)(query, {"candidate": rows}, drawn, lambda r: tf.gather(items, r))
    logits = tf.matmul(query, items, transpose_b=True)
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(rows, logits)
    np.testing.assert_allclose(value, tf.reduce_mean(losses), rtol=1e-5)


def test_the_memory_holds_every_pair_of_past_batches_but_not_of_its_own():
    pairs = objective(memory=6)
    first, second = np.array([3, 5, 5]), np.array([3, 9, 1])
    recorded = recorder(pairs, None)
    assert (recorded(first)[1][256:] < -1e8).all()
    ids, log_weights = recorded(second)
    np.testing.assert_array_equal(ids[256:259], first)
    np.testing.assert_allclose(
        np.exp(log_weights[256:259]), 1 / (5 * PROBABILITY[first]), rtol=1e-5
    )


def test_the_memory_is_saved_with_the_objective(tmp_path):
    pairs, again = objective(memory=6), objective(memory=6)
    recorder(pairs, None)(np.array([3, 5, 5]))
    path = tf.train.Checkpoint(objective=pairs).save(str(tmp_path / "state"))
    tf.train.Checkpoint(objective=again).restore(path).assert_consumed()
    ids, _ = recorder(again, None)(np.array([3, 9, 1]))
    np.testing.assert_array_equal(ids[256:259], [3, 5, 5])


def test_a_sample_that_only_one_side_knows_of_is_refused():
    with pytest.raises(ValueError, match="given to the objective and to the model alike"):
        recorder(objective(), sample())(np.array([0, 1]))
    with pytest.raises(ValueError, match="given to the objective and to the model alike"):
        recorder(objective(sample()), None)(np.array([0, 1]))
