"""Groups that a regularizer leaves out."""

from __future__ import annotations

from collections.abc import Sequence

import tensorflow as tf


def without_groups(membership: tf.Tensor, excluded: Sequence[int]) -> tf.Tensor:
    """Returns the membership with every candidate's share in the excluded groups set to 0.

    Args:
        membership: float `[num_candidates, num_groups]`.
        excluded: Numbers of groups.

    Returns:
        float `[num_candidates, num_groups]`.

    Raises:
        ValueError: There is no group of such a number.
    """
    if not excluded:
        return membership
    num_groups = membership.shape[1]
    foreign = [group for group in excluded if not 0 <= group < (num_groups or group + 1)]
    if foreign:
        raise ValueError(
            f"`excluded` should be numbers of groups, from 0 to {(num_groups or 0) - 1}. "
            f"Received: {foreign[0]}."
        )
    marks = tf.one_hot(list(excluded), tf.shape(membership)[1], dtype=membership.dtype)
    return membership * (1 - tf.reduce_max(marks, axis=0))
