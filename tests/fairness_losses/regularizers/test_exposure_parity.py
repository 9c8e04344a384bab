"""The exposure-parity penalty: values by hand, properties, gradient, and use in a foreign model."""

import doctest
import textwrap

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import fairness_losses
from fairness_losses.regularizers import exposure_parity
from fairness_losses.regularizers.exposure_parity import ExposureParity

HARD = 1e-4
ATTENTIONS = ["top_k", "browsing", "rank", "softmax"]
DIVERGENCES = [
    {"divergence": "squared"},
    {"divergence": "kl"},
    {"divergence": "hinge", "tolerance": 0.1},
]
KINDS = [{"attention": attention} for attention in ATTENTIONS] + DIVERGENCES[1:]
SCORES = tf.constant([[0.9, 0.8, 0.1, 0.0]])
MEMBERSHIP = tf.constant([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [0.0, 1.0]])

shares = st.lists(st.floats(0.05, 1.0), min_size=2, max_size=5)


def penalty_of_shares(share: list[float], target: list[float], **arguments) -> float:
    """Penalty where the groups have shares in these proportions.

    One candidate per group, all with the same score, hence with the same attention; candidate g
    stands for as many items as group g should have.
    """
    weights = tf.constant(np.array(share) / min(share), tf.float32)
    parity = ExposureParity(target, depth=1, **arguments)
    return float(parity(tf.zeros([1, len(share)]), tf.eye(len(share)), weights))


def test_two_groups_by_hand():
    """One item of each on the list: (1/2 - 1/4)^2 / (1/4) + (1/2 - 3/4)^2 / (3/4) = 1/3."""
    parity = ExposureParity([0.25, 0.75], HARD, depth=2)
    assert float(parity(SCORES, MEMBERSHIP)) == pytest.approx(1 / 3, rel=1e-5)


def test_three_groups_over_two_queries_by_hand():
    """Lists A, A and A, B out of A, A, B, C: shares 3/4, 1/4, 0 of targets 1/2, 1/4, 1/4.

    (1/4)^2 / (1/2) + 0 + (1/4)^2 / (1/4) = 1/8 + 1/4.
    """
    scores = tf.constant([[0.9, 0.8, 0.1, 0.0], [0.9, 0.1, 0.8, 0.0]])
    membership = tf.gather(tf.eye(3), [0, 0, 1, 2])
    parity = ExposureParity([0.5, 0.25, 0.25], HARD, depth=2)
    assert float(parity(scores, membership)) == pytest.approx(0.375, rel=1e-5)


def test_items_stand_for_as_many_as_their_weights_say():
    """The items on the list stand for 1 and 3: the shares are the target, 1/4 and 3/4."""
    parity = ExposureParity([0.25, 0.75], HARD, depth=4)
    weights = tf.constant([1.0, 3.0, 3.0, 3.0])
    assert float(parity(SCORES, MEMBERSHIP, weights)) == pytest.approx(0, abs=1e-6)


def test_exposure_of_the_smallest_group_alone_has_the_largest_penalty():
    """(1 - t)^2 / t + (1 - t) = 1 / t - 1, here 1 / 0.25 - 1 = 3."""
    parity = ExposureParity([0.25, 0.75], HARD, depth=1)
    assert float(parity(SCORES, MEMBERSHIP)) == pytest.approx(3.0, rel=1e-5)


@given(
    st.integers(2, 5).flatmap(
        lambda n: st.tuples(*[st.lists(st.floats(0.05, 1.0), min_size=n, max_size=n)] * 2)
    )
)
@settings(max_examples=30, deadline=None)
def test_penalty_is_the_chi_squared_divergence_within_its_bounds(share_and_target):
    share, target = (np.array(x) / sum(x) for x in share_and_target)
    penalty = penalty_of_shares(list(share), list(target))
    assert penalty == pytest.approx(((share - target) ** 2 / target).sum(), rel=1e-3, abs=1e-5)
    assert 0 <= penalty <= 1 / target.min() - 1


