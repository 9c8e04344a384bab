"""The share of exposure that each group should get."""

from __future__ import annotations

import numpy as np

from fairness_losses.config import TargetConfig
from fairness_losses.errors import InvalidInputError
from fairness_losses.groups import Groups


def target_shares(
    groups: Groups, target: TargetConfig, relevance: np.ndarray | None = None
) -> np.ndarray:
    """Returns the target share per group.

    Args:
        groups: Groups of the catalogue.
        target: Kind of target.
        relevance: For `merit`: what each item deserves, `[num_items]`; how often it was chosen in
            training, or better `debiased_relevance`.

    Returns:
        float64 `[num_groups]` that sums to 1. A group without a target (`unknown`, unless it is
        included) has 0, which no group with a target can have.

    Raises:
        InvalidInputError: Shares were given for other groups than the catalogue holds, no group
            has a target, or a group has no merit at all.
    """
    counted = ~groups.is_unknown | target.include_unknown
    if not counted.any():
        raise InvalidInputError(
            "every item's group is unknown, so no group can have a target. Give the items' groups, "
            "or set `include_unknown: true`."
        )
    if target.kind == "catalogue":
        shares = np.where(counted, groups.catalogue_share, 0.0)
    elif target.kind == "uniform":
        shares = counted.astype(np.float64)
    elif target.kind == "merit":
        shares = np.where(counted, _merit(groups, relevance), 0.0)
    else:
        shares = _given_shares(groups, counted, target.shares or {})
    without = np.flatnonzero(counted & (shares == 0))
    if len(without):
        raise InvalidInputError(
            f"the target `{target.kind}` gives the group `{groups.labels[without[0]]}` no exposure "
            "at all. Choose another kind of target."
        )
    return shares / shares.sum()


def target_bounds(
    groups: Groups, target: TargetConfig, relevance: np.ndarray | None = None
) -> np.ndarray:
    """Returns how low and how high target shares could be, whatever groups `unknown` items are of.

    Args:
        groups: Groups of the catalogue.
        target: Kind of target; one that was given, or is the same for all, does not move.
        relevance: As for `target_shares`.

    Returns:
        float64 `[2, num_groups]`: shares of everything if none of the unknown items is of the
        group, and if all are.
    """
    if target.kind == "catalogue":
        shares = groups.catalogue_share
    elif target.kind == "merit":
        merit = _merit(groups, relevance)
        shares = merit / merit.sum()
    else:
        return np.tile(target_shares(groups, target, relevance), (2, 1))
    unknown = shares[groups.is_unknown].sum()
    return np.stack([shares, np.where(groups.is_unknown, shares, shares + unknown)])


def debiased_relevance(
    items: np.ndarray, propensity: np.ndarray, num_items: int, floor: float = 0.01
) -> np.ndarray:
    """How often each item would have been chosen had every item been shown alike.

    Each choice counts `1 / max(propensity, floor)`: inverse propensity scoring, whose expectation
    does not depend on what was shown; the floor bounds its variance at the price of some bias.
    Source: Schnabel et al., "Recommendations as Treatments", ICML 2016, section 4.1.

    Args:
        items: int `[num_choices]`, the item of each choice.
        propensity: float `[num_choices]` in (0, 1], probability that the item was shown to that
            user, as logged with the impression.
        num_items: Size of the catalogue.
        floor: Least propensity that is believed.

    Returns:
        float64 `[num_items]`, not negative.

    Raises:
        ValueError: A propensity is not a probability.
    """
    if not ((propensity > 0) & (propensity <= 1)).all():
        wrong = propensity[~((propensity > 0) & (propensity <= 1))][0]
        raise ValueError(f"`propensity` should be in (0, 1]. Received: {wrong}.")
    return np.bincount(items, 1.0 / np.maximum(propensity, floor), minlength=num_items)


def _merit(groups: Groups, relevance: np.ndarray | None) -> np.ndarray:
    """A group's share of what was chosen, `[num_groups]`.

    Source: equity of exposure by merit, Diaz et al., "Evaluating Stochastic Rankings with Expected
    Exposure", CIKM 2020; Singh and Joachims, KDD 2018, section 4.2.
    """
    if relevance is None or len(relevance) != len(groups.membership):
        raise ValueError(
            f"a target by merit needs `relevance` of {len(groups.membership)} items. "
            f"Received: {None if relevance is None else len(relevance)}."
        )
    return np.asarray(relevance, np.float64) @ groups.membership


def _given_shares(groups: Groups, counted: np.ndarray, shares: dict[str, float]) -> np.ndarray:
    expected = {label for label, c in zip(groups.labels, counted, strict=True) if c}
    if set(shares) != expected:
        missing, foreign = expected - set(shares), sorted(set(shares) - expected)
        raise InvalidInputError(
            "`fairness.target.shares` should name exactly the groups of the catalogue."
            + (f" Of those, {len(missing)} have no share." if missing else "")
            + (f" Not in the catalogue: {', '.join(foreign)}." if foreign else "")
        )
    return np.array([shares.get(label, 0.0) for label in groups.labels], dtype=np.float64)
