"""Regularizers by name."""

from __future__ import annotations

import difflib
import importlib
import inspect
from typing import TYPE_CHECKING, Any

from fairness_losses.errors import InvalidInputError

if TYPE_CHECKING:
    from fairness_losses.regularizers.base import Regularizer

# Modules are named rather than imported, so that settings and NumPy metrics need no TensorFlow.
_REGULARIZERS = {
    "absolute_correlation": "absolute_correlation:AbsoluteCorrelation",
    "expected_exposure": "expected_exposure:ExpectedExposure",
    "exposure_constraint": "exposure_constraint:ExposureConstraint",
    "exposure_parity": "exposure_parity:ExposureParity",
    "head_tail": "head_tail:HeadTailAlignment",
    "joint_exposure": "joint_exposure:JointExposure",
    "min_diff": "min_diff:MinDiff",
    "pairwise_fairness": "pairwise:PairwiseFairness",
    "popularity_correlation": "popularity_correlation:PopularityCorrelation",
    "worst_group": "worst_group:WorstGroup",
}

AT_TEMPERATURE_OF_LOSS = frozenset({"exposure_constraint", "worst_group"})
"""Regularizers whose softmax is that of the retrieval loss; others have a softness of their own."""


def available() -> list[str]:
    """Returns the names of all regularizers, sorted."""
    return sorted(_REGULARIZERS)


def get(name: str, **arguments: Any) -> Regularizer:
    """Returns a regularizer.

    Args:
        name: One of `available()`.
        **arguments: Arguments of its constructor, for example what `get_config` returned.

    Raises:
        InvalidInputError: There is none of that name, or it has no such argument.
    """
    regularizer = _class_of(name)
    accepted = arguments_of(name)
    foreign = sorted(set(arguments) - set(accepted))
    if foreign:
        close = difflib.get_close_matches(foreign[0], accepted, n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        raise InvalidInputError(
            f"`{name}` has no argument `{foreign[0]}`; it has: {', '.join(accepted)}.{hint}"
        )
    return regularizer(**arguments)


def arguments_of(name: str) -> list[str]:
    """Returns the names of the arguments of a regularizer's constructor.

    Raises:
        InvalidInputError: There is no regularizer of that name.
    """
    return list(inspect.signature(_class_of(name)).parameters)


def _class_of(name: str) -> type[Regularizer]:
    if name not in _REGULARIZERS:
        close = difflib.get_close_matches(name, available(), n=1)
        hint = f" Did you mean `{close[0]}`?" if close else ""
        raise InvalidInputError(
            f"there is no regularizer `{name}`; there are: {', '.join(available())}.{hint}"
        )
    module, attribute = _REGULARIZERS[name].split(":")
    found = importlib.import_module(f"fairness_losses.regularizers.{module}")
    regularizer: type[Regularizer] = getattr(found, attribute)
    return regularizer
