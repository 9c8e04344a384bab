"""Pairwise accuracy: by hand, pair by pair, against the area under the ROC curve."""

import importlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.metrics.pairwise import pairwise_accuracy

# One query; groups A, B, A, B, A; chosen were the B of 0.8 and the A of 0.5.
SCORES = np.array([[0.9, 0.8, 0.5, 0.5, 0.1]])
RELEVANCE = np.array([[0.0, 1.0, 1.0, 0.0, 0.0]])
MEMBERSHIP = np.eye(2)[[0, 1, 0, 1, 0]]

KINDS = ["overall", "intra", "inter"]
seeds = st.integers(0, 2**32 - 1)


def random_inputs(seed: int) -> dict[str, np.ndarray]:
    """Scores with many ties, items of several groups, some candidates not listed."""
    rng = np.random.default_rng(seed)
    shape = (rng.integers(1, 5), rng.integers(1, 9))
    return {
        "scores": rng.integers(0, 5, shape) / 4,
        "relevance": rng.choice([0.0, 0.0, 1.0, 2.0], shape),
        "membership": rng.dirichlet(np.full(3, 0.3), shape[1]),
        "weights": rng.uniform(0.5, 3.0, shape[1]),
        "listed": rng.random(shape) < 0.8,
    }


def pair_by_pair(scores, relevance, membership, kind, weights, listed):
    """The definition, with a loop over every pair."""
    won, pairs = np.zeros((2, membership.shape[1]))
    for query, positive, other in np.ndindex(*scores.shape, scores.shape[1]):
        if relevance[query, positive] <= 0 or relevance[query, other] > 0:
            continue
        if not listed[query, other]:
            continue
        fraction = {
            "overall": 1.0,
            "intra": membership[other],
            "inter": 1 - membership[other],
        }[kind]
        mass = weights[positive] * weights[other] * membership[positive] * fraction
        margin = scores[query, positive] - scores[query, other]
        pairs += mass
        won += mass * (np.sign(margin) + 1) / 2
    return won, pairs


@pytest.mark.parametrize(
    ("kind", "by_group", "pairs", "pooled"),
    [
        ("overall", [1.5 / 3, 2 / 3], [3, 3], 3.5 / 6),
        ("intra", [1 / 2, 1 / 1], [2, 1], 2 / 3),
        ("inter", [0.5 / 1, 1 / 2], [1, 2], 1.5 / 3),
    ],
)
def test_two_positives_by_hand(kind, by_group, pairs, pooled):
    """A (0.5) loses to A 0.9, ties with B 0.5, beats A 0.1; B (0.8) loses to A 0.9, beats the rest.

    Of its own group A meets the 0.9 and the 0.1, B the 0.5; of the other group the rest.
    """
    accuracy = pairwise_accuracy(SCORES, RELEVANCE, MEMBERSHIP, kind)
    np.testing.assert_allclose(accuracy.by_group, by_group)
    np.testing.assert_allclose(accuracy.pairs, pairs)
    assert accuracy.pooled == pytest.approx(pooled)


def test_a_film_of_two_directors_by_hand():
    """The positive is half A, half B, and beats the A, and ties with another half-half.

    Overall each group has half of both pairs: (1/2 + 1/4) / 1. Intra: A has 1/2 of the pair with
    the A and 1/2 * 1/2 of the tie, (1/2 + 1/8) / (3/4) = 5/6; B has the tie alone, 1/2.
    """
    inputs = np.array([[0.5, 0.1, 0.5]]), np.array([[1, 0, 0]])
    membership = np.array([[0.5, 0.5], [1.0, 0.0], [0.5, 0.5]])
    np.testing.assert_allclose(pairwise_accuracy(*inputs, membership).by_group, [0.75, 0.75])
    intra = pairwise_accuracy(*inputs, membership, "intra")
    np.testing.assert_allclose(intra.by_group, [5 / 6, 1 / 2])
    np.testing.assert_allclose(intra.pairs, [3 / 4, 1 / 4])


def test_weights_by_hand():
    """The positive A stands for 2; it beats a B that stands for 3 and loses to one of 1: 6 of 8."""
    accuracy = pairwise_accuracy(
        np.array([[0.5, 0.1, 0.9]]),
        np.array([[1, 0, 0]]),
        np.eye(2)[[0, 1, 1]],
        weights=np.array([2.0, 3.0, 1.0]),
    )
    np.testing.assert_allclose(accuracy.by_group, [6 / 8, np.nan])
    np.testing.assert_allclose(accuracy.pairs, [8, 0])


def test_what_was_chosen_before_is_not_compared():
    """Without the A of 0.9 the B of 0.8 wins both of its comparisons, and A 1.5 of 2."""
    listed = np.array([[False, True, True, True, True]])
    accuracy = pairwise_accuracy(SCORES, RELEVANCE, MEMBERSHIP, listed=listed)
    np.testing.assert_allclose(accuracy.by_group, [1.5 / 2, 1.0])


