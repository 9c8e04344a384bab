"""The exposure constraint: its pull by hand, its updates, and bands that are reached by descent."""

import doctest
import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fairness_losses
from fairness_losses.browsing import dcg_weights
from fairness_losses.catalogue_sample import StratifiedSample
from fairness_losses.exposure import list_exposure
from fairness_losses.groups import Groups
from fairness_losses.regularizers import exposure_constraint
from fairness_losses.regularizers.exposure_constraint import ExposureConstraint

SCORES = tf.constant(np.log([[1.0, 2.0, 3.0, 4.0]]), tf.float32)
"""Probabilities 0.1, 0.2, 0.3 and 0.4."""

MEMBERSHIP = tf.constant([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
"""The first two are of a, the others of b."""


def constraint_with(multipliers, **arguments) -> ExposureConstraint:
    """A constraint whose multipliers, `[num_slices, num_groups]`, are given."""
    groups = np.shape(multipliers)[1]
    settings = {"target": np.full(groups, 1 / groups), "num_slices": 0, **arguments}
    constraint = ExposureConstraint(**settings)
    constraint._pull.assign(multipliers)
    return constraint


def membership_of(groups: np.ndarray, num_groups: int = 2) -> tf.Tensor:
    return tf.one_hot(groups, num_groups)


class TestPenalty:
    def test_the_pull_on_one_group_by_hand(self):
        """2 * -(log 0.3 + log 0.4) / 2 = -log 0.12."""
        penalty = constraint_with([[0.0, 2.0]])(SCORES, MEMBERSHIP)
        assert float(penalty) == pytest.approx(-np.log(0.12), rel=1e-5)

    def test_a_group_that_is_held_down_by_hand(self):
        """2 * -log(1 - 0.1 - 0.2) = -log 0.49."""
        penalty = constraint_with([[-2.0, 0.0]])(SCORES, MEMBERSHIP)
        assert float(penalty) == pytest.approx(-np.log(0.49), rel=1e-5)

    def test_what_is_not_held_down_keeps_its_order(self):
        """The gradient of -log(p_2 + p_3) is p_j for items of a, and p_j - p_j / 0.7 for others:
        odds among them stay."""
        scores = tf.Variable(SCORES)
        with tf.GradientTape() as tape:
            penalty = constraint_with([[-1.0, 0.0]])(scores, MEMBERSHIP)
        gradient = tape.gradient(penalty, scores).numpy()[0]
        np.testing.assert_allclose(gradient, [0.1, 0.2, 0.3 - 3 / 7, 0.4 - 4 / 7], atol=1e-6)

    def test_a_list_that_holds_nothing_else_cannot_be_helped(self):
        scores = tf.Variable(SCORES)
        with tf.GradientTape() as tape:
            penalty = constraint_with([[-1.0, 0.0]])(scores, tf.constant([[1.0, 0.0]] * 4))
        np.testing.assert_array_equal(tape.gradient(penalty, scores), np.zeros((1, 4)))

    @pytest.mark.parametrize("gap", [5.0, 20.0, 60.0])
    def test_a_group_far_ahead_is_held_down_as_surely(self, gap):
        """The gradient of -log(p_2 + p_3) at item 0 is p_0, 1 but for rounding, however far."""
        scores = tf.Variable([[gap, -1e3, 0.0, 0.0]])
        with tf.GradientTape() as tape:
            penalty = constraint_with([[-1.0, 0.0]])(scores, MEMBERSHIP)
        expected = np.exp(gap) / (np.exp(gap) + 2)
        assert tape.gradient(penalty, scores).numpy()[0, 0] == pytest.approx(expected, rel=1e-5)

    def test_of_an_item_of_two_groups_the_other_part_is_something_else(self):
        """Item 1 is half of a: -log(0.2 / 2 + 0.3 + 0.4)."""
        membership = tf.constant([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.0, 1.0]])
        penalty = constraint_with([[-1.0, 0.0]])(SCORES, membership)
        assert float(penalty) == pytest.approx(-np.log(0.8), rel=1e-5)

    def test_two_groups_that_are_pulled_up_are_both_pulled(self):
        """1 * -log(0.1 * 0.2) / 2 and 3 * -log(0.3 * 0.4) / 2."""
        penalty = constraint_with([[1.0, 3.0]])(SCORES, MEMBERSHIP)
        expected = -(np.log(0.02) + 3 * np.log(0.12)) / 2
        assert float(penalty) == pytest.approx(expected, rel=1e-5)

    def test_several_groups_by_hand(self):
        """Of four groups with an item each: 1 * -log 0.2 + 3 * -log 0.4 + 2 * -log 0.1."""
        penalty = constraint_with([[2.0, 1.0, 0.0, 3.0]])(SCORES, tf.eye(4))
        expected = -(2 * np.log(0.1) + np.log(0.2) + 3 * np.log(0.4))
        assert float(penalty) == pytest.approx(expected, rel=1e-5)

    def test_a_temperature_divides_the_scores(self):
        """Half the temperature squares odds: probabilities 1, 4, 9 and 16 of 30."""
        penalty = constraint_with([[0.0, 2.0]], temperature=0.5)(SCORES, MEMBERSHIP)
        assert float(penalty) == pytest.approx(-np.log(9 * 16 / 30**2), rel=1e-5)

    def test_an_item_of_two_groups_counts_with_its_part_in_each(self):
        """b has item 2 and half of item 1: -(0.5 log 0.2 + log 0.3) / 1.5."""
        membership = tf.constant([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [1.0, 0.0]])
        penalty = constraint_with([[0.0, 1.0]])(SCORES, membership)
        expected = -(0.5 * np.log(0.2) + np.log(0.3)) / 1.5
        assert float(penalty) == pytest.approx(expected, rel=1e-5)

    def test_a_query_is_pulled_by_the_multipliers_of_all_its_slices(self):
        """Four equal scores, -log p = log 4. Queries in the first slice, the second, both and none
        are pulled by 2, 5, 7 and 0: a mean of 14 / 4."""
        constraint = constraint_with([[0.0, 2.0], [0.0, 5.0]], num_slices=2)
        slices = tf.constant([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
        penalty = constraint(tf.zeros([4, 4]), MEMBERSHIP, slices=slices)
        assert float(penalty) == pytest.approx(14 / 4 * np.log(4), rel=1e-5)

    def test_multipliers_of_slices_are_added_before_their_sign_is_looked_at(self):
        """One slice pulls a up as much as the other holds it down."""
        constraint = constraint_with([[1.0, -1.0], [-1.0, 1.0]], num_slices=2)
        assert float(constraint(SCORES, MEMBERSHIP, slices=tf.ones([1, 2]))) == 0

    def test_what_is_not_listed_is_no_candidate(self):
        """Without item 0 probabilities are 2, 3, 4 of 9; without item 3 b has item 2 alone, with 3
        of 6."""
        constraint = constraint_with([[0.0, 2.0]])
        first, last = (
            float(constraint(SCORES, MEMBERSHIP, listed=tf.constant([listed])))
            for listed in ([False, True, True, True], [True, True, True, False])
        )
        assert first == pytest.approx(-np.log(12 / 81), rel=1e-5)
        assert last == pytest.approx(2 * np.log(2), rel=1e-5)

    def test_what_is_not_listed_has_no_gradient(self):
        scores = tf.Variable(SCORES)
        with tf.GradientTape() as tape:
            listed = tf.constant([[False, True, True, False]])
            penalty = constraint_with([[0.0, 2.0]])(scores, MEMBERSHIP, listed=listed)
        gradient = tape.gradient(penalty, scores).numpy()[0]
        np.testing.assert_array_equal(gradient[[0, 3]], 0)
        assert gradient[1] > 0 > gradient[2]

    @pytest.mark.parametrize("listed", [None, [[False, True, True, True]]])
    def test_a_candidate_of_weight_2_is_two_candidates(self, listed):
        constraint = constraint_with([[0.0, 2.0]])
        twice, rows = tf.constant([1.0, 1.0, 2.0, 1.0]), [0, 1, 2, 2, 3]
        marks = None if listed is None else tf.constant(listed)
        weighted = constraint(SCORES, MEMBERSHIP, twice, listed=marks)
        repeated = constraint(
            tf.gather(SCORES, rows, axis=1),
            tf.gather(MEMBERSHIP, rows),
            listed=None if marks is None else tf.gather(marks, rows, axis=1),
        )
        assert float(weighted) == pytest.approx(float(repeated), rel=1e-5)

    def test_a_weighted_sample_is_expected_to_have_the_penalty_of_the_catalogue(self):
        """The group mean is free of bias; the log of the total is below its own by about half its
        relative variance, less than a hundredth here."""
        rng = np.random.default_rng(0)
        labels = np.repeat(["a", "b", "c"], [300, 90, 10])
        groups = Groups.from_labels(labels)
        scores = tf.constant(rng.normal(size=(4, 400)), tf.float32)
        constraint = constraint_with([[0.0, 1.0, 2.0]])
        sample = StratifiedSample(groups, 100, seed=0)

        @tf.function
        def of_sample(step):
            rows = sample.rows(step)
            members = tf.gather(tf.constant(groups.membership), rows)
            return constraint(tf.gather(scores, rows, axis=1), members, sample.weights)

        drawn = [float(of_sample(tf.constant(step))) for step in range(200)]
        exact = float(constraint(scores, tf.constant(groups.membership)))
        assert np.std(drawn) > 0
        assert np.mean(drawn) == pytest.approx(exact, rel=0.01)

    def test_it_pulls_every_item_of_the_group_alike(self):
        """The gradient is L p_j - l_g / n_g for an item of g: 2 p_j, less 2 / 2 in b."""
        scores = tf.Variable(SCORES)
        with tf.GradientTape() as tape:
            penalty = constraint_with([[0.0, 2.0]])(scores, MEMBERSHIP)
        gradient = tape.gradient(penalty, scores).numpy()[0]
        np.testing.assert_allclose(gradient, [0.2, 0.4, 0.6 - 1, 0.8 - 1], atol=1e-6)

    def test_gradients_agree_with_finite_differences(self):
        rng = np.random.default_rng(0)
        constraint = constraint_with([[0.0, 1.5], [0.5, 0.0]], num_slices=2, temperature=0.7)
        slices, weights = tf.constant([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]]), [1.0, 2.0, 0.5, 3.0]
        listed = tf.constant(rng.random((3, 4)) < 0.8)

        def penalty(scores):
            return constraint(
                scores, MEMBERSHIP, tf.constant(weights), slices=slices, listed=listed
            )

        found, expected = tf.test.compute_gradient(
            penalty, [tf.constant(rng.normal(size=(3, 4)), tf.float32)], delta=1e-2
        )
        np.testing.assert_allclose(found[0], expected[0], atol=2e-3)

    @given(
        scores=st.lists(st.floats(-100, 100, width=32), min_size=6, max_size=6),
        multipliers=st.lists(st.floats(-10, 10, width=32), min_size=3, max_size=3),
    )
    @example(scores=[0.0] * 5 + [16.0], multipliers=[0.0, -1.0, 0.0])
    @settings(max_examples=40, deadline=None)
    def test_it_is_not_negative_and_has_finite_gradients(self, scores, multipliers):
        constraint = constraint_with([multipliers])
        scores = tf.Variable([scores])
        membership = membership_of(np.arange(6) % 3, 3)
        with tf.GradientTape() as tape:
            penalty = constraint(scores, membership)
        assert float(penalty) >= 0
        assert np.isfinite(float(penalty))
        assert np.isfinite(tape.gradient(penalty, scores).numpy()).all()

    @given(multipliers=st.tuples(*[st.sampled_from([-1.0, 0.0, 0.5])] * 3))
    @settings(max_examples=27, deadline=None)
    def test_it_is_zero_if_and_only_if_all_multipliers_are(self, multipliers):
        penalty = constraint_with([multipliers])(SCORES, membership_of([0, 1, 2, 0], 3))
        assert (float(penalty) == 0) == (multipliers == (0, 0, 0))

    def test_a_new_constraint_pulls_nothing(self):
        constraint = ExposureConstraint([0.2, 0.8], num_slices=1)
        assert float(constraint(SCORES, MEMBERSHIP, slices=tf.ones([1, 1]))) == 0

    @given(st.permutations(range(6)), st.permutations(range(3)), st.permutations(range(4)))
    @settings(max_examples=20, deadline=None)
    def test_the_order_of_candidates_groups_and_queries_does_not_matter(
        self, candidates, groups, queries
    ):
        rng = np.random.default_rng(0)
        scores = rng.normal(size=(4, 6)).astype(np.float32)
        listed = rng.random((4, 6)) < 0.7
        membership = membership_of([0, 1, 2, 2, 1, 1], 3).numpy()
        weights = rng.uniform(1, 3, 6).astype(np.float32)
        slices, pull = np.eye(4, 2, dtype=np.float32), np.array([[0.0, 1.0, 3.0], [2.0, 0.0, 1.0]])
        expected = constraint_with(pull, num_slices=2)(
            scores, membership, weights, listed=listed, slices=slices
        )
        permuted = constraint_with(pull[:, groups], num_slices=2)(
            scores[queries][:, candidates],
            membership[candidates][:, groups],
            weights[candidates],
            listed=listed[queries][:, candidates],
            slices=slices[queries],
        )
        assert float(permuted) == pytest.approx(float(expected), rel=1e-5)

    @pytest.mark.parametrize(
        ("scores", "membership", "listed"),
        [
            (tf.zeros([0, 4]), MEMBERSHIP, None),
            (tf.zeros([2, 4]), MEMBERSHIP, tf.zeros([2, 4], tf.bool)),
            (tf.zeros([2, 4]), membership_of(np.zeros(4, int)), None),
            (tf.zeros([2, 1]), membership_of([1]), None),
        ],
        ids=["no queries", "nothing listed", "no item of the pulled group", "one candidate"],
    )
    def test_where_there_is_nothing_to_pull_it_is_0_with_finite_gradients(
        self, scores, membership, listed
    ):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            penalty = constraint_with([[0.0, 2.0]])(scores, membership, listed=listed)
        assert float(penalty) == 0
        assert np.isfinite(tape.gradient(penalty, scores).numpy()).all()

    def test_scores_that_are_not_numbers_are_not_hidden(self):
        scores = tf.constant([[np.nan, 1.0, 2.0, 3.0]])
        assert np.isnan(float(constraint_with([[0.0, 2.0]])(scores, MEMBERSHIP)))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_it_works_in_a_function_and_under_xla_and_sees_updates(jit_compile):
    constraint = ExposureConstraint([0.5, 0.5], num_slices=2)
    slices, listed = tf.ones([1, 2]), tf.constant([[True, True, True, False]])
    matrix = tf.TensorSpec([None, None], tf.float32)
    marks = tf.TensorSpec([None, None], tf.bool)

    @tf.function(jit_compile=jit_compile, input_signature=[matrix, matrix, matrix, marks])
    def value_and_gradient(scores, membership, slices, listed):
        with tf.GradientTape() as tape:
            tape.watch(scores)
            penalty = constraint(scores, membership, slices=slices, listed=listed)
        return penalty, tape.gradient(penalty, scores)

    assert float(value_and_gradient(SCORES, MEMBERSHIP, slices, listed)[0]) == 0
    constraint.update(np.array([[3.0, 1.0], [1.0, 1.0]]))
    penalty, gradient = value_and_gradient(SCORES, MEMBERSHIP, slices, listed)
    expected = float(constraint(SCORES, MEMBERSHIP, slices=slices, listed=listed))
    assert expected > 0
    assert float(penalty) == pytest.approx(expected, rel=1e-5)
    assert gradient[0, 2] < 0 < gradient[0, 0]


class TestUpdates:
    """Target 0.25 and 0.75 within 0.3, and a margin that aims for 0.21."""

    UNDER = (1.5, 8.5)
    """Shares 0.15 and 0.85: ratios 0.6, which is too little, and 1.133, which is not too much."""

    OVER = (3.5, 6.5)
    """Shares 0.35 and 0.65: ratios 1.4, which is too much, and 0.867, which is not too little."""

    INSIDE = (3.0, 7.0)
    """Shares 0.3 and 0.7: ratios 1.2 and 0.933, in the inner band."""

    def constraint(self, num_slices: int = 1, **arguments) -> ExposureConstraint:
        settings = {"tolerance": 0.3, "margin": 0.3, **arguments}
        return ExposureConstraint([0.25, 0.75], num_slices, **settings)

    def test_no_multiplier_grows_beyond_the_most(self):
        """Ratio 0.6 is 0.19 below the inner band: 0.5 * 0.19 an update, up to 0.2, and the present
        deviation once more."""
        constraint = self.constraint(step_size=0.5, max_multiplier=0.2)
        for _ in range(5):
            constraint.update(np.array([self.UNDER]))
        np.testing.assert_allclose(constraint.multipliers[0, 0], 0.2 + 0.5 * 0.19, rtol=1e-5)

    def test_a_group_with_too_little_exposure_is_pulled_up_and_no_other(self):
        constraint = self.constraint()
        constraint.update(np.array([self.UNDER]))
        assert constraint.multipliers[0, 0] > 0
        assert constraint.multipliers[0, 1] == 0

    def test_a_group_with_too_much_is_pushed_down_and_no_other(self):
        constraint = self.constraint()
        constraint.update(np.array([self.OVER]))
        assert constraint.multipliers[0, 0] < 0
        assert constraint.multipliers[0, 1] == 0

    def test_inside_the_inner_band_nothing_moves(self):
        constraint = self.constraint()
        for _ in range(3):
            state = constraint.update(np.array([self.INSIDE]))
        assert not state.violated.any()
        np.testing.assert_array_equal(constraint.multipliers, np.zeros((1, 2)))

    def test_within_the_margin_it_is_met_but_the_multiplier_moves_already(self):
        """A share of 0.3125 is a ratio of 1.25, between 1.21 and 1.3."""
        constraint = self.constraint()
        state = constraint.update(np.array([[3.125, 6.875]]))
        assert not state.violated.any()
        assert constraint.multipliers[0, 0] < 0

    def test_without_a_margin_the_inner_band_is_the_band(self):
        constraint = self.constraint(margin=0.0)
        constraint.update(np.array([[3.125, 6.875]]))
        assert constraint.multipliers[0, 0] == 0

    def test_what_holds_a_group_inside_its_band_stays(self):
        """Else the group would fall out of it at once, and again."""
        constraint = self.constraint()
        constraint.update(np.array([self.UNDER]))
        held = []
        for _ in range(2):
            constraint.update(np.array([self.INSIDE]))
            held.append(constraint.multipliers.copy())
        np.testing.assert_array_equal(*held)
        assert held[0][0, 0] > 0

    def test_the_longer_and_the_farther_outside_the_stronger(self):
        once, again, farther = (self.constraint() for _ in range(3))
        once.update(np.array([self.UNDER]))
        for _ in range(3):
            again.update(np.array([self.UNDER]))
        farther.update(np.array([[0.5, 9.5]]))
        assert again.multipliers[0, 0] > once.multipliers[0, 0]
        assert farther.multipliers[0, 0] > once.multipliers[0, 0]

    def test_a_larger_step_moves_faster_in_proportion(self):
        slow, fast = self.constraint(step_size=0.1), self.constraint(step_size=0.3)
        for constraint in (slow, fast):
            constraint.update(np.array([self.UNDER]))
        np.testing.assert_allclose(fast.multipliers, 3 * slow.multipliers, rtol=1e-5)

    def test_only_shares_count_and_not_how_many_users_were_measured(self):
        few, many = self.constraint(), self.constraint()
        few.update(np.array([self.UNDER]))
        many.update(1000 * np.array([self.UNDER]))
        np.testing.assert_allclose(few.multipliers, many.multipliers, rtol=1e-5)

    def test_slices_are_held_each_for_itself_within_their_own_tolerance(self):
        """A ratio of 0.6 is 0.4 off: outside 0.3, and inside 0.8 with its inner band of 0.56. The
        last slice has what it should have."""
        constraint = self.constraint(3, tolerance=[0.3, 0.8, 0.3])
        state = constraint.update(np.array([self.UNDER, self.UNDER, [1.0, 3.0]]))
        assert state.violated.tolist() == [[True, False], [False, False], [False, False]]
        moved = constraint.multipliers != 0
        assert moved.tolist() == [[True, False], [False, False], [False, False]]

    def test_a_slice_without_lists_is_left_alone(self):
        constraint = self.constraint(2)
        constraint.update(np.array([self.UNDER, self.UNDER]))
        before = constraint.multipliers[1].copy()
        for _ in range(2):
            state = constraint.update(np.array([self.UNDER, [0.0, 0.0]]))
        assert np.isnan(state.ratio[1]).all()
        assert not state.violated[1].any()
        assert np.isfinite(constraint.multipliers).all()
        assert 0 < constraint.multipliers[1, 0] <= before[0]
        assert constraint.multipliers[0, 0] > before[0]

    def test_a_group_that_is_not_constrained_stays_at_0(self):
        constraint = self.constraint(tolerance=0.05, constrained=[1])
        state = constraint.update(np.array([self.UNDER]))
        assert constraint.multipliers[0, 0] == 0
        assert constraint.multipliers[0, 1] < 0
        assert state.violated.tolist() == [[False, True]]
        assert np.isnan(state.low[0, 0])
        assert np.isnan(state.high[0, 0])
        np.testing.assert_allclose([state.low[0, 1], state.high[0, 1]], [0.95, 1.05])

    def test_the_penalty_follows_with_a_gradient_towards_the_band(self):
        constraint = self.constraint()
        constraint.update(np.array([self.UNDER]))
        scores = tf.Variable(SCORES)
        with tf.GradientTape() as tape:
            penalty = constraint(scores, MEMBERSHIP, slices=tf.ones([1, 1]))
        gradient = tape.gradient(penalty, scores).numpy()[0]
        assert (gradient[:2] < 0).all()
        assert (gradient[2:] > 0).all()


class TestState:
    def test_ratios_bands_and_violations_by_hand(self):
        """Group 2 has no target: 4 and 4 of 8 are shares 0.5 where 0.25 and 0.75 are due, ratios 2
        and 2/3; 1 and 3 are as they should be."""
        constraint = ExposureConstraint([0.25, 0.75, 0.0], 2, tolerance=[0.1, 0.5])
        state = constraint.state(np.array([[4.0, 4.0, 2.0], [1.0, 3.0, 9.0]]))
        np.testing.assert_allclose(state.ratio, [[2, 2 / 3, np.nan], [1, 1, np.nan]])
        np.testing.assert_allclose(state.low, [[0.9, 0.9, np.nan], [0.5, 0.5, np.nan]])
        np.testing.assert_allclose(state.high, [[1.1, 1.1, np.nan], [1.5, 1.5, np.nan]])
        assert state.violated.tolist() == [[True, True, False], [False] * 3]

    def test_looking_changes_nothing(self):
        constraint = ExposureConstraint([0.5, 0.5], 1)
        constraint.state(np.array([[1.0, 9.0]]))
        np.testing.assert_array_equal(constraint.multipliers, np.zeros((1, 2)))

    def test_an_update_returns_the_state_it_found(self):
        constraint = ExposureConstraint([0.5, 0.5], 1)
        exposure = np.array([[1.0, 9.0]])
        expected = constraint.state(exposure)
        found = constraint.update(exposure)
        np.testing.assert_array_equal(found.ratio, expected.ratio)
        assert found.violated.all()

    def test_without_slices_there_is_one_row_for_everybody(self):
        constraint = ExposureConstraint([0.5, 0.5], 0)
        assert constraint.update(np.array([[1.0, 3.0]])).ratio.tolist() == [[0.5, 1.5]]
        assert constraint.multipliers.shape == (1, 2)
        assert float(constraint(SCORES, MEMBERSHIP)) > 0


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"tolerance": 0.0}, "`tolerance` should be a positive float. Received: 0.0."),
            ({"tolerance": [0.1, -0.1]}, "`tolerance` should be a positive float. Received: -0.1."),
            (
                {"tolerance": [0.1] * 3},
                "`tolerance` should be one, or one for each of 2 slices. "
                "Received: [0.1, 0.1, 0.1].",
            ),
            ({"step_size": 0.0}, "`step_size` should be a positive float. Received: 0.0."),
            ({"temperature": -1.0}, "`temperature` should be a positive float. Received: -1.0."),
            ({"margin": 1.0}, "`margin` should be in [0, 1). Received: 1.0."),
            ({"margin": -0.1}, "`margin` should be in [0, 1). Received: -0.1."),
            ({"num_slices": -1}, "`num_slices` should be at least 0. Received: -1."),
            (
                {"target": [[0.5, 0.5], [0.5, 0.5]]},
                "`target` should be one share per group. Received: [[0.5, 0.5], [0.5, 0.5]].",
            ),
            (
                {"constrained": [2]},
                "`constrained` should be numbers of groups that have a target. Received: [2].",
            ),
            (
                {"constrained": [0, 3]},
                "`constrained` should be numbers of groups that have a target. Received: [0, 3].",
            ),
        ],
    )
    def test_of_arguments(self, arguments, message):
        with pytest.raises(ValueError, match="Received") as error:
            ExposureConstraint(**{"target": [0.5, 0.5, 0.0], "num_slices": 2, **arguments})
        assert str(error.value) == message

    def test_of_inputs(self):
        constraint = ExposureConstraint([0.5, 0.5], num_slices=2)
        with pytest.raises(ValueError, match="needs `slices` as an argument"):
            constraint(SCORES, MEMBERSHIP)
        with pytest.raises(ValueError, match=r"`slices` should have 2 columns\. Received: 3"):
            constraint(SCORES, MEMBERSHIP, slices=tf.ones([1, 3]))
        with pytest.raises(ValueError, match=r"`membership` should have 2 columns\. Received: 4"):
            constraint(SCORES, tf.eye(4), slices=tf.ones([1, 2]))

    @pytest.mark.parametrize("shape", [(2,), (1, 2), (2, 3)])
    def test_of_exposure(self, shape):
        constraint = ExposureConstraint([0.5, 0.5], num_slices=2)
        with pytest.raises(ValueError, match=r"`exposure` should have the shape \(2, 2\)"):
            constraint.update(np.ones(shape))
        np.testing.assert_array_equal(constraint.multipliers, np.zeros((2, 2)))


