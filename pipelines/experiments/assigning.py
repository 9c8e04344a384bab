"""Arms of many users, as a table."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.examples.checks import as_strings, is_missing
from pipelines.readers.chunks import readable
from pipelines.readers.files import check_columns
from serving.experiments.assignment import Assigner
from serving.experiments.config import Experiment
from towers.config import USER_ID


def read_user_ids(path: pathlib.Path) -> list[str]:
    """Returns the ids in a Parquet file, without those that are empty.

    Raises:
        InvalidInputError: The file is damaged or has no `user_id`.
    """
    check_columns([str(path)], {USER_ID: "--users"})
    with readable(str(path)):
        column = pq.read_table(path, columns=[USER_ID])[USER_ID]
    ids = as_strings(column, f"{path}, column `{USER_ID}`")
    return ids.filter(pa.array(~is_missing(ids))).to_pylist()


def assign_users(experiments: Sequence[Experiment], user_ids: Sequence[str]) -> pa.Table:
    """Returns `user_id` and, by each experiment's name, the arm; null for those outside.

    Args:
        experiments: Eligibility is not looked at.
        user_ids: None of them empty.
    """
    columns = {USER_ID: pa.array(user_ids, pa.string())}
    for experiment in experiments:
        names = np.array([*(arm.name for arm in experiment.arms), None], object)
        # The last name is what -1, outside, takes.
        columns[experiment.name] = pa.array(names[Assigner(experiment).numbers(user_ids)])
    return pa.table(columns)
