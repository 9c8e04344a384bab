"""Asks for the lists of a user's arm, and tells the server's log which arm it was.

with ExperimentClient(experiment, "localhost:8500", "retriever") as client:
    lists = client.retrieve("u1", {"user_id": ["u1"]}, {"country": "de"})
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

from serving.client import Client, Lists
from serving.experiments.arms import ArmConfig
from serving.experiments.assignment import Assigner
from serving.experiments.config import Experiment
from serving.experiments.labels import arm_label


class ExperimentClient:
    """A client of the versions that the arms of one experiment ask.

    Users who do not take part are asked for as in the control, without an arm in the log.

    Args:
        experiment: What is compared.
        address: Of the server, as `Client` takes it.
        model: Its name.
        connect: Makes a client of a version, a label or neither; by default a `Client`.
    """

    def __init__(
        self,
        experiment: Experiment,
        address: str,
        model: str = "retriever",
        connect: Callable[..., Any] = Client,
    ) -> None:
        self._assigner = Assigner(experiment)
        self._open = contextlib.ExitStack()
        self._clients = {
            arm.name: self._open.enter_context(
                connect(address, model, version=arm.version, label=arm.label)
            )
            for arm in experiment.arms
        }

    def retrieve(
        self,
        user_id: str,
        features: Mapping[str, Any],
        attributes: Mapping[str, Any] | None = None,
        other_arms: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Lists:
        """Asks for lists of one user.

        Args:
            user_id: As the outcomes call the user.
            features: Query features by name, see `Client.retrieve`.
            attributes: Of the request, for eligibility.
            other_arms: Arms of other experiments that the user takes part in, by their names.
            **more: As `Client.retrieve` takes it: `exclude`, `control`.

        Raises:
            InvalidInputError: The id is empty.
            ServingError: The server did not answer, or says what is wrong.
        """
        experiment = self._assigner.experiment
        arm = self._assigner.arm(user_id, attributes)
        arms = dict(other_arms or {})
        if arm is not None:
            arms[experiment.name] = arm.name
        asked: ArmConfig = arm or experiment.control
        return self._clients[asked.name].retrieve(
            features,
            policy_key=asked.policy_key,
            signature=asked.signature,
            arm=arm_label(arms),
            **more,
        )

    def close(self) -> None:
        """Closes connections."""
        self._open.close()

    def __enter__(self) -> ExperimentClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