def test_a_config_makes_an_equal_constraint():
    constraint = ExposureConstraint(
        [1, 2, 1, 0],
        num_slices=2,
        tolerance=[0.1, 0.2],
        constrained=[0, 2],
        margin=0.5,
        step_size=0.2,
        max_multiplier=3.0,
        temperature=0.15,
        labels=["a", "b", "c", "unknown"],
    )
    config = json.loads(json.dumps(constraint.get_config()))
    assert config == {
        "target": [0.25, 0.5, 0.25, 0.0],
        "num_slices": 2,
        "tolerance": [0.1, 0.2],
        "constrained": [0, 2],
        "margin": 0.5,
        "step_size": 0.2,
        "max_multiplier": 3.0,
        "temperature": 0.15,
        "labels": ["a", "b", "c", "unknown"],
    }
    again = fairness_losses.get("exposure_constraint", **config)
    assert again.get_config() == config
    exposure = np.array([[1.0, 4.0, 9.0, 0.0], [5.0, 1.0, 1.0, 1.0]])
    for each in (constraint, again):
        each.update(exposure)
    np.testing.assert_array_equal(again.multipliers, constraint.multipliers)


def test_a_checkpoint_keeps_the_multipliers_and_what_they_are_made_of(tmp_path):
    """A restored constraint also goes on as the other does."""
    first, second = (ExposureConstraint([0.5, 0.5], num_slices=1) for _ in range(2))
    for _ in range(3):
        first.update(np.array([[1.0, 3.0]]))
    path = tf.train.Checkpoint(constraint=first).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(constraint=second).restore(path).assert_consumed()
    np.testing.assert_array_equal(second.multipliers, first.multipliers)
    for each in (first, second):
        each.update(np.array([[1.0, 2.0]]))
    np.testing.assert_array_equal(second.multipliers, first.multipliers)
    assert not first.trainable_variables


