"""The joint-exposure penalty: values by hand, its metrics, gradient, use in a foreign model."""

import doctest

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import fairness_losses
from fairness_losses.browsing import rbp_weights
from fairness_losses.expected_exposure import ranked_exposure
from fairness_losses.metrics.expected_exposure import target_exposure
from fairness_losses.metrics.joint_exposure import KINDS
from fairness_losses.metrics.joint_exposure import joint_exposure as metrics
from fairness_losses.regularizers import joint_exposure
from fairness_losses.regularizers.joint_exposure import JointExposure

HARD = {"temperature": 1e-5, "policy_temperature": 0.0}
# Two users of two slices with opposite lists; both merit item 1, then items 2 and 3 alike.
BY_HAND = {
    "scores": tf.constant([[0.9, 0.5, 0.1], [0.1, 0.5, 0.9]]),
    "membership": tf.constant([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]),
    "slices": tf.eye(2),
    "relevance": tf.constant([[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]),
}


def random_batch(seed: int, num_queries: int = 6, num_candidates: int = 9) -> dict[str, np.ndarray]:
    """Scores at least 1 / num_candidates apart within a query, grades 0 to 2."""
    rng = np.random.default_rng(seed)
    shape = num_queries, num_candidates
    return {
        "scores": (np.argsort(rng.random(shape), axis=1) / num_candidates).astype(np.float32),
        "membership": rng.dirichlet(np.ones(3), num_candidates).astype(np.float32),
        "relevance": rng.integers(0, 3, shape).astype(np.float32),
        "listed": rng.random(shape) < 0.8,
        "slices": rng.dirichlet(np.ones(2), num_queries).astype(np.float32),
    }


def to_tensors(batch: dict[str, np.ndarray]) -> dict[str, tf.Tensor]:
    return {name: tf.constant(values) for name, values in batch.items()}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("II", (0 + 1 / 64 + 1 / 64 + 36 / 64 + 1 / 64 + 25 / 64) / 6),
        ("IG", (0 + 0 + 9 / 16 + 9 / 64) / 4),
        ("GI", (0 + 1 / 64 + 1 / 64 + 36 / 64 + 1 / 64 + 25 / 64) / 6),
        ("GG", (0 + 0 + 9 / 16 + 9 / 64) / 4),
        ("AI", (9 / 64 + 1 / 64 + 1 / 16) / 3),
        ("AG", (9 / 64 + 9 / 256) / 2),
    ],
)
def test_two_users_by_hand(kind, expected):
    """Patience 1/2: E = 1, 1/2, 1/4 and 1/4, 1/2, 1; E* = 1, 3/8, 3/8 for both.

    D = 0, 1/8, -1/8 and -6/8, 1/8, 5/8. By group of items 0, 0 and -3/4, 3/8. A slice is one user.
    Over both users -3/8, 1/8, 1/4, and by group of items -3/8, 3/16.
    """
    joint = JointExposure(kind, patience=0.5, **HARD)
    assert float(joint(**BY_HAND)) == pytest.approx(expected, rel=1e-5)


def test_kinds_are_added_with_their_weights():
    both = JointExposure({"II": 2.0, "AG": 0.5, "GG": 0.0}, patience=0.5, **HARD)
    each = [float(JointExposure(kind, patience=0.5, **HARD)(**BY_HAND)) for kind in ("II", "AG")]
    # A weight of 0 leaves the kind out, so that no slices are needed.
    inputs = {name: value for name, value in BY_HAND.items() if name != "slices"}
    assert float(both(**inputs)) == pytest.approx(2 * each[0] + 0.5 * each[1])


@given(seed=st.integers(0, 10_000), depth=st.integers(1, 9))
@settings(max_examples=15, deadline=None)
def test_in_the_hard_limit_it_is_the_metric(seed, depth):
    batch = random_batch(seed)
    attention, listed = rbp_weights(9, 0.8), batch["listed"]
    exact = metrics(
        ranked_exposure(batch["scores"], attention[:depth], listed),
        target_exposure(batch["relevance"], attention, listed),
        batch["slices"],
        batch["membership"],
        listed=listed,
    )
    for kind in KINDS:
        penalty = float(JointExposure(kind, depth=depth, **HARD)(**to_tensors(batch)))
        assert penalty == pytest.approx(exact[kind].loss, abs=1e-5)
        assert 0 <= penalty <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_zero_if_every_item_is_ranked_by_a_merit_of_its_own(kind):
    batch = to_tensors(random_batch(0))
    batch["relevance"] = batch["scores"]
    assert float(JointExposure(kind, **HARD)(**batch)) == pytest.approx(0, abs=1e-9)
    batch["relevance"] = -batch["scores"]
    assert float(JointExposure(kind, **HARD)(**batch)) > 1e-4


