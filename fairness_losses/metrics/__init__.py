"""What lists are measured by, in NumPy: the definitions that losses are held to.

Lists are int `[num_lists, depth]`, rows of the catalogue, best first, padded with `PADDING`;
memberships float `[num_items, num_groups]`, rows that sum to 1; targets float `[num_groups]`,
shares that sum to 1, 0 for a group (`unknown`) that has none and takes no part in shares::

    from fairness_losses import metrics

    weights = metrics.dcg_weights(100)
    exposure = metrics.group_exposure(lists, membership, weights)  # [num_lists, num_groups]
    metrics.exposure_ratio(exposure.sum(axis=0), target)  # 1 is parity, below 1 under-exposed

Functions `*_at_k` look at the first k ranks of lists, `ndkl` at every rank; those of `exposure` or
`candidates` take groups' sums, of one list or of many. Lists that come in parts are summed up
with `ListSums`, from which `group_figures` follow.
"""

from __future__ import annotations

from fairness_losses.browsing import dcg_weights
from fairness_losses.exposure import PADDING, exposure_ratio, exposure_share
from fairness_losses.exposure import list_exposure as group_exposure
from fairness_losses.metrics.divergence import awrf, ndkl
from fairness_losses.metrics.diversity import (
    catalogue_coverage,
    diversity_at_k,
    gini,
    group_coverage,
    group_gini,
    item_exposure,
)
from fairness_losses.metrics.expected_exposure import (
    ExpectedExposure,
    expected_exposure,
    target_exposure,
)
from fairness_losses.metrics.joint_exposure import JointExposure, joint_exposure
from fairness_losses.metrics.pairwise import PairwiseAccuracy, pairwise_accuracy
from fairness_losses.metrics.ranking import (
    by_slice,
    hit_rate_at_k,
    ndcg_at_k,
    precision_at_k,
    recall_at_k,
    reciprocal_rank_at_k,
)
from fairness_losses.metrics.skew import group_skew, max_skew, min_skew, skew_at_k
from fairness_losses.metrics.statistical_parity import (
    recommendation_probability,
    relative_deviation,
    reo_at_k,
    rsp_at_k,
)
from fairness_losses.metrics.streaming import GroupFigures, ListSums, group_figures

__all__ = [
    "PADDING",
    "ExpectedExposure",
    "GroupFigures",
    "JointExposure",
    "ListSums",
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