@given(seed=seeds, kind=st.sampled_from(KINDS))
@settings(max_examples=60, deadline=None)
def test_it_is_what_a_loop_over_the_pairs_counts(seed, kind):
    inputs = random_inputs(seed)
    accuracy = pairwise_accuracy(**inputs, kind=kind)
    won, pairs = pair_by_pair(**inputs, kind=kind)
    np.testing.assert_allclose(accuracy.pairs, pairs, atol=1e-12)
    has_pairs = pairs > 1e-9
    np.testing.assert_allclose(accuracy.by_group[has_pairs], won[has_pairs] / pairs[has_pairs])
    if has_pairs.any():
        assert accuracy.pooled == pytest.approx(won.sum() / pairs.sum())


@given(seed=seeds)
@settings(max_examples=30, deadline=None)
def test_intra_and_inter_pairs_are_all_pairs(seed):
    inputs = random_inputs(seed)
    overall, intra, inter = (pairwise_accuracy(**inputs, kind=kind) for kind in KINDS)
    np.testing.assert_allclose(intra.pairs + inter.pairs, overall.pairs)
    won = np.nan_to_num(intra.by_group) * intra.pairs + np.nan_to_num(inter.by_group) * inter.pairs
    np.testing.assert_allclose(won, np.nan_to_num(overall.by_group) * overall.pairs, atol=1e-12)


@given(seed=seeds, kind=st.sampled_from(KINDS))
@settings(max_examples=30, deadline=None)
def test_the_order_of_candidates_and_the_scale_of_scores_do_not_matter(seed, kind):
    inputs = random_inputs(seed)
    order = np.random.default_rng(seed).permutation(inputs["scores"].shape[1])
    shuffled = {
        name: value[order] if name in ("membership", "weights") else value[:, order]
        for name, value in inputs.items()
    }
    shuffled["scores"] = 8 * shuffled["scores"] - 3
    before, after = (pairwise_accuracy(**kw, kind=kind) for kw in (inputs, shuffled))
    np.testing.assert_allclose(before.by_group, after.by_group)


def test_with_one_group_it_is_the_area_under_the_roc_curve():
    metrics = importlib.import_module("sklearn.metrics")
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 50, 400) / 50
    relevance = rng.random(400) < scores
    accuracy = pairwise_accuracy(scores[None], relevance[None], np.ones((400, 1)))
    assert accuracy.by_group[0] == pytest.approx(metrics.roc_auc_score(relevance, scores))


def test_scores_of_one_value_are_as_good_as_chance():
    accuracy = pairwise_accuracy(np.zeros((1, 5)), RELEVANCE, MEMBERSHIP, "inter")
    np.testing.assert_array_equal(accuracy.by_group, [0.5, 0.5])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("scores", "relevance"),
    [
        (SCORES, np.zeros((1, 5))),
        (SCORES, np.ones((1, 5))),
        (np.zeros((0, 5)), np.zeros((0, 5))),
    ],
    ids=["nothing chosen", "everything chosen", "no query"],
)
def test_where_there_is_no_pair_there_is_no_accuracy(kind, scores, relevance):
    accuracy = pairwise_accuracy(scores, relevance, MEMBERSHIP, kind)
    assert np.isnan(accuracy.by_group).all()
    assert np.isnan(accuracy.pooled)
    np.testing.assert_array_equal(accuracy.pairs, 0)


def test_no_candidates_make_no_pair():
    accuracy = pairwise_accuracy(np.zeros((2, 0)), np.zeros((2, 0)), np.zeros((0, 3)))
    np.testing.assert_array_equal(accuracy.pairs, np.zeros(3))


def test_a_score_without_an_order_is_refused():
    scores = np.array([[0.9, np.nan, 0.5, 0.5, 0.1]])
    with pytest.raises(ValueError, match=r"`scores` should be numbers.*Received: 1 that are NaN"):
        pairwise_accuracy(scores, RELEVANCE, MEMBERSHIP)


def test_a_score_may_be_infinite():
    scores = np.array([[np.inf, 0.8, -np.inf, -np.inf, 0.1]])
    accuracy = pairwise_accuracy(scores, RELEVANCE, MEMBERSHIP)
    np.testing.assert_allclose(accuracy.by_group, [0.5 / 3, 2 / 3])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("scores", SCORES[0], r"`scores` should have the shape \[num_queries"),
        ("relevance", RELEVANCE[:, :4], r"`relevance` should have the shape of `scores`, \[1, 5\]"),
        ("membership", MEMBERSHIP[:4], r"`membership` should have the shape \[5, num_groups\]"),
        ("weights", np.ones(4), r"`weights` should have the shape \[5\].*Received: \[4\]"),
        ("listed", np.ones((2, 5), bool), r"`listed` should have the shape of `scores`"),
        ("kind", "both", r"`kind` should be one of overall, intra, inter\. Received: both\."),
    ],
)
def test_inputs_that_do_not_fit_are_refused(field, value, message):
    inputs = {"scores": SCORES, "relevance": RELEVANCE, "membership": MEMBERSHIP}
    with pytest.raises(ValueError, match=message):
        pairwise_accuracy(**{**inputs, field: value})
