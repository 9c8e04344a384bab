"""The pairwise-fairness penalty: by hand, pair by pair, gradient, and use in a foreign model."""

import doctest

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_recommenders as tfrs
from hypothesis import given, settings
from hypothesis import strategies as st

import fairness_losses
from fairness_losses.metrics.pairwise import pairwise_accuracy
from fairness_losses.regularizers import pairwise
from fairness_losses.regularizers.pairwise import PairwiseFairness

# Two queries over an A and two Bs; the first chose the A, the second the first B.
SCORES = tf.constant([[0.9, 0.3, 0.1], [0.4, 0.6, 0.5]])
RELEVANCE = tf.constant([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
MEMBERSHIP = tf.gather(tf.eye(2), [0, 1, 1])

KINDS = ["overall", "intra", "inter"]
seeds = st.integers(0, 2**32 - 1)


def random_inputs(seed: int) -> dict[str, np.ndarray]:
    """Three groups, some items in several, positives in every query."""
    rng = np.random.default_rng(seed)
    shape = (4, 12)
    membership = np.eye(3)[np.arange(12) % 3]
    membership[:3] = rng.dirichlet(np.ones(3), 3)
    return {
        "scores": rng.normal(size=shape),
        "membership": membership,
        "weights": rng.uniform(0.5, 3.0, shape[1]),
        "relevance": np.where(rng.random(shape) < 0.4, 1.0, 0.0),
        "listed": rng.random(shape) < 0.8,
    }


def pair_by_pair(scores, membership, weights, relevance, listed, kind):
    """Weighted correlation of residual and group, with a loop over pairs and groups."""
    residual, group, mass = [], [], []
    for query, i, j in np.ndindex(*scores.shape, scores.shape[1]):
        if relevance[query, i] > 0 and not relevance[query, j] > 0 and listed[query, j]:
            for g in range(membership.shape[1]):
                member = membership[j, g]
                fraction = {"overall": 1.0, "intra": member, "inter": 1 - member}[kind]
                residual.append(scores[query, i] - scores[query, j])
                group.append(g)
                mass.append(weights[i] * weights[j] * membership[i, g] * fraction)
    correlations = []
    for g in range(membership.shape[1]):
        covariance = np.cov(residual, np.array(group) == g, aweights=mass)
        correlations.append(covariance[0, 1] / np.sqrt(covariance[0, 0] * covariance[1, 1]))
    return np.abs(correlations).mean()


def test_two_groups_by_hand():
    """Inter-group residuals: A 0.9 - 0.3 = 0.6 and 0.9 - 0.1 = 0.8; B 0.6 - 0.4 = 0.2.

    Mean 1.6 / 3, mean square (0.36 + 0.64 + 0.04) / 3, variance 1.04 / 3 - 2.56 / 9 = 0.56 / 9.
    A has 2/3 of the pairs and the mean 0.7: sqrt(2) * (0.7 - 1.6 / 3) / sqrt(0.56 / 9)
    = sqrt(2) * 0.5 / sqrt(0.56) = 0.944911. B has the same: sqrt(1/2) * (1.6 - 0.6) / sqrt(0.56).
    """
    penalty = PairwiseFairness("inter")(SCORES, MEMBERSHIP, relevance=RELEVANCE)
    assert float(penalty) == pytest.approx(0.944911, abs=1e-5)


def test_intra_group_residuals_of_one_group_alone_are_not_compared():
    """The A has no other A to be compared with: B's 0.6 - 0.5 is all there is."""
    penalty = PairwiseFairness("intra")(SCORES, MEMBERSHIP, relevance=RELEVANCE)
    assert float(penalty) == pytest.approx(0, abs=1e-6)


def test_what_was_chosen_before_is_not_compared():
    """Without the last B, residuals are A 0.6, B 0.2: the group says all about them."""
    listed = tf.constant([[True, True, False], [True, True, True]])
    penalty = PairwiseFairness("inter")(SCORES, MEMBERSHIP, relevance=RELEVANCE, listed=listed)
    assert float(penalty) == pytest.approx(1, abs=1e-5)


@given(seed=seeds, kind=st.sampled_from(KINDS))
@settings(max_examples=25, deadline=None)
def test_it_is_the_correlation_over_all_pairs(seed, kind):
    inputs = random_inputs(seed)
    expected = pair_by_pair(**inputs, kind=kind)
    penalty = PairwiseFairness(kind)(**inputs)
    assert float(penalty) == pytest.approx(expected, abs=1e-8)
    assert 0 <= expected <= 1
    in_float32 = {n: v.astype(np.float32) if n != "listed" else v for n, v in inputs.items()}
    assert float(PairwiseFairness(kind)(**in_float32)) == pytest.approx(expected, abs=1e-4)


@given(seed=seeds, factor=st.floats(0.01, 100), shift=st.floats(-100, 100))
@settings(max_examples=25, deadline=None)
def test_scale_of_scores_and_order_of_candidates_do_not_matter(seed, factor, shift):
    inputs = random_inputs(seed)
    order = np.random.default_rng(seed).permutation(12)
    other = {
        name: value[order] if name in ("membership", "weights") else value[:, order]
        for name, value in inputs.items()
    }
    other["scores"] = factor * other["scores"] + shift * np.arange(1, 5)[:, None]
    fairness = PairwiseFairness("overall")
    assert float(fairness(**inputs)) == pytest.approx(float(fairness(**other)), abs=1e-8)


@given(seed=seeds, lead=st.floats(-1, 1))
@settings(max_examples=25, deadline=None)
def test_it_is_zero_if_and_only_if_the_mean_residuals_are_equal(seed, lead):
    """Non-positives score 0, so residuals are the positives' scores; those of A get a lead."""
    rng = np.random.default_rng(seed)
    membership = np.eye(3)[np.arange(12) % 3]
    positive = np.arange(12) < 6
    noise = rng.normal(size=(1, 6))
    # Each group has two positives, the ones of rows g and g + 3.
    noise -= (noise[:, :3] + noise[:, 3:]).repeat(2).reshape(3, 2).T.reshape(1, 6) / 2
    scores = np.concatenate([noise + 0.5 + lead * membership[:6, 0], np.zeros((1, 6))], axis=1)
    penalty = float(PairwiseFairness("inter")(scores, membership, relevance=positive[None] * 1.0))
    if abs(lead) < 1e-6:
        assert penalty == pytest.approx(0, abs=1e-5)
    else:
        assert penalty > 1e-8


def test_excluded_groups_are_compared_with_but_do_not_compare():
    """`unknown` chose a third of all pairs; without it the pairs of the others are all there is."""
    membership = tf.gather(tf.eye(3), [0, 1, 1, 2])
    scores = tf.constant([[0.9, 0.3, 0.1, 0.2], [0.4, 0.6, 0.5, 0.3], [0.1, 0.2, 0.3, 0.9]])
    relevance = tf.gather(tf.eye(4), [0, 1, 3])
    excluded = PairwiseFairness("inter", excluded=[2])(scores, membership, relevance=relevance)
    # The same pairs, without the query in which `unknown` was chosen.
    rest = PairwiseFairness("inter")(scores[:2], membership, relevance=relevance[:2])
    everyone = PairwiseFairness("inter")(scores, membership, relevance=relevance)
    assert float(excluded) == pytest.approx(float(rest), abs=1e-6)
    assert abs(float(everyone) - float(rest)) > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_agrees_with_finite_differences(kind):
    inputs = random_inputs(3)
    scores = tf.constant(inputs.pop("scores"))
    fairness = PairwiseFairness(kind)
    theirs, numeric = tf.test.compute_gradient(
        lambda scores: fairness(scores, **inputs), [scores], delta=1e-5
    )
    np.testing.assert_allclose(theirs[0], numeric[0], atol=1e-7)
    assert np.abs(theirs[0]).max() > 1e-3


NO_SPREAD = tf.constant([[0.5, 0.0, 0.0], [0.0, 0.5, 0.0]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("scores", "relevance", "membership"),
    [
        (SCORES, tf.zeros([2, 3]), MEMBERSHIP),
        (SCORES, tf.ones([2, 3]), MEMBERSHIP),
        (SCORES[:0], RELEVANCE[:0], MEMBERSHIP),
        (SCORES[:, :0], RELEVANCE[:, :0], MEMBERSHIP[:0]),
        (SCORES, RELEVANCE, tf.gather(tf.eye(3), [1, 1, 1])),
        (tf.zeros([2, 3]), RELEVANCE, MEMBERSHIP),
        (NO_SPREAD, RELEVANCE, MEMBERSHIP),
    ],
    ids=["no positive", "all positive", "no query", "no item", "one group", "ties", "no spread"],
)
def test_where_there_is_nothing_to_compare_it_is_zero(kind, scores, relevance, membership):
    with tf.GradientTape() as tape:
        tape.watch(scores)
        penalty = PairwiseFairness(kind)(scores, membership, relevance=relevance)
    assert float(penalty) == pytest.approx(0, abs=1e-3)
    assert np.isfinite(tape.gradient(penalty, scores).numpy()).all()


@pytest.mark.parametrize("relevance", [RELEVANCE, tf.zeros([2, 3])])
@pytest.mark.parametrize("groups", [[0, 1, 1], [1, 1, 1]])
def test_a_score_that_is_nan_makes_the_penalty_nan(groups, relevance):
    scores = tf.constant([[0.9, float("nan"), 0.1], [0.4, 0.6, 0.5]])
    membership = tf.gather(tf.eye(2), groups)
    assert np.isnan(float(PairwiseFairness()(scores, membership, relevance=relevance)))


def test_large_scores_in_common_do_not_drown_the_residuals():
    shifted = PairwiseFairness("inter")(SCORES + 1000, MEMBERSHIP, relevance=RELEVANCE)
    assert float(shifted) == pytest.approx(0.944911, abs=1e-3)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_float32_inside_tf_function_with_and_without_xla(jit_compile):
    fairness = PairwiseFairness("overall", excluded=[2])
    inputs = {n: v.astype(np.float32) for n, v in random_inputs(1).items() if n != "listed"}
    penalty = tf.function(fairness, jit_compile=jit_compile)(**inputs)
    assert penalty.dtype == tf.float32
    assert penalty.shape == []
    assert float(penalty) == pytest.approx(float(fairness(**inputs)), abs=1e-5)


def test_shapes_may_be_unknown_until_the_graph_runs():
    fairness, matrix = PairwiseFairness("inter"), tf.TensorSpec([None, None], tf.float32)

    @tf.function(input_signature=[matrix] * 3)
    def compiled(scores, membership, relevance):
        return fairness(scores, membership, relevance=relevance)

    penalty = compiled(SCORES, MEMBERSHIP, RELEVANCE)
    assert float(penalty) == pytest.approx(0.944911, abs=1e-5)


def test_descent_closes_the_gap_in_pairwise_accuracy():
    """B's items score 1 less than A's, wanted or not; the bias of a group is all that can move.

    With equal biases again both groups win their inter-group pairs as often.
    """
    rng = np.random.default_rng(0)
    membership = np.eye(2)[np.arange(60) % 2]
    relevance = (rng.random((40, 60)) < 0.1) * 1.0
    wanted = rng.normal(size=(40, 60)) + 0.8 * relevance
    bias = tf.Variable([0.0, -1.0], dtype=tf.float64)
    fairness = PairwiseFairness("inter")

    def scores():
        return wanted + tf.linalg.matvec(membership, bias)

    def gap():
        accuracy = pairwise_accuracy(scores().numpy(), relevance, membership, "inter").by_group
        return abs(accuracy[0] - accuracy[1])

    @tf.function
    def descend():
        for _ in tf.range(150):
            with tf.GradientTape() as tape:
                penalty = fairness(scores(), membership, relevance=relevance)
            bias.assign_sub(0.02 * tape.gradient(penalty, bias))

    before = gap()
    descend()
    assert before > 0.3
    assert gap() < 0.05


def test_training_a_tfrs_model_with_it_brings_it_down():
    """What users chose leads by 1 to 2 where it is an A, by 0.1 to 0.6 where it is a B."""
    membership, relevance = tf.repeat(tf.eye(2), 4, axis=0), tf.eye(8)

    class TheirModel(tfrs.Model):
        def __init__(self):
            super().__init__()
            self.items = tf.keras.layers.Dense(
                8, kernel_initializer=tf.keras.initializers.Identity()
            )
            self.fairness = PairwiseFairness("inter")

        def compute_loss(self, inputs, training=False):
            return self.fairness(self.items(inputs), membership, relevance=relevance)

    model = TheirModel()
    # Tracing would take longer than all of the training.
    model.compile(optimizer=tf.keras.optimizers.SGD(0.1), run_eagerly=True)
    queries = relevance * tf.constant([2.0, 1.7, 1.3, 1.0, 0.6, 0.4, 0.3, 0.1])
    data = tf.data.Dataset.from_tensors(queries)
    losses = model.fit(data, epochs=5, verbose=0).history["loss"]
    assert losses[0] > 0.8
    assert losses[-1] < losses[0] - 0.01
    assert (model.items.kernel.numpy() != np.eye(8)).any()


def test_examples_in_the_docstrings_hold():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for example in finder.find(pairwise, globs=vars(pairwise).copy()):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0


def test_a_config_makes_an_equal_regularizer():
    config = PairwiseFairness("intra", excluded=(2,), labels=("A", "B", "?")).get_config()
    assert config == {"labels": ["A", "B", "?"], "kind": "intra", "excluded": [2]}
    assert fairness_losses.get("pairwise_fairness", **config).get_config() == config


def test_relevance_is_needed():
    with pytest.raises(ValueError, match=r"`pairwise_fairness` needs `relevance`"):
        PairwiseFairness()(SCORES, MEMBERSHIP)


def test_there_are_three_kinds_of_pairs():
    with pytest.raises(ValueError, match=r"`kind` should be one of.*Received: both\."):
        PairwiseFairness("both")


@pytest.mark.parametrize("group", [-1, 2])
def test_excluded_groups_exist(group):
    with pytest.raises(ValueError, match=rf"`excluded` should be.*to 1\. Received: {group}\."):
        PairwiseFairness(excluded=[group])(SCORES, MEMBERSHIP, relevance=RELEVANCE)
