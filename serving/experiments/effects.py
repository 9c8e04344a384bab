"""Effects of an arm relative to the control, as gbstats estimates them."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
from gbstats.frequentist.tests import (
    FrequentistConfig,
    OneSidedTreatmentGreaterTTest,
    OneSidedTreatmentLesserTTest,
    SequentialConfig,
    SequentialTwoSidedTTest,
    TTest,
    TwoSidedTTest,
)
from gbstats.models.statistics import TestStatistic

from serving.experiments.config import FixedHorizon, Sequential

StoppingRule = FixedHorizon | Sequential


@dataclasses.dataclass(frozen=True)
class Effect:
    """A relative change: 0.02 is two percent more than the control.

    Attributes:
        value: The estimate.
        low: Lower end of the interval.
        high: Upper end.
        p: Of no change, two-sided. Under the sequential rule it is always valid, like the interval.
        control: The metric in the control, not adjusted.
        treatment: The metric in the arm, not adjusted.
        users: Of both.
    """

    value: float
    low: float
    high: float
    p: float
    control: float
    treatment: float
    users: int


@dataclasses.dataclass(frozen=True)
class NonInferiority:
    """Whether a metric is less than a margin worse.

    Attributes:
        effect: The relative change, with a one-sided bound at each end.
        p_held: Of being worse by the margin or more: if it is small, the guardrail held.
        p_worse: Of being worse by less than the margin: if it is small, more than the margin is
            lost.
    """

    effect: Effect
    p_held: float
    p_worse: float


def effect(
    control: TestStatistic, treatment: TestStatistic, alpha: float, rule: StoppingRule
) -> Effect | None:
    """Estimates a relative change.

    Under a fixed horizon it is Welch's test with the delta method for the quotient; under the
    sequential rule the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy and
    Ramdas, "Time-uniform central limit theory and asymptotic confidence sequences", 2021.

    Args:
        control: Of the control.
        treatment: Of the arm.
        alpha: One minus the level of the interval.
        rule: When effects may be looked at.

    Returns:
        The effect; None if the control's metric is 0, or an arm's does not vary.
    """
    # gbstats writes the coefficient of the adjustment into its statistics.
    control, treatment = copy.deepcopy(control), copy.deepcopy(treatment)
    if isinstance(rule, Sequential):
        settings = SequentialConfig(alpha=alpha, sequential_tuning_parameter=rule.tuned_for)
        test: TTest = SequentialTwoSidedTTest(control, treatment, settings)
    else:
        test = TwoSidedTTest(control, treatment, FrequentistConfig(alpha=alpha))
    # An effect that is beyond doubt has an e-value beyond the floating-point numbers, and p 0.
    with np.errstate(over="ignore"):
        result = test.compute_result()
    if result.error_message is not None:
        return None
    return Effect(
        value=float(result.expected),
        low=float(result.ci[0]),
        high=float(result.ci[1]),
        p=float(result.p_value),
        control=float(control.unadjusted_mean),
        treatment=float(treatment.unadjusted_mean),
        users=int(control.n + treatment.n),
    )


def non_inferiority(
    control: TestStatistic,
    treatment: TestStatistic,
    margin: float,
    better: str,
    alpha: float,
    rule: StoppingRule,
) -> NonInferiority | None:
    """Tests whether an arm is less than a margin worse than the control.

    Under the sequential rule, whose tests are two-sided, the one-sided ones are at `alpha` at most.

    Args:
        control: Of the control.
        treatment: Of the arm.
        margin: Relative change for the worse, positive.
        better: `higher` or `lower`.
        alpha: Of each one-sided test.
        rule: When effects may be looked at.

    Returns:
        The tests; None where there is no effect.
    """
    sequential = isinstance(rule, Sequential)
    found = effect(control, treatment, alpha if sequential else 2 * alpha, rule)
    if found is None:
        return None
    limit = -margin if better == "higher" else margin
    greater, lesser = _one_sided(control, treatment, limit, alpha, rule, found)
    held, worse = (greater, lesser) if better == "higher" else (lesser, greater)
    return NonInferiority(found, p_held=held, p_worse=worse)


def _one_sided(
    control: TestStatistic,
    treatment: TestStatistic,
    limit: float,
    alpha: float,
    rule: StoppingRule,
    found: Effect,
) -> tuple[float, float]:
    """P-values of a change that is not above the limit, and of one that is not below it."""
    control, treatment = copy.deepcopy(control), copy.deepcopy(treatment)
    if isinstance(rule, Sequential):
        settings = SequentialConfig(
            alpha=alpha, test_value=limit, sequential_tuning_parameter=rule.tuned_for
        )
        with np.errstate(over="ignore"):
            p = float(SequentialTwoSidedTTest(control, treatment, settings).p_value)
        return (p, 1.0) if found.value > limit else (1.0, p)
    at = FrequentistConfig(alpha=alpha, test_value=limit)
    greater = OneSidedTreatmentGreaterTTest(control, treatment, at).p_value
    lesser = OneSidedTreatmentLesserTTest(control, treatment, at).p_value
    return float(greater), float(lesser)
