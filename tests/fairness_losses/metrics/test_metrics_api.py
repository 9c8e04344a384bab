"""The public names of the metrics, and the example that introduces them."""

import subprocess
import sys

import numpy as np

from fairness_losses import metrics


def test_the_public_names():
    assert sorted(metrics.__all__) == [
        "ExpectedExposure",
        "GroupFigures",
        "JointExposure",
        "ListSums",
        "PADDING",
        "PairwiseAccuracy",
        "awrf",
        "by_slice",
        "catalogue_coverage",
        "dcg_weights",
        "diversity_at_k",
        "expected_exposure",
        "exposure_ratio",
        "exposure_share",
        "gini",
        "group_coverage",
        "group_exposure",
        "group_figures",
        "group_gini",
        "group_skew",
        "hit_rate_at_k",
        "item_exposure",
        "joint_exposure",
        "max_skew",
        "min_skew",
        "ndcg_at_k",
        "ndkl",
        "pairwise_accuracy",
        "precision_at_k",
        "recall_at_k",
        "reciprocal_rank_at_k",
        "recommendation_probability",
        "relative_deviation",
        "reo_at_k",
        "rsp_at_k",
        "skew_at_k",
        "target_exposure",
    ]
    assert all(hasattr(metrics, name) for name in metrics.__all__)


def test_the_exposure_ratio_of_two_lists_by_hand():
    """A stands first twice and B second twice: shares 1 and s of 1 + s, with s = 1 / log2(3)."""
    lists, membership = np.array([[0, 1], [0, 1]]), np.eye(2)
    exposure = metrics.group_exposure(lists, membership, metrics.dcg_weights(2))
    ratio = metrics.exposure_ratio(exposure.sum(axis=0), np.array([0.5, 0.5]))
    second = 1 / np.log2(3)
    np.testing.assert_allclose(ratio, [2 / (1 + second), 2 * second / (1 + second)])


def test_metrics_need_no_tensorflow():
    program = "import sys, fairness_losses.metrics\nassert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