class TestDescent:
    """Scores that are free to move, each query's own best ones known, and lists of ten items.

    Of 60 items 30 are of a, 20 of b and 10 of c, which should have exposure accordingly. Queries
    want items of a more than of b, and these more than of c; the second half of the queries, a
    slice of its own, does so all the more.
    """

    GROUPS = np.repeat([0, 1, 2], [30, 20, 10])
    TARGET = np.array([30, 20, 10]) / 60
    SLICES = np.repeat(np.eye(2), 32, axis=0)
    DEPTH = 10

    PREFERENCE = np.array([[0.5, 0.2, 0.0], [1.2, 0.6, 0.0]])

    def wanted(self) -> np.ndarray:
        """Logits `[64, 60]`, by which every query wants the items."""
        rng = np.random.default_rng(0)
        return rng.normal(size=(64, 60)) + (self.SLICES @ self.PREFERENCE)[:, self.GROUPS]

    def exposure(self, scores: tf.Tensor, groups: np.ndarray = GROUPS) -> np.ndarray:
        lists = tf.math.top_k(scores, self.DEPTH).indices.numpy()
        return self.SLICES.T @ list_exposure(lists, np.eye(3)[groups], dcg_weights(self.DEPTH))

    def descend(
        self, constraint: ExposureConstraint, updates: int, groups: np.ndarray = GROUPS
    ) -> tf.Variable:
        wanted = tf.constant(self.wanted(), tf.float32)
        scores = tf.Variable(wanted)
        membership = membership_of(groups, 3)
        slices = tf.constant(self.SLICES, tf.float32)
        optimizer = tf.keras.optimizers.Adam(0.02)
        optimizer.build([scores])

        @tf.function(jit_compile=True)
        def steps():
            for _ in tf.range(10):
                with tf.GradientTape() as tape:
                    found = tf.nn.softmax_cross_entropy_with_logits(tf.nn.softmax(wanted), scores)
                    loss = tf.reduce_mean(found) + constraint(scores, membership, slices=slices)
                optimizer.apply_gradients([(tape.gradient(loss, scores), scores)])

        for _ in range(updates):
            steps()
            constraint.update(self.exposure(scores, groups))
        return scores

    def test_every_slice_comes_into_its_band(self):
        constraint = ExposureConstraint(self.TARGET, 2, tolerance=0.1, step_size=0.1)
        before = constraint.state(self.exposure(self.wanted())).violated
        assert before.any(axis=1).all()
        scores = self.descend(constraint, updates=150)
        state = constraint.state(self.exposure(scores))
        assert not state.violated.any(), state.ratio
        # The second slice is farther off, and needs the stronger pull.
        pull = constraint.multipliers - constraint.multipliers.min(axis=1, keepdims=True)
        assert pull[1, 2] > pull[0, 2] > 0

    def test_the_order_within_a_group_stays_that_of_relevance(self):
        constraint = ExposureConstraint(self.TARGET, 2, tolerance=0.1, step_size=0.1)
        scores, wanted = self.descend(constraint, updates=150).numpy(), self.wanted()
        for group in range(3):
            best = scores[:, group == self.GROUPS].argmax(axis=1)
            assert (best == wanted[:, group == self.GROUPS].argmax(axis=1)).mean() > 0.9

    def test_a_target_that_lists_cannot_reach_is_said_to_be_violated(self):
        """The only two items of c should have 0.9 of the exposure. On the first two ranks they have
        1 + 1 / log2(3) = 1.63 of 4.54, that is 0.36: a ratio of 0.4. Both slices come close."""
        groups = np.repeat([0, 1, 2], [30, 28, 2])
        constraint = ExposureConstraint([0.05, 0.05, 0.9], 2, tolerance=0.05, step_size=0.2)
        scores = self.descend(constraint, 100, groups)
        state = constraint.state(self.exposure(scores, groups))
        np.testing.assert_allclose(state.ratio[:, 2], 0.4, atol=0.02)
        assert state.violated.all()
        assert (state.ratio[:, :2] > state.high[:, :2]).all()
        assert np.isfinite(scores.numpy()).all()


def test_it_moves_the_weights_of_a_plain_keras_model_with_add_loss():
    constraint = ExposureConstraint([0.5, 0.5], num_slices=0)
    constraint.update(np.array([[9.0, 1.0]]))
    candidates = tf.random.stateless_normal([4, 3], seed=[1, 2])

    class TheirModel(tf.keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = tf.keras.layers.Dense(3)

        def call(self, inputs):
            scores = tf.matmul(self.dense(inputs), candidates, transpose_b=True)
            self.add_loss(constraint(scores, MEMBERSHIP))
            return scores

    model, queries = TheirModel(), tf.random.stateless_normal([8, 3], seed=[3, 4])
    model.compile(optimizer=tf.keras.optimizers.SGD(1.0), run_eagerly=True)
    before = model(queries).numpy()
    model.fit(queries, batch_size=8, epochs=1, verbose=0)
    gain = (model(queries).numpy() - before).mean(axis=0)
    assert gain[2:].mean() > gain[:2].mean()


def test_examples_in_the_docstrings_hold():
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner()
    for each in finder.find(exposure_constraint, globs=vars(exposure_constraint).copy()):
        runner.run(each)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries > 0
