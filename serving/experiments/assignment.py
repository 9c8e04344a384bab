"""Which arm a user is in: a hash of the salt and the user's id, and nothing else.

An assignment needs no storage and no network, and is the same in every process. Two numbers of 64
bits are taken of one BLAKE2b of `<salt> NUL <user id>`: the first decides whether the user takes
part, the second in which arm. So traffic can grow without anybody changing arms; and with another
salt both are independent of what they were. In a layer, a hash with the layer's name comes first,
whose buckets are divided among its experiments.

Source: Tang, Agarwal, O'Brien and Meyer, "Overlapping Experiment Infrastructure: More, Better,
Faster Experimentation", KDD 2010; BLAKE2b: RFC 7693.
"""

from __future__ import annotations

import bisect
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from fairness_losses.errors import InvalidInputError
from serving.experiments.arms import BUCKETS, ArmConfig
from serving.experiments.config import Experiment, share_bounds
from serving.experiments.eligibility import is_eligible

NOT_IN = -1
"""Number of the arm of a user who does not take part."""

_WORD = 1 << 64


class Assigner:
    """Assigns the users of one experiment; any number of threads may share it.

    Args:
        experiment: What to assign.
    """

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self._salt = _prefix(experiment.salt)
        self._traffic = _threshold(experiment.traffic)
        # The last arm takes all that is left: its bound is no number of 64 bits.
        self._bounds = [_threshold(bound) for bound in share_bounds(experiment)[:-1]]
        layer = experiment.layer
        self._layer = None if layer is None else _prefix(f"layer {layer.name}")
        self._buckets = (0, BUCKETS - 1) if layer is None else layer.buckets

    def arm(self, user_id: str, attributes: Mapping[str, Any] | None = None) -> ArmConfig | None:
        """Returns the arm of a user; None for one who does not take part.

        Args:
            user_id: As the outcomes call the user.
            attributes: Of the request, by name; needed where there are rules of eligibility.

        Raises:
            InvalidInputError: The id is empty.
        """
        rules = self.experiment.eligibility
        if rules and not is_eligible(rules, attributes or {}):
            return None
        number = self.number(user_id)
        return None if number == NOT_IN else self.experiment.arms[number]

    def number(self, user_id: str) -> int:
        """Returns the number of an eligible user's arm, from 0; `NOT_IN` outside of the traffic.

        Raises:
            InvalidInputError: The id is empty.
        """
        if not user_id:
            raise InvalidInputError(
                "`user_id` should be the id of a user. Received: an empty one. Leave requests "
                "without a user out of experiments, or all of them would be in one arm."
            )
        name = user_id.encode()
        if self._layer is not None:
            bucket = int.from_bytes(_digest(self._layer + name)[:8], "little") % BUCKETS
            if not self._buckets[0] <= bucket <= self._buckets[1]:
                return NOT_IN
        digest = _digest(self._salt + name)
        if int.from_bytes(digest[:8], "little") >= self._traffic:
            return NOT_IN
        return bisect.bisect_right(self._bounds, int.from_bytes(digest[8:], "little"))

    def numbers(self, user_ids: Iterable[str]) -> np.ndarray:
        """Returns what `number` returns for each of many users, int16 `[num_users]`.

        Args:
            user_ids: None of them empty.
        """
        names = [user_id.encode() for user_id in user_ids]
        words = _words(self._salt, names)
        bounds = np.array(self._bounds, np.uint64)
        number = np.searchsorted(bounds, words[:, 1], side="right").astype(np.int16)
        # 2^64, all of the traffic, is no number of 64 bits.
        number[words[:, 0] > np.uint64(self._traffic - 1)] = NOT_IN
        if self._layer is not None:
            bucket = _words(self._layer, names)[:, 0] % np.uint64(BUCKETS)
            number[(bucket < self._buckets[0]) | (bucket > self._buckets[1])] = NOT_IN
        return number


def check_layers(experiments: Sequence[Experiment]) -> None:
    """Checks that experiments exclude each other where they say so, and share no salt.

    Experiments of a layer that do not run at the same time may have the same buckets.

    Raises:
        InvalidInputError: Two have a bucket in common, or the same salt.
    """
    for i, one in enumerate(experiments):
        for other in experiments[:i]:
            if one.salt == other.salt:
                raise InvalidInputError(
                    f"`{one.name}` and `{other.name}` have the same salt {one.salt!r}: their arms "
                    "would be those of the same users. Give one of them another."
                )
            if _collide(one, other):
                raise InvalidInputError(
                    f"`{one.name}` and `{other.name}` have buckets of the layer "
                    f"`{one.layer and one.layer.name}` in common: {_range(one)} and "
                    f"{_range(other)}. Divide them."
                )


def _collide(one: Experiment, other: Experiment) -> bool:
    if one.layer is None or other.layer is None or one.layer.name != other.layer.name:
        return False
    at_once = one.start < other.end and other.start < one.end
    (a, b), (c, d) = one.layer.buckets, other.layer.buckets
    return at_once and a <= d and c <= b


def _range(experiment: Experiment) -> str:
    assert experiment.layer is not None
    return " to ".join(map(str, experiment.layer.buckets))


def _prefix(salt: str) -> bytes:
    return salt.encode() + b"\0"


def _threshold(share: float) -> int:
    """Numbers below it are a share of all of 64 bits."""
    return max(1, round(share * _WORD))


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()


def _words(prefix: bytes, names: Sequence[bytes]) -> np.ndarray:
    """Both numbers of every user, uint64 `[num_users, 2]`."""
    blake2b = hashlib.blake2b
    data = b"".join([blake2b(prefix + name, digest_size=16).digest() for name in names])
    return np.frombuffer(data, np.dtype("<u8")).reshape(-1, 2)
