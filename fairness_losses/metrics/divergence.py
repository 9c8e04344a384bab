"""How far the groups' shares lie from their targets, as one number: NDKL and AWRF."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from fairness_losses.browsing import dcg_weights
from fairness_losses.exposure import PADDING, exposure_share
from fairness_losses.metrics.checks import check_target, top_k

_BLOCK = 1024
"""Lists looked at together: what is held of them stays in the processor's cache."""

_TINY = np.finfo(np.float64).tiny


def ndkl(lists: np.ndarray, membership: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Normalised discounted cumulative KL divergence of every list from the target.

    NDKL = (1 / Z) * sum over ranks i of KL(D_i || target) / log2(i + 1), with D_i the groups'
    shares of the first i candidates, Z the sum of the `1 / log2(i + 1)`, and the natural
    logarithm in KL. Source: Geyik, Ambler and Kenthapadi, "Fairness-Aware Ranking in Search &
    Recommendation Systems with Application to LinkedIn Talent Search", KDD 2019, equation 4.

    Shares are taken among the groups that have a target. A rank counts, in the sum and in Z, if
    it holds an item and one of those groups has a part in the items down to it: a padded list is
    judged by the ranks it has. An item of two groups counts for each with its fraction.

    Args:
        lists: int `[num_lists, depth]`, rows of `membership`, best first; `PADDING` for none.
        membership: float `[num_items, num_groups]`, rows sum to 1.
        target: float `[num_groups]`, target shares, 0 for a group without a target.

    Returns:
        float64 `[num_lists]`, from 0 to `-ln(smallest positive target)`; NaN for a list without an
        item of a group with a target. 0 if and only if the shares are at the target from the
        first rank on, which takes items of several groups: whole items put one group first, so
        compare a list's value with that of another, not with 0.
    """
    lists = top_k(lists, lists.shape[-1], len(membership))
    check_target(target, membership.shape[1])
    counted = target > 0
    membership, target = membership[:, counted], target[counted]
    is_whole = ((membership == 0) | (membership == 1)).all() and membership.sum(axis=1).max() <= 1
    down_to_rank = _of_whole_items if is_whole else _of_parts
    values = [
        _ndkl(lists[start : start + _BLOCK], membership, target, down_to_rank)
        for start in range(0, len(lists), _BLOCK)
    ]
    return np.concatenate([np.zeros(0), *values])


def _ndkl(
    lists: np.ndarray, membership: np.ndarray, target: np.ndarray, down_to_rank: Callable
) -> np.ndarray:
    """NDKL of some lists.

    With what the groups have down to a rank, a_g, and their sum N, the divergence there is
    `(sum over g of a_g ln(a_g / target_g)) / N - ln N`.
    """
    # Rank by rank, all lists at once.
    ranks = np.ascontiguousarray(lists.T)
    above, terms = down_to_rank(ranks, membership, target)
    with np.errstate(divide="ignore", invalid="ignore"):
        # Rounding can take the divergence of an exact match a little below zero.
        divergence = np.maximum(terms / above - np.log(above), 0.0)
        weights = np.where((ranks != PADDING) & (above > 0), dcg_weights(len(ranks))[:, None], 0.0)
        return np.where(weights > 0, weights * divergence, 0.0).sum(axis=0) / weights.sum(axis=0)


def _of_parts(
    ranks: np.ndarray, membership: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """N, and the sum over g of a_g ln(a_g / target_g), both float64 `[depth, num_lists]`."""
    above, terms = np.zeros(ranks.shape), np.zeros(ranks.shape)
    # The last row is what `PADDING`, -1, takes.
    for parts, share in zip(_with_none(membership.T, 0.0), target, strict=True):
        of_group = _add_down(parts[ranks])
        above += of_group
        # The least positive number stands for 0, whose term is 0.
        terms += of_group * np.log(np.maximum(of_group, _TINY) / share)
    return above, terms


def _of_whole_items(
    ranks: np.ndarray, membership: np.ndarray, target: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The same where every item belongs to one group or none.

    Then the sum changes from a rank to the next by the term of one group, of which there are as
    many values as ranks: they come from a table.
    """
    depth, num_groups = len(ranks), len(target)
    group_of = np.where(membership.any(axis=1), membership.argmax(axis=1), num_groups)
    group = _with_none(group_of[None], num_groups)[0].astype(np.int16)[ranks]
    nth = np.zeros(ranks.shape, np.int16)
    for number in range(num_groups):
        is_of = group == number
        nth += _add_down(is_of.astype(np.int16)) * is_of
    count = np.arange(depth + 1)
    term = count * np.log(np.maximum(count, 1) / target[:, None])
    # What the nth item of a group adds; and those of none, whose nth is 0.
    added = np.zeros((num_groups + 1, depth + 1))
    added[:-1, 1:] = np.diff(term, axis=1)
    terms = _add_down(added.ravel()[group.astype(np.int32) * (depth + 1) + nth])
    return _add_down((group < num_groups).astype(np.int16)).astype(np.float64), terms


def _with_none(rows: np.ndarray, none: float) -> np.ndarray:
    """Rows with a column more, which is what `PADDING`, -1, takes."""
    return np.hstack([rows, np.full((len(rows), 1), none)])


def _add_down(values: np.ndarray) -> np.ndarray:
    """Cumulative sums along the first axis, in place; faster than `cumsum`, which goes by lists."""
    for upper, lower in itertools.pairwise(values):
        lower += upper
    return values


def awrf(exposure: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Attention-weighted rank fairness: 1 minus the divergence of exposure shares from the target.

    AWRF = 1 - JSD(share, target), with JSD(p, q) = KL(p || m) / 2 + KL(q || m) / 2, m = (p + q) / 2
    and the natural logarithm. Source: Ekstrand, McDonald, Raj and Johnson, "Overview of the TREC
    2022 Fair Ranking Track"; after Sapiezynski et al., WWW 2019. The track takes the
    mean over lists of each list's AWRF; the AWRF of the summed exposure lets lists make up for
    one another. Beware of `scipy.spatial.distance.jensenshannon`: it is the square root of JSD.

    Args:
        exposure: float `[..., num_groups]`, of `group_exposure`: per list or summed over lists.
        target: float `[num_groups]`, target shares, 0 for a group without a target.

    Returns:
        float64 `[...]`, in (1 - ln 2, 1]: 1 if and only if the shares are the target, and close to
        1 - ln 2 = 0.307 if all exposure goes to a group that should have almost none. NaN where no
        group with a target was exposed.
    """
    check_target(target, exposure.shape[-1])
    counted = target > 0
    target = target[counted]
    share = exposure_share(exposure[..., counted], target)
    middle = (share + target) / 2
    return 1.0 - (_kl(share, middle) + _kl(target, middle)) / 2


def _kl(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """`sum p ln(p / q)` over the last axis for positive q, where `0 ln 0` is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(p == 0, 0.0, p * np.log(p / q))
    # Rounding can take the sum of an exact match a little below zero.
    return np.maximum(terms.sum(axis=-1), 0.0)
