"""Attention by rank."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fairness_losses.browsing import (
    browsing_weights,
    cascade_weights,
    dcg_weights,
    geometric_weights,
    rbp_weights,
    top_k_weights,
)

probability = st.floats(0.01, 0.99)


def test_attention_of_the_first_ranks_by_hand():
    """1/log2(2), 1/log2(3), 1/log2(4), ..., 1/log2(8) at rank 7."""
    weights = dcg_weights(7)
    np.testing.assert_allclose(weights[[0, 1, 2, 6]], [1.0, 0.6309297535714575, 0.5, 1 / 3])


def test_attention_falls_with_rank_and_does_not_depend_on_the_depth():
    weights = dcg_weights(1000)
    assert (np.diff(weights) < 0).all()
    np.testing.assert_array_equal(dcg_weights(10), weights[:10])


def test_rank_biased_precision_by_hand():
    """0.8^0, 0.8^1, 0.8^2."""
    np.testing.assert_allclose(rbp_weights(3, 0.8), [1.0, 0.8, 0.64])


def test_geometric_attention_by_hand():
    """0.2, 0.2 * 0.8, 0.2 * 0.8^2; they sum to 1 - 0.8^3 = 0.488."""
    weights = geometric_weights(3, 0.2)
    np.testing.assert_allclose(weights, [0.2, 0.16, 0.128])
    assert weights.sum() == pytest.approx(0.488)


def test_all_of_the_top_k_have_the_same_attention():
    np.testing.assert_array_equal(top_k_weights(3), [1.0, 1.0, 1.0])


def test_cascade_by_hand():
    """Patience 0.5; list 1 has u = 0.5, 0, 1 and list 2 has u = 1, 0.5, 0.

    List 1: 1, 0.5 * (1 - 0.5) = 0.25, 0.25 * 0.5 * (1 - 0) = 0.125. List 2: 1, then nothing,
    since the first item always satisfies.
    """
    relevance = np.array([[0.5, 0.0, 1.0], [1.0, 0.5, 0.0]])
    np.testing.assert_allclose(cascade_weights(relevance, 0.5), [[1, 0.25, 0.125], [1, 0, 0]])


def test_without_impatience_only_the_items_above_end_a_cascade():
    """u = 0.5, 0.2: attention 1, 0.5, 0.5 * 0.8 = 0.4."""
    weights = cascade_weights(np.array([[0.5, 0.2, 0.9]]), patience=1.0)
    np.testing.assert_allclose(weights, [[1.0, 0.5, 0.4]])


@given(patience=probability, depth=st.integers(1, 30))
def test_a_cascade_of_items_that_satisfy_nobody_is_rank_biased_precision(patience, depth):
    weights = cascade_weights(np.zeros((2, depth)), patience)
    np.testing.assert_allclose(weights, np.tile(rbp_weights(depth, patience), (2, 1)))


@given(relevance=hnp.arrays(np.float64, (3, 6), elements=st.floats(0, 1)), patience=probability)
def test_cascade_agrees_with_its_formula_rank_by_rank(relevance, patience):
    expected = np.array(
        [
            [patience**k * np.prod([1 - u for u in row[:k]]) for k in range(len(row))]
            for row in relevance
        ]
    )
    np.testing.assert_allclose(cascade_weights(relevance, patience), expected, atol=1e-12)


@given(patience=probability, depth=st.integers(1, 50))
def test_named_models_of_one_patience_are_proportional(patience, depth):
    rbp = browsing_weights("rbp", depth, patience)
    geometric = browsing_weights("geometric", depth, patience)
    np.testing.assert_allclose(geometric, (1 - patience) * rbp, rtol=1e-9)


def test_models_by_name():
    np.testing.assert_array_equal(browsing_weights("dcg", 4), dcg_weights(4))
    np.testing.assert_array_equal(browsing_weights("top_k", 4), top_k_weights(4))
    np.testing.assert_array_equal(browsing_weights("rbp", 4, 0.7), rbp_weights(4, 0.7))
    np.testing.assert_allclose(browsing_weights("geometric", 4, 0.7), geometric_weights(4, 0.3))


@pytest.mark.parametrize("depth", [0, -3])
@pytest.mark.parametrize("kind", ["dcg", "rbp", "geometric", "top_k"])
def test_a_list_has_at_least_one_rank(kind, depth):
    with pytest.raises(ValueError, match=rf"at least 1\. Received: {depth}\."):
        browsing_weights(kind, depth, 0.5)


@pytest.mark.parametrize("patience", [-0.5, 0.0, 1.0, float("nan")])
@pytest.mark.parametrize("kind", ["rbp", "geometric"])
def test_patience_is_a_probability(kind, patience):
    with pytest.raises(ValueError, match=rf"`patience` should be.*0 and 1\. Received: {patience}"):
        browsing_weights(kind, 3, patience)


def test_stop_is_a_probability():
    with pytest.raises(ValueError, match=r"`stop` should be between 0 and 1\. Received: 1\.5\."):
        geometric_weights(3, 1.5)


@pytest.mark.parametrize("patience", [-0.5, 0.0, 1.5, float("nan")])
def test_patience_of_a_cascade_is_a_probability(patience):
    with pytest.raises(ValueError, match=rf"`patience` should be.*Received: {patience}"):
        cascade_weights(np.zeros((1, 2)), patience)


@pytest.mark.parametrize("kind", ["rbp", "geometric"])
def test_a_model_that_needs_a_patience_says_so(kind):
    with pytest.raises(ValueError, match=rf"`patience` should be given for `{kind}`"):
        browsing_weights(kind, 3)


def test_a_model_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match=r"one of dcg, rbp, geometric, top_k\. Received: ndcg\."):
        browsing_weights("ndcg", 3)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_relevance_of_a_cascade_is_a_probability(value):
    with pytest.raises(ValueError, match="`relevance` should be between 0 and 1"):
        cascade_weights(np.array([[0.5, value]]), 0.5)


def test_relevance_of_a_cascade_has_a_row_per_list():
    with pytest.raises(ValueError, match=r"\[num_lists, depth\]\. Received: \[2\]\."):
        cascade_weights(np.array([0.5, 0.1]), 0.5)


def test_no_lists_have_no_attention():
    assert cascade_weights(np.zeros((0, 4)), 0.5).shape == (0, 4)
