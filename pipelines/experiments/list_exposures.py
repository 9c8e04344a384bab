"""Exposure of groups in the lists of a log, by the one definition of exposure."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairness_losses.browsing import dcg_weights
from fairness_losses.errors import InvalidInputError
from fairness_losses.exposure import PADDING, list_exposure
from serving.experiments.config import ExposureConfig


def exposure_of(groups: pa.ChunkedArray, config: ExposureConfig, where: str) -> np.ndarray:
    """Returns the exposure of every group that has a target in every list.

    Args:
        groups: list of string `[num_lists]`, the items' groups, best first.
        config: Targets and depth.
        where: Beginning of the error message.

    Returns:
        float64 `[num_lists, num_groups]`, in the order of the targets.

    Raises:
        InvalidInputError: The column holds something else.
    """
    try:
        lists = groups.cast(pa.list_(pa.string())).combine_chunks()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InvalidInputError(
            f"{where}: should hold lists of strings. Received: {groups.type}. Convert it."
        ) from error
    flat = pc.list_flatten(lists)
    code = pc.fill_null(pc.index_in(flat, pa.array(list(config.targets))), PADDING).to_numpy()
    length = pc.fill_null(pc.list_value_length(lists), 0).to_numpy().astype(np.int64)
    row = np.repeat(np.arange(len(length)), length)
    rank = np.arange(len(code)) - np.repeat(np.cumsum(length) - length, length)
    counts = rank < config.depth
    codes = np.full((len(length), config.depth), PADDING, np.int32)
    codes[row[counts], rank[counts]] = code[counts]
    return list_exposure(codes, np.eye(len(config.targets)), dcg_weights(config.depth))
