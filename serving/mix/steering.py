"""Prices per group that follow the exposure which is served.

A list is the k items with the highest sums of score and price. A price is the dual variable of the
constraint that its group's share of exposure is at least, and as shares sum to 1 exactly, the
target; serving follows its subgradient, list by list:

    price_g += step * sum over lists of (p_g T - E_g) / (p_g V)

with the list's exposure of the group E_g (`fairness_losses.exposure`, attention of DCG), of all
groups that have a target T, and of a whole list V. So after any stream of lists

    exposure ratio_g - 1 = -(price_g now - price_g at first) * V / (step * sum of T):

as long as prices stay within bounds, every group's ratio goes to 1 as one over the number of
lists, whoever asks and however the index errs. `unknown` has no target and keeps its price of 0.

Source: Xu, Zhang, Wang, Xu and Wen, "FairSync: Ensuring Amortized Group Exposure in Distributed
Recommendation Retrieval", WWW 2024. There the step is a mirror step on a batch of users; here it is
taken relative to the target, so that a group of one percent is as fast as one of half.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from fairness_losses.browsing import dcg_weights
from fairness_losses.exposure import exposure_ratio, list_exposure

_COLUMN_SCALE = 0.2
"""Of a group's column, in standard deviations of the others: leaves are then not cut by group. On
MovieLens about 1 lost .05 of the recall, and 0.02 that of the smallest group."""

_ROUNDS = 200
_CLOSE = 0.005


class Prices(tf.Module):
    """Prices of every policy row, held and updated inside the graph.

    The state is that of one process: every replica of a server follows the lists that it serves
    itself. Requests that run at once may read the same prices; updates are added, and none is lost.
    """

    def __init__(self, start: np.ndarray, shares: np.ndarray, k: int, step: float) -> None:
        """Initialises the prices.

        Args:
            start: float `[num_rows, num_groups]`, in units of the score.
            shares: Target shares, float `[num_rows, num_groups]`, 0 for a group without a target.
            k: Length of the lists.
            step: In units of the score.
        """
        super().__init__()
        self._prices = tf.Variable(start, trainable=False, dtype=tf.float32)
        self._shares = tf.constant(shares, tf.float32)
        self._attention = tf.constant(dcg_weights(k), tf.float32)
        self._step = step

    @property
    def shape(self) -> list[int]:
        """Numbers of policy rows and of groups."""
        return self._prices.shape.as_list()

    def of(self, row: tf.Tensor) -> tf.Tensor:
        """Returns the prices of the given rows, float32 `[num_queries, num_groups]`."""
        return tf.gather(self._prices, row)

    def all(self) -> tf.Tensor:
        """Returns the prices of all rows, float32 `[num_rows, num_groups]`."""
        return self._prices.read_value()

    def add(self, change: tf.Tensor) -> None:
        """Adds to the prices of all rows, float32 `[num_rows, num_groups]`."""
        self._prices.assign_add(change)

    def observe(self, row: tf.Tensor, codes: tf.Tensor, counts: tf.Tensor) -> None:
        """Moves the prices by what was served.

        Args:
            row: int32 `[num_queries]`, policy row of every list.
            codes: int32 `[num_queries, k]`, groups of the candidates, -1 for none.
            counts: bool `[num_queries]`, lists that count.
        """
        shares = tf.gather(self._shares, row)
        attention = self._attention / tf.reduce_sum(self._attention)
        exposure = tf.einsum("qkg,k->qg", tf.one_hot(codes, self.shape[1]), attention)
        has_target = tf.cast(shares > 0, tf.float32)
        total = tf.reduce_sum(exposure * has_target, axis=1, keepdims=True)
        missing = has_target * (total - tf.math.divide_no_nan(exposure, shares))
        missing *= tf.cast(counts, tf.float32)[:, tf.newaxis]
        self.add(self._step * tf.math.unsorted_segment_sum(missing, row, self.shape[0]))


def price_unit(vectors: np.ndarray) -> float:
    """What the columns of groups hold for their items, and prices are divided by.

    Args:
        vectors: float32 `[num_items, dim]`.
    """
    return _COLUMN_SCALE * float(vectors.std()) or 1.0


def with_groups(vectors: np.ndarray, codes: np.ndarray, num_groups: int) -> np.ndarray:
    """Item vectors with one more column per group, `price_unit` for the items of the group.

    Then the dot product with a query that ends with the groups' prices, over that unit, is score
    plus price: any index for the largest dot products searches by it, in one pass.

    Args:
        vectors: float32 `[num_items, dim]`.
        codes: Group of every item, int `[num_items]`.
        num_groups: Number of groups.

    Returns:
        float32 `[num_items, dim + num_groups]`.
    """
    columns = price_unit(vectors) * np.eye(num_groups, dtype=np.float32)
    return np.hstack([vectors, columns[codes].astype(np.float32)])


def without_prices(queries: np.ndarray, num_groups: int) -> np.ndarray:
    """Returns queries whose prices are 0, float32 `[num_queries, dim + num_groups]`."""
    return np.pad(queries, [(0, 0), (0, num_groups)]).astype(np.float32, copy=False)


def starting_prices(
    scores: np.ndarray, codes: np.ndarray, shares: np.ndarray, k: int
) -> np.ndarray:
    """Finds prices that bring the lists of a sample of queries to the target.

    The price of a group rises while its ratio is below 1 and falls while it is above; steps grow
    while the sign stays and are halved when it changes (Riedmiller and Braun, "A direct adaptive
    method for faster backpropagation learning: the RPROP algorithm", ICNN 1993).

    Args:
        scores: float `[num_queries, num_candidates]`: the k best of every group; -inf for none.
        codes: Their groups, int `[num_queries, num_candidates]`, -1 for none.
        shares: Target shares, float `[num_groups]`, 0 for a group without a target.
        k: Length of the lists.

    Returns:
        float64 `[num_groups]`, in units of the score; 0 for a group without a target.
    """
    num_groups = len(shares)
    membership = np.eye(num_groups)
    attention = dcg_weights(k)
    spread = score_spread(scores, k)
    prices, step, sign = np.zeros(num_groups), np.full(num_groups, spread), np.zeros(num_groups)
    for _ in range(_ROUNDS):
        bonus = np.append(prices, 0.0)[codes]
        best = np.argsort(-(scores + bonus), axis=1, kind="stable")[:, :k]
        lists = np.take_along_axis(codes, best, axis=1)
        exposure = list_exposure(lists, membership, attention[: lists.shape[1]]).sum(axis=0)
        missing = np.nan_to_num(1.0 - exposure_ratio(exposure, shares))
        if np.abs(missing).max() < _CLOSE:
            break
        turned = np.sign(missing) * sign
        step = np.where(turned < 0, step / 2, np.where(turned > 0, step * 1.2, step))
        sign = np.sign(missing)
        prices += step * sign
    return prices


def score_spread(scores: np.ndarray, k: int) -> float:
    """Standard deviation of the scores on the lists of a sample, the unit that prices move in.

    Args:
        scores: float `[num_queries, num_candidates]`; -inf for none.
        k: Length of the lists.
    """
    best = -np.sort(-scores, axis=1)[:, :k]
    best = np.where(np.isfinite(best), best, np.nan)
    return float(np.nanmean(np.nanstd(best, axis=1))) or 1.0