@given(target=shares)
@settings(max_examples=30, deadline=None)
def test_penalty_is_zero_if_every_share_is_its_target(target):
    assert penalty_of_shares(target, target) == pytest.approx(0, abs=1e-6)


@given(target=shares, factor=st.floats(1.2, 3.0))
@settings(max_examples=30, deadline=None)
def test_penalty_is_positive_if_one_group_has_more_than_its_target(target, factor):
    assert penalty_of_shares([target[0] * factor, *target[1:]], target) > 1e-5


def test_items_without_a_target_neither_count_nor_are_pushed():
    """`unknown` takes the first rank; A and B share the other two as their target says."""
    scores = tf.Variable([[0.9, 0.8, 0.7, 0.1, 0.0]])
    membership = tf.gather(tf.eye(3), [2, 0, 1, 2, 0])
    hard = ExposureParity([0.5, 0.5, 0.0], HARD, depth=3)
    assert float(hard(scores, membership)) == pytest.approx(0, abs=1e-6)
    soft = ExposureParity([0.5, 0.5, 0.0], 0.5, depth=3)
    with tf.GradientTape() as tape:
        penalty = soft(scores, membership)
    gradient = tape.gradient(penalty, scores).numpy()[0]
    np.testing.assert_array_equal(gradient[[0, 3]], 0)
    assert (gradient[[1, 2, 4]] != 0).all()


def test_descent_pushes_the_under_exposed_up_and_the_over_exposed_down():
    """A has half of the exposure and should have a quarter."""
    scores = tf.Variable(SCORES)
    with tf.GradientTape() as tape:
        penalty = ExposureParity([0.25, 0.75], 0.2, depth=2)(scores, MEMBERSHIP)
    gradient = tape.gradient(penalty, scores).numpy()[0]
    assert gradient[0] > 0
    assert (gradient[1:] < 0).all()


def test_descent_on_the_scores_reaches_the_target():
    rng = np.random.default_rng(0)
    membership = tf.gather(tf.eye(3), rng.integers(0, 3, 60))
    noise = tf.constant(rng.normal(size=(8, 60)), tf.float32)
    scores = tf.Variable(noise + 2.0 * membership[:, 0])
    parity = ExposureParity([0.2, 0.3, 0.5], 0.3, depth=10)
    before = float(parity(scores, membership))

    @tf.function
    def descend():
        for _ in tf.range(200):
            with tf.GradientTape() as tape:
                penalty = parity(scores, membership)
            scores.assign_sub(5.0 * tape.gradient(penalty, scores))

    descend()
    assert before > 0.5
    assert float(parity(scores, membership)) < 0.001


def test_lists_full_of_items_without_a_target_keep_penalty_and_gradient_finite():
    """Scores so far apart that the attention to all others is 0 in float32."""
    scores = tf.Variable([[500.0, 500.0, 0.0, 0.0]])
    membership = tf.gather(tf.eye(3), [2, 2, 0, 1])
    with tf.GradientTape() as tape:
        penalty = ExposureParity([0.5, 0.5, 0.0], depth=1)(scores, membership)
    assert np.isfinite(float(penalty))
    assert np.isfinite(tape.gradient(penalty, scores).numpy()).all()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_float32_inside_tf_function_with_and_without_xla(jit_compile):
    parity = ExposureParity([0.25, 0.75], 0.1, depth=2)
    compiled = tf.function(parity, jit_compile=jit_compile)
    penalty = compiled(SCORES, MEMBERSHIP)
    assert penalty.dtype == tf.float32
    assert penalty.shape == []
    assert float(penalty) == pytest.approx(float(parity(SCORES, MEMBERSHIP)), rel=1e-5)


def test_shapes_may_be_unknown_until_the_graph_runs():
    parity = ExposureParity([0.25, 0.75], HARD, depth=2)
    matrix = tf.TensorSpec([None, None], tf.float32)
    compiled = tf.function(parity, input_signature=[matrix, matrix])
    assert float(compiled(SCORES, MEMBERSHIP)) == pytest.approx(1 / 3, rel=1e-5)


