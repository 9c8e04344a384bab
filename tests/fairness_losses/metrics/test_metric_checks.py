"""What metrics refuse, and that each of them does."""

import numpy as np
import pytest

from fairness_losses.metrics.checks import check_target, top_k
from fairness_losses.metrics.divergence import awrf, ndkl
from fairness_losses.metrics.diversity import diversity_at_k, item_exposure
from fairness_losses.metrics.skew import skew_at_k
from fairness_losses.metrics.statistical_parity import relative_deviation, rsp_at_k

MEMBERSHIP = np.eye(2)
TARGET = np.array([0.5, 0.5])
OF_LISTS = [
    lambda lists, target: diversity_at_k(lists, MEMBERSHIP, target, 2),
    lambda lists, target: ndkl(lists, MEMBERSHIP, target),
    lambda lists, target: rsp_at_k(lists, MEMBERSHIP, target, 2),
    lambda lists, target: skew_at_k(lists, MEMBERSHIP, target, 2),
]


def test_the_first_k_ranks():
    lists = np.array([[0, 1, -1], [1, -1, -1]])
    np.testing.assert_array_equal(top_k(lists, 2, 2), [[0, 1], [1, -1]])
    assert top_k(lists[:0], 2, 2).shape == (0, 2)


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (np.array([0, 1]), r"at least 2\]\. Received: \[2\]"),
        (np.array([[0]]), r"at least 2\]\. Received: \[1, 1\]"),
        (np.array([[0.0, np.nan]]), "integers. Received: float64"),
        (np.array([[0, 2]]), "2 items.*from 0 to 2"),
        (np.array([[0, -2]]), "-1 for none.*from -2 to 0"),
    ],
)
def test_lists_that_are_none_of_this_catalogue(lists, message):
    with pytest.raises(ValueError, match=message):
        top_k(lists, 2, 2)
    with pytest.raises(ValueError, match=message):
        item_exposure(lists, np.ones(2), 2)


def test_a_cutoff_of_nothing():
    with pytest.raises(ValueError, match=r"`k` should be at least 1\. Received: 0"):
        top_k(np.array([[0]]), 0, 2)


@pytest.mark.parametrize("metric", OF_LISTS)
def test_every_metric_of_lists_checks_them(metric):
    with pytest.raises(ValueError, match="rows of a catalogue of 2 items"):
        metric(np.array([[0, 5]]), TARGET)


BAD_TARGETS = [
    (np.array([1.0]), r"shape \[2\].*Received: \[1\]"),
    (np.array([0.5, 0.6]), "sum to 1"),
    (np.array([-0.5, 1.5]), "sum to 1"),
    (np.array([np.nan, 1.0]), "sum to 1"),
    (np.array([0.0, 0.0]), "sum to 1"),
]


@pytest.mark.parametrize(("target", "message"), BAD_TARGETS)
def test_targets_that_are_no_shares_of_the_groups(target, message):
    with pytest.raises(ValueError, match=message):
        check_target(target, 2)
    for metric in OF_LISTS:
        with pytest.raises(ValueError, match=message):
            metric(np.array([[0, 1]]), target)
    for figure in (awrf, relative_deviation):
        with pytest.raises(ValueError, match=message):
            figure(np.array([1.0, 2.0]), target)
