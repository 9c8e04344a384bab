"""Groups, targets, exposure and the regularizers that steer it.

Three lines add a regularizer to a model of your own::

    import fairness_losses

    parity = fairness_losses.get("exposure_parity", target=[0.3, 0.7])
    loss += 1.0 * parity(scores, membership)
"""

from __future__ import annotations

from fairness_losses.registry import arguments_of, available, get

__all__ = ["arguments_of", "available", "get"]
