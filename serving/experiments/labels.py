"""How arms are written into the serving log, and read from it.

A request carries its arms in the header `x-experiment-arm` (REST) or the metadata of that name
(gRPC), and the server writes them into the column `arm` as they are: `<experiment>:<arm>`, several
with `;` between them, since a user may take part in an experiment of every layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

NO_ARM, UNKNOWN_ARM = -1, -2
"""Numbers of lists that are not of the experiment, and of those of an arm that it has not."""


def arm_label(arms: Mapping[str, str]) -> str:
    """Returns what a request carries: `fair-tower:treatment;home-page:b`.

    Args:
        arms: Name of the user's arm, by the experiment's name; names as `arms.NAME` says.
    """
    return ";".join(f"{experiment}:{arm}" for experiment, arm in arms.items())


def arm_numbers(labels: pa.Array, experiment: str, arms: Sequence[str]) -> np.ndarray:
    """Returns the arm that each list was served for, int16 `[num_lists]`.

    A label that names the experiment twice, with different arms, is of none that it has.

    Args:
        labels: string `[num_lists]`, the column `arm` of the log; null is no label.
        experiment: Its name.
        arms: Names of its arms.

    Returns:
        From 0 in the order of `arms`; `NO_ARM` or `UNKNOWN_ARM`.
    """
    coded = pc.fill_null(labels, "").dictionary_encode()
    number = {name: i for i, name in enumerate(arms)}
    values = np.array(
        [_number(label, experiment, number) for label in coded.dictionary.to_pylist()], np.int16
    )
    return values[coded.indices.to_numpy()] if len(values) else np.zeros(0, np.int16)


def _number(label: str, experiment: str, number: Mapping[str, int]) -> int:
    parts = [part.partition(":") for part in label.split(";")]
    named = {arm for name, _, arm in parts if name == experiment}
    if not named:
        return NO_ARM
    return number.get(named.pop(), UNKNOWN_ARM) if len(named) == 1 else UNKNOWN_ARM
