"""Dual ascent: multipliers follow the exposure of exact lists while the model trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from fairness_losses.config import FairnessConfig
from fairness_losses.regularizers.exposure_constraint import ConstraintState, ExposureConstraint
from towers.audience import Audience
from towers.config import TrainingConfig
from towers.encoding import encode
from towers.model import FairRetrievalModel
from towers.training_data import TrainingData, slice_membership


class ConstraintUpdates(tf.keras.callbacks.Callback):
    """Measures exact lists every few steps and moves the multipliers of a constraint.

    The lists are those of the whole catalogue, as they would be served: the surrogate that the
    model descends has no say in how strong it is.

    Args:
        constraint: The constraint that the model trains under.
        exposure: Returns the exposure of the model as it is, `[num_slices, num_groups]`.
        every: Updates happen when the number of steps passes a multiple of it.
        first_step: Step of the training after which updates begin.
    """

    def __init__(
        self,
        constraint: ExposureConstraint,
        exposure: Callable[[], np.ndarray],
        every: int,
        first_step: int,
    ) -> None:
        super().__init__()
        self._constraint = constraint
        self._exposure = exposure
        self._every = every
        self._first_step = first_step
        self._step = 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Takes up the count of the checkpoint, if training was resumed."""
        self._step = self._present_step()

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Updates if it is time; Keras calls it once for every execution of several steps."""
        before, self._step = self._step, self._present_step()
        due = self._step // self._every > before // self._every
        if due and self._step > self._first_step:
            self._constraint.update(self._exposure())

    def state(self) -> ConstraintState:
        """Measures how far the constraint is met by the model as it is."""
        return self._constraint.state(self._exposure())

    @property
    def multipliers(self) -> np.ndarray:
        """Float32 `[num_slices, num_groups]`."""
        return self._constraint.multipliers

    def _present_step(self) -> int:
        return int(self.model.optimizer.iterations.numpy())


def constraint_updates(
    model: FairRetrievalModel,
    data: TrainingData,
    training: TrainingConfig,
    fairness: FairnessConfig,
    num_steps: int,
) -> ConstraintUpdates | None:
    """Returns the updates of a model that trains under a constraint, else none.

    Args:
        model: The built model.
        data: What it is trained on.
        training: How.
        fairness: Slices and constraint.
        num_steps: Length of the training.
    """
    constraint = model.regularizer
    if not isinstance(constraint, ExposureConstraint):
        return None
    audience = Audience.build(
        data.users.columns,
        slice_membership(data.users, fairness.slices)[1],
        (data.train_users, data.train.candidates),
        fairness.constraint.users,
    )

    depth = min(fairness.depth or max(training.evaluate_at), len(data.catalogue))

    def exposure() -> np.ndarray:
        query = encode(model.query_tower, audience.columns)
        candidate = encode(model.candidate_tower, data.catalogue.columns)
        return audience.exposure(query, candidate, data.catalogue.groups, depth)

    settings = fairness.constraint
    return ConstraintUpdates(constraint, exposure, settings.every, int(settings.start * num_steps))


def outcome(
    updates: ConstraintUpdates, slices: Sequence[str], groups: Sequence[str]
) -> dict[str, Any]:
    """Says how far the constraint is met by the model as it is.

    Args:
        updates: Of the trained model.
        slices: Names of the slices, `[num_slices]`.
        groups: Names of the groups, `[num_groups]`.

    Returns:
        `met`; `unmet`, a sentence for every constraint that is not; and `constraints`, every one
        with its ratio (none, if no list of the slice was measured), band and multiplier.
    """
    state = updates.state()
    cells = [
        {
            "slice": slices[s],
            "group": groups[g],
            "ratio": _rounded(state.ratio[s, g]),
            "low": _rounded(state.low[s, g]),
            "high": _rounded(state.high[s, g]),
            "multiplier": _rounded(updates.multipliers[s, g]),
        }
        for s, g in np.argwhere(~np.isnan(state.low)).tolist()
    ]
    unmet = describe_violations(state, slices, groups) + [
        f"{groups[g]} in {slices[s]}: no list to measure it by"
        for s, g in np.argwhere(state.unmeasured)
    ]
    return {"met": not unmet, "unmet": unmet, "constraints": cells}


def _rounded(value: float) -> float | None:
    """What JSON can hold: it has no NaN."""
    return None if np.isnan(value) else round(float(value), 4)


def describe_violations(
    state: ConstraintState, slices: Sequence[str], groups: Sequence[str]
) -> list[str]:
    """Says of every constraint that is not met by how much.

    Args:
        state: How far the constraints are met.
        slices: Names of the slices, `[num_slices]`.
        groups: Names of the groups, `[num_groups]`.

    Returns:
        Sentences such as "female in age=56+: ratio 0.87, wanted 0.90 to 1.10".
    """
    return [
        f"{groups[g]} in {slices[s]}: ratio {state.ratio[s, g]:.3f}, wanted "
        f"{state.low[s, g]:.2f} to {state.high[s, g]:.2f}"
        for s, g in np.argwhere(state.violated)
    ]