@pytest.mark.parametrize("kind", ["IG", "GG", "AG"])
def test_a_candidate_of_weight_3_is_a_group_of_3_items_on_neighbouring_ranks(kind):
    weights = tf.constant([1.0, 3.0, 1.0, 2.0])
    scores = tf.constant([[0.9, 0.5, 0.3, 0.1], [0.2, 0.1, 0.8, 0.9]])
    relevance = tf.constant([[0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 0.0, 0.0]])
    joint = JointExposure(kind, **HARD)
    one = joint(scores, tf.eye(4), weights, slices=tf.eye(2), relevance=relevance)
    copies = [0, 1, 1, 1, 2, 3, 3]
    many = joint(
        tf.gather(scores, copies, axis=1) - 1e-3 * tf.range(7.0),
        tf.gather(tf.eye(4), copies),
        slices=tf.eye(2),
        relevance=tf.gather(relevance, copies, axis=1),
    )
    assert float(one) == pytest.approx(float(many), rel=1e-4)


@pytest.mark.parametrize("kind", ["II", "GI", "AI"])
def test_in_means_over_items_a_candidate_counts_as_often_as_the_items_it_stands_for(kind):
    """One user, items 1 and 3: E = 1, 7/24, E* = 1/8, 7/12; ((7/8)^2 + 3 * (7/24)^2) / 4."""
    joint = JointExposure(kind, patience=0.5, **HARD)
    penalty = joint(
        tf.constant([[0.9, 0.1]]),
        tf.eye(2),
        tf.constant([1.0, 3.0]),
        slices=tf.ones([1, 1]),
        relevance=tf.constant([[0.0, 1.0]]),
    )
    assert float(penalty) == pytest.approx((49 / 64 + 3 * 49 / 576) / 4, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_order_and_groups_without_members_do_not_matter(kind):
    batch = random_batch(3)
    rows, columns = (np.random.default_rng(3).permutation(n) for n in (6, 9))
    moved = {
        name: values[rows][:, columns] for name, values in batch.items() if values.shape == (6, 9)
    }
    moved["membership"] = np.pad(batch["membership"][columns], [(0, 0), (1, 0)])
    moved["slices"] = np.pad(batch["slices"][rows], [(0, 0), (0, 1)])
    joint = JointExposure(kind, temperature=0.1, policy_temperature=0.0)
    expected = float(joint(**to_tensors(batch)))
    assert float(joint(**to_tensors(moved))) == pytest.approx(expected, rel=1e-4)


def test_excluded_groups_take_no_part():
    """GG of the first group alone: (0 + 9/16) / 2."""
    joint = JointExposure("GG", patience=0.5, excluded=[1], **HARD)
    assert float(joint(**BY_HAND)) == pytest.approx(9 / 32, rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("policy_temperature", [0.0, 0.2])
def test_gradient_is_that_of_finite_differences(kind, policy_temperature):
    double = {
        name: tf.constant(values, tf.bool if name == "listed" else tf.float64)
        for name, values in random_batch(5, 2, 4).items()
    }
    scores = double.pop("scores")

    def penalty(scores):
        # The same noise every time.
        joint = JointExposure(kind, 0.8, 0.3, policy_temperature, num_samples=3)
        return joint(scores, **double)

    theoretical, numerical = tf.test.compute_gradient(penalty, [scores], delta=1e-5)
    np.testing.assert_allclose(theoretical[0], numerical[0], atol=1e-7)
    assert np.abs(theoretical[0]).max() > 1e-3


@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_with_unknown_shapes_it_is_the_same(jit_compile):
    joint = JointExposure(dict.fromkeys(KINDS, 1.0), 0.8, 0.1, 0.0, depth=5)
    matrix = tf.TensorSpec([None, None], tf.float32)
    names = ("scores", "membership", "slices", "relevance")
    compiled = tf.function(
        lambda *inputs: joint(**dict(zip(names, inputs, strict=True))),
        jit_compile=jit_compile,
        input_signature=[matrix] * 4,
    )
    inputs = {name: to_tensors(random_batch(1))[name] for name in names}
    expected = float(joint(**inputs))
    assert float(compiled(*inputs.values())) == pytest.approx(expected, rel=1e-5)
    nobody = [value if name == "membership" else value[:0] for name, value in inputs.items()]
    assert float(compiled(*nobody)) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_edge_cases_are_defined(kind):
    """Nothing listed; all slices and groups without members; a score that is NaN."""
    joint, batch = JointExposure(kind, num_samples=2), to_tensors(random_batch(2))
    assert float(joint(**{**batch, "listed": tf.zeros([6, 9], tf.bool)})) == 0
    empty = {**batch, "slices": tf.zeros([6, 2]), "membership": tf.zeros([9, 3])}
    assert np.isfinite(float(joint(**empty)))
    assert (float(joint(**empty)) == 0) == ("G" in kind)
    assert np.isnan(float(joint(**{**batch, "scores": batch["scores"] * np.nan})))


def test_descent_evens_out_what_a_slice_is_shown():
    """Slice 1 is shown group 1 and slice 2 group 2, while both merit both groups alike.

    Noise lets lists of different order be drawn, so that exposure can be equal.
    """
    membership = tf.repeat(tf.eye(2), 4, axis=0)
    slices = tf.repeat(tf.eye(2), 4, axis=0)
    noise = tf.random.stateless_normal([8, 8], [1, 2], 0.0, 0.1)
    scores = tf.Variable(noise + tf.matmul(slices, membership, transpose_b=True))
    joint = JointExposure("GG", temperature=0.1, policy_temperature=0.3)
    inputs = {"membership": membership, "slices": slices, "relevance": tf.zeros([8, 8])}
    before = float(joint(scores, **inputs))

    @tf.function
    def descend():
        for _ in tf.range(100):
            with tf.GradientTape() as tape:
                penalty = joint(scores, **inputs)
            scores.assign_sub(30.0 * tape.gradient(penalty, scores))

    descend()
    assert float(joint(scores, **inputs)) < 0.05 * before


def test_a_step_of_fit_changes_the_weights_of_a_plain_keras_model():
    batch = to_tensors(random_batch(2, 16, 12))
    joint = fairness_losses.get("joint_exposure", kind={"GG": 1.0, "II": 1.0}, temperature=0.1)
    features = tf.random.stateless_normal([16, 6], [1, 2])

    class TheirModel(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = tf.keras.layers.Dense(12)

        def call(self, inputs):
            scores = self.dense(inputs)
            others = {"slices": batch["slices"], "relevance": batch["relevance"]}
            self.add_loss(100.0 * joint(scores, batch["membership"], **others))
            return scores

    model = TheirModel()
    model.dense(features)
    before = model.dense.get_weights()
    model.compile(optimizer=tf.keras.optimizers.Adam(0.05), run_eagerly=True)
    history = model.fit(features, batch_size=16, epochs=20, shuffle=False, verbose=0).history
    assert (model.dense.get_weights()[0] != before[0]).any()
    assert history["loss"][-1] < 0.9 * history["loss"][0]


def test_examples_in_the_docstrings_hold():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for example in finder.find(joint_exposure, globs=vars(joint_exposure).copy()):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0


def test_a_config_makes_an_equal_regularizer():
    joint = JointExposure({"AI": 1, "GG": 2.0}, 0.7, 0.1, 0.2, 3, 7, 9, [1], ["a", "b"])
    config = joint.get_config()
    assert config == {
        "labels": ["a", "b"],
        "kind": {"AI": 1.0, "GG": 2.0},
        "patience": 0.7,
        "temperature": 0.1,
        "policy_temperature": 0.2,
        "num_samples": 3,
        "depth": 7,
        "seed": 9,
        "excluded": [1],
    }
    assert fairness_losses.get("joint_exposure", **config).get_config() == config
    assert JointExposure("AG").get_config()["kind"] == {"AG": 1.0}


@pytest.mark.parametrize("kind", ["IA", "gg", {"II": 1.0, "XX": 1.0}])
def test_kind_is_one_of_six(kind):
    with pytest.raises(ValueError, match=r"`kind` should be one of II, IG, GI, GG, AI, AG\. Rec"):
        JointExposure(kind)


@pytest.mark.parametrize("weights", [{}, {"II": 0.0}, {"II": -1.0, "GG": 2.0}, {"II": np.nan}])
def test_weights_of_kinds_are_not_negative_and_not_all_0(weights):
    with pytest.raises(ValueError, match="`kind` should have weights that are not negative"):
        JointExposure(weights)


def test_kinds_of_slices_need_slices():
    inputs = {name: value for name, value in BY_HAND.items() if name != "slices"}
    with pytest.raises(ValueError, match="`joint_exposure` needs `slices` for the kind GG"):
        JointExposure("GG")(**inputs)
    with pytest.raises(ValueError, match="`joint_exposure` needs `relevance`"):
        JointExposure("II")(BY_HAND["scores"], BY_HAND["membership"])
