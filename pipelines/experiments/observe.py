"""Brings lists, outcomes and the users' slices together."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fairness_losses.config import UNKNOWN
from fairness_losses.errors import InvalidInputError
from pipelines.audit.pseudonyms import Pseudonyms
from pipelines.examples.checks import as_strings
from pipelines.examples.splits import id_hashes
from pipelines.experiments.lists import SEED, read_lists
from pipelines.experiments.outcomes import read_outcomes
from pipelines.experiments.users import gather
from pipelines.readers.chunks import readable
from serving.experiments.config import Experiment
from serving.experiments.observations import Observations
from towers.config import USER_ID

_DAY = 86_400


def observe(
    experiment: Experiment,
    lists: str,
    outcomes: str | None,
    users: pathlib.Path | None,
    salts: pathlib.Path | None,
    replay: bool = False,
) -> tuple[Observations, dict[str, Any]]:
    """Reads what was observed of the users of an experiment.

    Args:
        experiment: Whose users.
        lists: Path or glob of the log, see `lists.read_lists`.
        outcomes: Path or glob of the outcomes, see `outcomes.read_outcomes`.
        users: Parquet file or folder with `user_id` and the columns of `slices` (also called
            `slice.<column>`, as in the examples of a run); needed with slices or salts.
        salts: Folder of the salts of a serving log.
        replay: Whether the log is from before the experiment: users are assigned as they would
            have been.

    Returns:
        The observations, and what became of every row: `lists` and `outcomes`.

    Raises:
        InvalidInputError: A file is damaged or lacks a column.
    """
    if users is None and (experiment.slices or salts is not None):
        raise InvalidInputError(
            "`--users`, a Parquet file with `user_id` and the columns of `slices`, is needed: the "
            f"experiment has {'slices' if experiment.slices else 'salts'}."
        )
    known = Pseudonyms(salts, users) if salts is not None and users is not None else None
    served = gather(read_lists(lists, experiment, known, replay), experiment)
    followed_by = read_outcomes(outcomes, experiment, served)
    until = min(int(experiment.end.timestamp()), followed_by.last + 1)
    seen = Observations(
        arm=served.arm.astype(np.int64),
        totals=followed_by.totals,
        before=followed_by.before,
        exposure=served.exposure,
        slices=_slices(experiment, users, served.user),
        arrived=(served.first - int(experiment.start.timestamp())) // _DAY,
        followed=np.maximum(until - served.first, 0) // _DAY,
        daily=followed_by.daily,
    )
    return seen, {"lists": served.counts, "outcomes": followed_by.counts}


def _slices(
    experiment: Experiment, users: pathlib.Path | None, wanted: np.ndarray
) -> dict[str, np.ndarray]:
    """Values of every user by column; `unknown` where nobody stated it."""
    if users is None or not experiment.slices:
        return {}
    with readable(str(users)):
        table = pq.read_table(users)
    ids = as_strings(_column(table, USER_ID, users), f"{users}, column `{USER_ID}`")
    hashes = id_hashes(ids.fill_null(""), SEED)
    order = np.argsort(hashes, kind="stable")
    place = np.searchsorted(hashes[order], wanted)
    row = np.append(order, len(hashes))[place]
    found = np.append(hashes, 0)[row] == wanted
    slices = {}
    for column in experiment.slices:
        stated = as_strings(_column(table, column, users), f"{users}, column `{column}`")
        values = np.append(stated.fill_null(UNKNOWN).to_numpy(zero_copy_only=False), UNKNOWN)
        values = values.astype(str)
        values[values == ""] = UNKNOWN
        slices[column] = np.where(found, values[row], UNKNOWN)
    return slices


def _column(table: pa.Table, name: str, path: pathlib.Path) -> pa.ChunkedArray:
    for spelled in (name, f"slice.{name}"):
        if spelled in table.column_names:
            return table[spelled]
    raise InvalidInputError(
        f"{path}: there is no column `{name}`. It has {', '.join(table.column_names[:20])}."
    )
