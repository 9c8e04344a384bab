"""Off-policy estimates: what another policy would have earned, from the lists of a logged one.

A logging policy that draws its lists at random knows how likely each item was to stand at the place
where it stood. Reweighting what users did there by how likely the policy in question, the *target*,
is to put it there says what the target would earn, without serving it.

**The assumption** is that of the *item-position model*: the expected reward of a place depends on
the request, the item at the place and the place itself, on no other item of the list. Position bias
of any shape is allowed, and so are users of any taste; a user who stops looking because an item
above satisfied (a cascade) is not. Then the reward of a list is a sum over places, and of the
logged propensities only the marginal ones are needed,

    p_ij = P(the logging policy puts the item at place j of request i there | request i),

not that of the list as a whole, which is astronomically small. Source: Li, Abbasi-Yadkori, Kveton,
Muthukrishnan, Vinay and Wen, "Offline Evaluation of Ranking Policies with Click Models", KDD 2018,
section 4.2.

With rewards r_ij, target probabilities q_ij of the same items at the same places, and weights
w_ij = q_ij / p_ij, all estimates are of the expected reward of a list under the target. They need
**support**: whatever the target may put at a place, the logging policy has to put there now and
then. What is never logged cannot be seen to be missing in the rewards, but it shows in
`Estimate.mean_weight`, which should be 1.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.stats import t as student

from fairness_losses.errors import InvalidInputError


@dataclasses.dataclass(frozen=True)
class LoggedLists:
    """Lists of a logging policy, with what users did and how likely items were at their places.

    All lists have the same number of places.

    Attributes:
        rewards: What each place earned, such as clicks, float `[num_requests, k]`.
        logged: Propensities p_ij of the logging policy, float `[num_requests, k]`, above 0, at
            most 1.
        target: Probabilities q_ij of the target policy for the logged items at their places, float
            `[num_requests, k]`, from 0 to 1.
        users: Who made each request, `[num_requests]`: requests of a user are not independent, and
            intervals are then over users. Without it every request counts on its own.

    Raises:
        InvalidInputError: Shapes do not fit, or a value is not finite or out of range.
    """

    rewards: np.ndarray
    logged: np.ndarray
    target: np.ndarray
    users: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.rewards.ndim != 2 or 0 in self.rewards.shape:
            raise InvalidInputError(
                "`rewards` should have the shape [num_requests, k], at least one of each. "
                f"Received: {list(self.rewards.shape)}."
            )
        for name in ("logged", "target"):
            _check_shape(name, getattr(self, name), self.rewards.shape)
        if self.users is not None:
            _check_shape("users", self.users, self.rewards.shape[:1])
        _check("rewards", self.rewards, np.isfinite(self.rewards), "be finite")
        is_propensity = (self.logged > 0) & (self.logged <= 1)
        _check(
            "logged",
            self.logged,
            is_propensity,
            "be above 0 and at most 1: the logging policy did put the item there. Log the "
            "probability with which it was drawn for its place",
        )
        _check("target", self.target, (self.target >= 0) & (self.target <= 1), "be a probability")

    def weights(self, clip: float | None = None) -> np.ndarray:
        """Importance weights, `min(q_ij / p_ij, clip)`.

        Args:
            clip: Largest weight; none by default.

        Returns:
            float64 `[num_requests, k]`, not negative. Their expectation is 1 at every place
            without `clip`, and less with it.

        Raises:
            InvalidInputError: `clip` is not positive.
        """
        if clip is not None and not clip > 0:
            raise InvalidInputError(f"`clip` should be a positive float. Received: {clip}.")
        weights = self.target.astype(np.float64) / self.logged
        return weights if clip is None else np.minimum(weights, clip)


@dataclasses.dataclass(frozen=True)
class Estimate:
    """An estimate of the expected reward of a list under the target policy.

    Attributes:
        value: The estimate.
        standard_error: Of it, over users or requests.
        low: Lower end of its interval, by Student's distribution. It says nothing of the bias that
            clipping brings.
        high: Upper end.
        effective_sample_size: As `effective_sample_size`, of the place where it is least.
        mean_weight: Mean of the weights before clipping. Far from 1, the target puts items where
            the logging policy never does, or propensities are wrong.
        clipped: Share of the weights that were clipped.
    """

    value: float
    standard_error: float
    low: float
    high: float
    effective_sample_size: float
    mean_weight: float
    clipped: float


def ips(log: LoggedLists, clip: float | None = None, confidence: float = 0.95) -> Estimate:
    """Inverse propensity scoring: `1/n sum_i sum_j w_ij r_ij`.

    Unbiased without `clip`, if propensities are right and the module's assumptions hold; with it
    the bias is never upwards for rewards that are not negative. Its variance grows with the largest
    weights. For rewards in [0, 1] it is not negative but may be above k. Exact where the target is
    the logging policy: then it is the mean reward of a list.

    Source: Horvitz and Thompson, JASA 1952; with clipping: Ionides, "Truncated Importance
    Sampling", JCGS 2008; per place of a list: see the module.

    Args:
        log: The lists.
        clip: Largest weight; none by default.
        confidence: Level of the interval, between 0 and 1.

    Raises:
        InvalidInputError: `clip` or `confidence` is out of range, or there are fewer than two
            users or requests.
    """
    weights = log.weights(clip)
    per_request = (weights * log.rewards).sum(axis=1)
    return _estimate(log, weights, float(per_request.mean()), per_request, confidence)


def snips(log: LoggedLists, clip: float | None = None, confidence: float = 0.95) -> Estimate:
    """Self-normalised inverse propensity scoring, `sum_j (sum_i w_ij r_ij / sum_i w_ij)`.

    Every place is divided by its own weights, whose expectation is n. Consistent, with a bias of
    the order 1/n, and mostly of less variance than `ips`. A mean per place, so that rewards in
    [0, 1] give 0 to k, and equal rewards at a place are returned as they are. A place whose weights
    are all 0 says nothing of the target and counts as 0.

    The standard error is that of the delta method, of the residuals `w_ij (r_ij - mean_j)` over the
    mean weight of the place.

    Source: Swaminathan and Joachims, "The Self-Normalized Estimator for Counterfactual Learning",
    NIPS 2015, section 4.

    Args:
        log: The lists.
        clip: Largest weight; none by default.
        confidence: Level of the interval, between 0 and 1.

    Raises:
        InvalidInputError: As `ips`.
    """
    weights = log.weights(clip)
    total = weights.sum(axis=0)
    normal = np.divide(weights, total, out=np.zeros_like(weights), where=total > 0)
    means = (normal * log.rewards).sum(axis=0)
    residuals = len(weights) * (normal * (log.rewards - means)).sum(axis=1)
    return _estimate(log, weights, float(means.sum()), residuals, confidence)


def doubly_robust(
    log: LoggedLists,
    predicted: np.ndarray,
    expected: np.ndarray,
    clip: float | None = None,
    confidence: float = 0.95,
) -> Estimate:
    """Doubly robust: a reward model, corrected where the log contradicts it.

        1/n sum_i sum_j (expected_ij + w_ij (r_ij - predicted_ij))

    Unbiased without `clip` if the propensities are right, whatever the model says; and with any
    propensities if the model is right. The better the model, the less its variance; a model of 0
    is `ips`. The model should be fitted on other requests than these. The value may be negative
    or above k.

    Source: Dudík, Langford and Li, "Doubly Robust Policy Evaluation and Learning", ICML 2011.

    Args:
        log: The lists.
        predicted: What the model says the logged item earns at its place, float
            `[num_requests, k]`.
        expected: What it says the target earns at the place: the mean of its predictions over the
            items that the target may put there, by their probabilities, float `[num_requests, k]`.
        clip: Largest weight; none by default.
        confidence: Level of the interval, between 0 and 1.

    Raises:
        InvalidInputError: As `ips`; or predictions have another shape or are not finite.
    """
    for name, values in (("predicted", predicted), ("expected", expected)):
        _check_shape(name, values, log.rewards.shape)
        _check(name, values, np.isfinite(values), "be finite")
    weights = log.weights(clip)
    per_request = (expected + weights * (log.rewards - predicted)).sum(axis=1)
    return _estimate(log, weights, float(per_request.mean()), per_request, confidence)


def effective_sample_size(weights: np.ndarray) -> np.ndarray:
    """How many lists of equal weight say as much, per place: `(sum w)^2 / sum w^2`.

    Source: Kish, "Survey Sampling", 1965, section 11.7.

    Args:
        weights: float `[num_requests, k]`, not negative.

    Returns:
        float64 `[k]`, at most `num_requests`, reached where all weights are equal; 0 where all
        are 0.
    """
    squares = (weights**2).sum(axis=0)
    out = np.zeros(weights.shape[1])
    return np.divide(weights.sum(axis=0) ** 2, squares, out=out, where=squares > 0)


def _estimate(
    log: LoggedLists, weights: np.ndarray, value: float, terms: np.ndarray, confidence: float
) -> Estimate:
    """Adds to a value what its terms say of its error.

    Args:
        log: The lists.
        weights: As they were used, clipped.
        value: The estimate.
        terms: Of every request, `[num_requests]`; the mean of what differs from request to request.
        confidence: Level of the interval.
    """
    if not 0 < confidence < 1:
        raise InvalidInputError(f"`confidence` should be between 0 and 1. Received: {confidence}.")
    deviations = terms - terms.mean()
    if log.users is not None:
        deviations = np.bincount(np.unique(log.users, return_inverse=True)[1], deviations)
    units = len(deviations)
    if units < 2:
        raise InvalidInputError(
            "an interval needs the requests of at least two users, or two requests. Received: 1."
        )
    error = float(np.sqrt(units / (units - 1) * (deviations**2).sum()) / len(terms))
    margin = float(student.ppf((1 + confidence) / 2, units - 1)) * error
    raw = log.weights()
    return Estimate(
        value=value,
        standard_error=error,
        low=value - margin,
        high=value + margin,
        effective_sample_size=float(effective_sample_size(weights).min()),
        mean_weight=float(raw.mean()),
        clipped=float((weights < raw).mean()),
    )


def _check_shape(name: str, values: np.ndarray, shape: tuple[int, ...]) -> None:
    if values.shape != shape:
        raise InvalidInputError(
            f"`{name}` should have the shape {list(shape)}, as `rewards` says. Received: "
            f"{list(values.shape)}."
        )


def _check(name: str, values: np.ndarray, is_good: np.ndarray, should: str) -> None:
    """Refuses values, naming the first wrong one. NaN is never good."""
    if not is_good.all():
        row, place = np.argwhere(~is_good)[0]
        raise InvalidInputError(
            f"`{name}` should {should}. Received: {values[row, place]} in row {row} at place "
            f"{place} (rows and places from 0)."
        )