def test_three_lines_of_the_package_docstring_work_in_a_plain_keras_model():
    """The lines are run as printed, inside a model that knows nothing of this package.

    Its scores are a dense layer's; half of the candidates are in each group, the target is
    0.3 and 0.7, and training has nothing to do but to reach it.
    """
    lines = textwrap.dedent(fairness_losses.__doc__.split("::")[1]).strip()
    assert len([line for line in lines.splitlines() if line]) == 3
    membership = tf.repeat(tf.eye(2), 200, axis=0)
    candidates = tf.concat([tf.random.stateless_normal([400, 6], seed=[1, 2]), membership], axis=1)

    class TheirModel(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = tf.keras.layers.Dense(
                8, kernel_initializer=tf.keras.initializers.Identity()
            )

        def call(self, inputs):
            scores = tf.matmul(self.dense(inputs), candidates, transpose_b=True)
            local = {"loss": tf.constant(0.0), "scores": scores, "membership": membership}
            exec(lines, local)
            self.add_loss(local["loss"])
            return scores

    model = TheirModel()
    # Tracing would take longer than all of the training.
    model.compile(optimizer=tf.keras.optimizers.Adam(0.1), run_eagerly=True)
    queries = tf.random.stateless_normal([32, 8], seed=[3, 4])
    history = model.fit(queries, batch_size=32, epochs=30, verbose=0).history["loss"]
    assert history[0] > 0.1
    assert history[-1] < 0.1 * history[0]


def test_examples_in_the_docstrings_hold():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for example in finder.find(exposure_parity, globs=vars(exposure_parity).copy()):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0


def test_a_config_makes_an_equal_regularizer():
    parity = ExposureParity([1, 3, 0], temperature=0.2, depth=7)
    config = parity.get_config()
    assert config == {
        "labels": None,
        "target": [0.25, 0.75, 0.0],
        "temperature": 0.2,
        "depth": 7,
        "attention": "top_k",
        "divergence": "squared",
        "tolerance": 0.0,
        "per_slice": False,
    }
    assert fairness_losses.get("exposure_parity", **config).get_config() == config


def test_a_config_with_a_target_per_slice_makes_an_equal_regularizer():
    arguments = {"attention": "rank", "divergence": "hinge", "tolerance": 0.2, "per_slice": True}
    parity = ExposureParity([[1, 3], [1, 1]], labels=["A", "B"], **arguments)
    config = parity.get_config()
    assert config["target"] == [[0.25, 0.75], [0.5, 0.5]]
    assert {name: config[name] for name in arguments} == arguments
    assert ExposureParity.from_config(config).get_config() == config


@pytest.mark.parametrize("temperature", [-1.0, 0.0, float("nan")])
def test_temperature_is_positive(temperature):
    message = rf"`temperature` should be a positive float\. Received: {temperature}\."
    with pytest.raises(ValueError, match=message):
        ExposureParity([0.5, 0.5], temperature=temperature)


def test_depth_is_at_least_1():
    with pytest.raises(ValueError, match=r"`depth` should be at least 1\. Received: 0\."):
        ExposureParity([0.5, 0.5], depth=0)


@pytest.mark.parametrize(
    "target",
    [[], [0.0, 0.0], [-0.5, 1.5], [float("nan"), 1.0], [float("inf"), 1.0], [[[1.0]]], 0.5],
)
def test_target_is_a_list_of_shares(target):
    with pytest.raises(ValueError, match=r"`target` should be a list of shares.*Received: "):
        ExposureParity(target)


def test_a_depth_that_lists_every_candidate_is_refused():
    """Otherwise there would be no gradient, and nobody would notice."""
    parity = ExposureParity(target=[0.5, 0.5], depth=4)
    with pytest.raises(ValueError, match=r"less than the number of candidates, 4.*Received: 4"):
        parity(tf.zeros([2, 4]), tf.one_hot([0, 1, 0, 1], 2))


def test_kl_by_hand():
    """Shares 1/2 and 1/2 of targets 1/4 and 3/4: ln(1/2) / 4 + 3 ln(3/2) / 4 = 0.130812."""
    parity = ExposureParity([0.25, 0.75], HARD, depth=2, divergence="kl")
    assert float(parity(SCORES, MEMBERSHIP)) == pytest.approx(0.130812, rel=1e-4)


def test_kl_of_a_group_without_exposure_is_finite_and_has_a_gradient():
    """The second group has a share of 0, taken for a millionth of its target 3/4.

    0.75 ln(10^6) + 0.25 ln(1/4) = 10.0150.
    """
    parity = ExposureParity([0.25, 0.75], HARD, depth=1, divergence="kl")
    assert float(parity(SCORES, MEMBERSHIP)) == pytest.approx(10.015, rel=1e-4)
    scores = tf.Variable(SCORES)
    with tf.GradientTape() as tape:
        penalty = ExposureParity([0.25, 0.75], 0.02, depth=1, divergence="kl")(scores, MEMBERSHIP)
    gradient = tape.gradient(penalty, scores).numpy()[0]
    assert np.isfinite(gradient).all()
    assert gradient[0] > 0 > gradient[1]


def test_hinge_by_hand():
    """Ratios 2 and 2/3 of targets 1/4 and 3/4, half of it tolerated: (2 - 1.5)^2 / 4.

    A tenth tolerated: 0.9^2 / 4 + 0.75 * (1/3 - 1/10)^2 = 0.2025 + 0.0408333.
    """
    for tolerance, expected in ((0.5, 0.0625), (0.1, 0.2433333), (1.0, 0.0)):
        parity = ExposureParity(
            [0.25, 0.75], HARD, depth=2, divergence="hinge", tolerance=tolerance
        )
        assert float(parity(SCORES, MEMBERSHIP)) == pytest.approx(expected, rel=1e-4, abs=1e-6)


@given(share=shares, data=st.data())
@settings(max_examples=30, deadline=None)
def test_kl_is_that_of_its_formula_and_zero_at_the_target(share, data):
    target = data.draw(st.lists(st.floats(0.05, 1.0), min_size=len(share), max_size=len(share)))
    e, t = (np.array(x) / sum(x) for x in (share, target))
    expected = (t * np.log(t / e)).sum()
    penalty = penalty_of_shares(share, target, divergence="kl")
    assert penalty == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert penalty_of_shares(target, target, divergence="kl") == pytest.approx(0, abs=1e-6)


@given(target=shares, factor=st.floats(1.0, 3.0), tolerance=st.floats(0.05, 0.5))
@settings(max_examples=30, deadline=None)
def test_hinge_is_zero_if_and_only_if_every_ratio_is_tolerated(target, factor, tolerance):
    share = [target[0] * factor, *target[1:]]
    ratio = np.array(share) / sum(share) / (np.array(target) / sum(target))
    excess = np.abs(ratio - 1).max() - tolerance
    penalty = penalty_of_shares(share, target, divergence="hinge", tolerance=tolerance)
    if excess < -1e-3:
        assert penalty == 0
    elif excess > 1e-2:
        assert penalty > 0


@given(target=shares, factor=st.floats(1.0, 3.0))
@settings(max_examples=20, deadline=None)
def test_hinge_without_tolerance_is_the_squared_divergence(target, factor):
    share = [target[0] * factor, *target[1:]]
    hinge = penalty_of_shares(share, target, divergence="hinge")
    assert hinge == pytest.approx(penalty_of_shares(share, target), rel=1e-6, abs=1e-12)


def test_attention_by_rank_by_hand():
    """One list of A at rank 1 and B at rank 2, targets 1/2: shares 1 and 0.63093 of 1.63093.

    e = 0.613147: 2 * (0.613147 - 0.5)^2 / 0.5 = 0.0512093.
    """
    for attention in ("browsing", "rank"):
        parity = ExposureParity([0.5, 0.5], HARD, depth=2, attention=attention)
        assert float(parity(SCORES, MEMBERSHIP)) == pytest.approx(0.0512093, rel=1e-4)


def test_softmax_attention_by_hand():
    """Scores ln 3 and 0, of targets 1/4 and 3/4: shares 3/4 and 1/4, so 1 + 1/3 = 4/3."""
    parity = ExposureParity([0.25, 0.75], 1.0, attention="softmax")
    penalty = parity(tf.math.log(tf.constant([[3.0, 1.0]])), tf.eye(2))
    assert float(penalty) == pytest.approx(1 / 3 + 1, rel=1e-5)


@pytest.mark.parametrize(
    ("attention", "divergence"), [("rank", DIVERGENCES[0]), *(("softmax", d) for d in DIVERGENCES)]
)
def test_gradient_is_that_of_finite_differences(attention, divergence):
    """The other two attentions treat their thresholds as constants."""
    rng = np.random.default_rng(3)
    membership, weights = tf.constant(rng.dirichlet(np.ones(3), 6)), tf.constant(np.full(6, 2.0))
    listed, slices = tf.constant(rng.random((4, 6)) < 0.8), tf.constant(rng.random((4, 2)))
    parity = ExposureParity(
        [[0.2, 0.8, 0.0], [0.5, 0.3, 0.2]],
        0.5,
        depth=5,
        attention=attention,
        per_slice=True,
        **divergence,
    )

    def penalty(scores):
        return parity(scores, membership, weights, listed=listed, slices=slices)

    theoretical, numerical = tf.test.compute_gradient(penalty, [rng.random((4, 6))], delta=1e-6)
    np.testing.assert_allclose(theoretical[0], numerical[0], atol=1e-6)
    assert np.abs(theoretical[0]).max() > 1e-4


def test_every_slice_has_shares_of_its_own():
    """Query 1 lists A, query 2 lists B: each slice sees one group, all users see both.

    Overall the shares are the target and the penalty is 0. By slice each has 2 * 0.5^2 / 0.5 = 1.
    """
    scores = tf.constant([[1.0, 0.0], [0.0, 1.0]])
    slices = tf.eye(2)
    overall = ExposureParity([0.5, 0.5], HARD, depth=1)
    assert float(overall(scores, tf.eye(2), slices=slices)) == pytest.approx(0, abs=1e-6)
    by_slice = ExposureParity([0.5, 0.5], HARD, depth=1, per_slice=True)
    assert float(by_slice(scores, tf.eye(2), slices=slices)) == pytest.approx(1.0, rel=1e-5)


def test_slices_count_by_their_queries_and_may_have_targets_of_their_own():
    """Slice one has two queries that list A and A, slice two one that lists B; three has none.

    Targets 1/2, 1/2 and 1/4, 3/4: penalties 1 and 0.25 + 0.25^2 / 0.75 = 1/3, so that the mean
    is (2 * 1 + 1 * 1/3) / 3 = 7/9.
    """
    scores = tf.constant([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    slices = tf.constant([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    target = [[0.5, 0.5], [0.25, 0.75], [0.9, 0.1]]
    parity = ExposureParity(target, HARD, depth=1, per_slice=True)
    assert float(parity(scores, tf.eye(2), slices=slices)) == pytest.approx(7 / 9, rel=1e-5)


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=lambda d: d["divergence"])
def test_one_slice_of_everybody_is_no_slice_at_all(divergence):
    rng = np.random.default_rng(4)
    scores = tf.constant(rng.random((5, 8)), tf.float32)
    membership = tf.constant(rng.dirichlet(np.ones(2), 8), tf.float32)
    overall = ExposureParity([0.2, 0.8], 0.1, depth=3, **divergence)
    by_slice = ExposureParity([[0.2, 0.8]], 0.1, depth=3, per_slice=True, **divergence)
    assert float(by_slice(scores, membership, slices=tf.ones([5, 1]))) == pytest.approx(
        float(overall(scores, membership)), rel=1e-5
    )


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_users_of_no_slice_and_batches_of_no_query_have_no_penalty(attention):
    parity = ExposureParity([0.2, 0.8], depth=2, attention=attention, per_slice=True)
    scores = tf.Variable(SCORES)
    with tf.GradientTape() as tape:
        penalty = parity(scores, MEMBERSHIP, slices=tf.zeros([1, 2]))
    assert float(penalty) == 0
    np.testing.assert_array_equal(tape.gradient(penalty, scores), np.zeros((1, 4)))
    assert float(parity(SCORES[:0], MEMBERSHIP, slices=tf.zeros([0, 2]))) == 0
    overall = ExposureParity([0.2, 0.8], depth=2, attention=attention)
    assert float(overall(SCORES[:0], MEMBERSHIP)) == 0


def test_what_cannot_be_listed_is_not_exposed():
    """The only item of A was chosen before: B has both ranks, so 0.25 + 0.25^2 / 0.75 = 1/3."""
    parity = ExposureParity([0.25, 0.75], HARD, depth=2)
    listed = tf.constant([[False, True, True, True]])
    scores = tf.Variable(SCORES)
    with tf.GradientTape() as tape:
        penalty = parity(scores, MEMBERSHIP, listed=listed)
    assert float(penalty) == pytest.approx(1 / 3, rel=1e-5)
    assert tape.gradient(penalty, scores).numpy()[0, 0] == 0


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=lambda d: d["divergence"])
def test_a_batch_of_one_group_has_a_finite_penalty_and_gradient(divergence):
    """No candidate of the second group: its share is 0, whatever the scores."""
    parity = ExposureParity([0.5, 0.5], 0.1, depth=2, **divergence)
    scores, membership = tf.Variable(SCORES), tf.constant([[1.0, 0.0]] * 4)
    with tf.GradientTape() as tape:
        penalty = parity(scores, membership)
    assert 0 < float(penalty) < 14
    np.testing.assert_allclose(tape.gradient(penalty, scores), np.zeros((1, 4)), atol=1e-5)


@pytest.mark.parametrize("divergence", DIVERGENCES, ids=lambda d: d["divergence"])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_candidates_that_are_all_unknown_have_a_finite_penalty_and_no_gradient(
    attention, divergence
):
    parity = ExposureParity([0.5, 0.5, 0.0], 0.1, depth=2, attention=attention, **divergence)
    scores, membership = tf.Variable(SCORES), tf.constant([[0.0, 0.0, 1.0]] * 4)
    with tf.GradientTape() as tape:
        penalty = parity(scores, membership)
    assert np.isfinite(float(penalty))
    np.testing.assert_array_equal(tape.gradient(penalty, scores), np.zeros((1, 4)))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_xla_gives_the_same_penalty_and_gradient_and_keeps_nan(kind):
    parity = ExposureParity([0.25, 0.75], 0.2, depth=2, per_slice=True, **kind)

    def differentiated(scores):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            penalty = parity(scores, MEMBERSHIP, slices=tf.ones([1, 1]))
        return penalty, tape.gradient(penalty, scores)

    compiled = tf.function(differentiated, jit_compile=True)
    penalty, gradient = compiled(SCORES)
    expected_penalty, expected_gradient = differentiated(SCORES)
    assert float(penalty) == pytest.approx(float(expected_penalty), rel=1e-4)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-3, atol=1e-6)
    for function in (differentiated, compiled):
        penalty, _ = function(tf.constant([[0.9, float("nan"), 0.1, 0.0]]))
        assert np.isnan(float(penalty))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_shapes_may_be_unknown_with_listed_and_slices(attention):
    parity = ExposureParity([0.25, 0.75], 0.2, depth=2, attention=attention, per_slice=True)
    matrix, mask = tf.TensorSpec([None, None], tf.float32), tf.TensorSpec([None, None], tf.bool)

    @tf.function(input_signature=[matrix, matrix, mask, matrix])
    def penalty(scores, membership, listed, slices):
        return parity(scores, membership, listed=listed, slices=slices)

    given = (SCORES, MEMBERSHIP, tf.constant([[True, True, False, True]]), tf.ones([1, 1]))
    assert float(penalty(*given)) == pytest.approx(float(penalty.python_function(*given)), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_descent_lowers_every_penalty(kind):
    """Scores favour the first group; a few steps of 0.2 halve the penalty at least."""
    rng = np.random.default_rng(5)
    membership = tf.gather(tf.eye(2), rng.integers(0, 2, 40))
    scores = tf.Variable(rng.normal(size=(4, 40)) + 1.5 * membership[:, 0], dtype=tf.float32)
    parity = ExposureParity([0.3, 0.7], 0.3, depth=10, **kind)
    first = parity(scores, membership)
    for _ in range(15):
        with tf.GradientTape() as tape:
            penalty = parity(scores, membership)
        scores.assign_sub(0.2 * tf.sign(tape.gradient(penalty, scores)))
    assert float(penalty) < 0.5 * float(first)


def test_the_order_of_queries_candidates_and_groups_does_not_matter():
    rng = np.random.default_rng(6)
    scores, membership = rng.random((5, 9)), rng.dirichlet(np.ones(3), 9)
    target = np.array([0.2, 0.3, 0.5])
    for attention in ATTENTIONS:
        arguments = {"temperature": 0.1, "depth": 3, "attention": attention}
        penalty = ExposureParity(target, **arguments)(tf.constant(scores), tf.constant(membership))
        q, c, g = rng.permutation(5), rng.permutation(9), rng.permutation(3)
        permuted = ExposureParity(target[g], **arguments)(
            tf.constant(scores[q][:, c]), tf.constant(membership[c][:, g])
        )
        assert float(permuted) == pytest.approx(float(penalty), rel=1e-6)


def test_slices_are_needed_if_and_only_if_they_are_asked_for():
    parity = ExposureParity([0.5, 0.5], depth=2, per_slice=True)
    with pytest.raises(ValueError, match=r"needs `slices` for `per_slice`\. Received: None\."):
        parity(SCORES, MEMBERSHIP)
    with pytest.raises(ValueError, match=r"`target` per slice needs `per_slice`"):
        ExposureParity([[0.5, 0.5], [0.2, 0.8]])


def test_a_target_per_slice_has_as_many_rows_as_there_are_slices():
    parity = ExposureParity([[0.5, 0.5], [0.2, 0.8]], depth=2, per_slice=True)
    with pytest.raises(ValueError, match=r"`slices` should have 2 columns.*Received: 3\."):
        parity(SCORES, MEMBERSHIP, slices=tf.ones([1, 3]))


def test_a_target_has_as_many_shares_as_there_are_groups():
    parity = ExposureParity([0.2, 0.3, 0.5], depth=2)
    with pytest.raises(ValueError, match=r"`membership` should have 3 columns.*Received: 2\."):
        parity(SCORES, MEMBERSHIP)


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_tolerance_is_not_negative(tolerance):
    with pytest.raises(ValueError, match=rf"at least 0\. Received: {tolerance}\."):
        ExposureParity([0.5, 0.5], divergence="hinge", tolerance=tolerance)


def test_a_tolerance_that_would_be_ignored_is_refused():
    with pytest.raises(ValueError, match=r"for the divergence `hinge`\. Received: squared\."):
        ExposureParity([0.5, 0.5], tolerance=0.1)


@pytest.mark.parametrize("argument", ["attention", "divergence"])
def test_names_are_checked(argument):
    with pytest.raises(ValueError, match=rf"`{argument}` should be one of .*Received: other\."):
        ExposureParity([0.5, 0.5], **{argument: "other"})
