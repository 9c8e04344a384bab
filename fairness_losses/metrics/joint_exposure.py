"""Joint multisided exposure fairness: who is shown to whom, as individuals, groups and as a whole.

With exposure E and target E* of items to users and their deviation D = E - E*, six metrics look at
D averaged over users (I individuals, G groups, A all) and over items (I individuals, G groups):

    II  mean over users and items of D^2
    IG  mean over users and item groups of (mean of D over the group's items)^2
    GI  mean over user groups and items of (mean of D over the group's users)^2
    GG  mean over user groups and item groups of (mean of D over both)^2
    AI  mean over items of (mean of D over all users)^2
    AG  mean over item groups of (mean of D over all users and the group's items)^2

II is the expected-exposure loss per item. GG and AG show what individuals do not: systematic
over-exposure of a kind of items to a kind of users, or to everybody.
Source: Wu, Mitra, Ma, Diaz and Liu, "Joint Multisided Exposure Fairness for Recommendation", SIGIR
2022, section 3. There v(rank) is `patience^rank`; with `patience^(rank - 1)`, as everywhere here,
the values are larger by the factor `1 / patience^2`.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import numpy as np

Kind = Literal["II", "IG", "GI", "GG", "AI", "AG"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class JointExposure(NamedTuple):
    """One of the six metrics, and what it is made of.

    `loss = disparity - relevance + (a constant of the target)`. As in the paper, `relevance`
    carries the factor 2, other than that of `metrics.expected_exposure`.

    Attributes:
        loss: For example GG-F, the mean of the squares of averaged D; not negative, 0 if and only
            if every average is. At most `max(attention)^2`.
        disparity: For example GG-D, the same with E in the place of D.
        relevance: For example GG-R, twice the mean of the products of averaged E and averaged E*.
    """

    loss: float
    disparity: float
    relevance: float


def joint_exposure(
    exposure: np.ndarray,
    target: np.ndarray,
    users: np.ndarray,
    items: np.ndarray,
    *,
    baseline: np.ndarray | None = None,
    listed: np.ndarray | None = None,
) -> dict[Kind, JointExposure]:
    """All six metrics of joint multisided exposure fairness.

    Args:
        exposure: float `[num_users, num_items]`, E.
        target: float `[num_users, num_items]`, E*.
        users: float `[num_users, num_user_groups]`, membership; fractions are allowed, and count
            as such in the means. A group without members takes no part.
        items: float `[num_items, num_item_groups]`, membership, alike.
        baseline: float, of a shape that broadcasts to that of E; exposure of the policy that counts
            as without disparity, for example in random order. The authors subtract it from E and
            E* before they decompose; it does not change `loss`. By default 0.
        listed: bool `[num_users, num_items]`; what cannot be on a list is left out of every mean.
            By default everything can.

    Returns:
        Every kind's metric. NaN where there is nothing to average.

    Raises:
        ValueError: Shapes do not fit.
    """
    _check_shapes(exposure, target, users, items, listed)
    mass = np.ones(exposure.shape) if listed is None else listed.astype(np.float64)
    if baseline is not None:
        exposure, target = exposure - baseline, target - baseline
    over_users = {"I": None, "G": users, "A": np.ones((len(exposure), 1))}
    over_items = {"I": None, "G": items}
    return {
        kind: _decomposed(exposure, target, mass, over_users[kind[0]], over_items[kind[1]])
        for kind in KINDS
    }


def _decomposed(
    exposure: np.ndarray,
    target: np.ndarray,
    mass: np.ndarray,
    users: np.ndarray | None,
    items: np.ndarray | None,
) -> JointExposure:
    count = _summed(mass, users, items)
    present = count > 0
    if not present.any():
        return JointExposure(float("nan"), float("nan"), float("nan"))
    averages = [
        _summed(mass * values, users, items)[present] / count[present]
        for values in (exposure, target, exposure - target)
    ]
    actual, wanted, deviation = averages
    return JointExposure(
        loss=float((deviation**2).mean()),
        disparity=float((actual**2).mean()),
        relevance=float(2 * (actual * wanted).mean()),
    )


def _summed(values: np.ndarray, users: np.ndarray | None, items: np.ndarray | None) -> np.ndarray:
    """Sums over groups of users and items; None keeps individuals."""
    if users is not None:
        values = users.T @ values
    return values if items is None else values @ items


def _check_shapes(
    exposure: np.ndarray,
    target: np.ndarray,
    users: np.ndarray,
    items: np.ndarray,
    listed: np.ndarray | None,
) -> None:
    if exposure.ndim != 2:
        raise ValueError(
            "`exposure` should have the shape [num_users, num_items]. "
            f"Received: {list(exposure.shape)}."
        )
    num_users, num_items = exposure.shape
    for name, matrix in (("target", target), ("listed", listed)):
        if matrix is not None and matrix.shape != exposure.shape:
            raise ValueError(
                f"`{name}` should have the shape {list(exposure.shape)}, that of `exposure`. "
                f"Received: {list(matrix.shape)}."
            )
    for name, matrix, size in (("users", users, num_users), ("items", items, num_items)):
        if matrix.ndim != 2 or len(matrix) != size:
            raise ValueError(
                f"`{name}` should have the shape [{size}, number of groups]. "
                f"Received: {list(matrix.shape)}."
            )
