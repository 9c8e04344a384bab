"""The lists of an experiment, read from a log: one number per list and column.

A list is left out, with a reason that is counted, in this order: its user is not known, it is not
of the experiment, of an arm that the experiment has not, or has no time. What can only be told from
all lists together is in `pipelines.experiments.users`.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairness_losses.config import UNKNOWN
from fairness_losses.errors import InvalidInputError
from pipelines.audit.pseudonyms import Pseudonyms
from pipelines.examples.checks import as_seconds, as_strings, is_missing
from pipelines.examples.splits import id_hashes, pair_hashes
from pipelines.experiments.list_exposures import exposure_of
from pipelines.readers.chunks import Chunk
from pipelines.readers.files import check_columns, column_names, find_files, plan_chunks, read_chunk
from serving.experiments.assignment import Assigner
from serving.experiments.config import Experiment
from serving.experiments.labels import NO_ARM, UNKNOWN_ARM, arm_numbers
from serving.log.lists import SALT, USER_HASH
from towers.config import USER_ID

ARM, GROUPS, LIST_ID, MODEL_VERSION, TIMESTAMP = (
    "arm", "groups", "list_id", "model_version", "timestamp",
)  # fmt: skip
"""Columns of a log, besides `user_id` or `user_hash` and `salt`."""

SEED = 0
"""Of the hashes that stand for ids."""

Reason = str


@dataclasses.dataclass(frozen=True)
class Lists:
    """Lists of an experiment, in the order of the log.

    Attributes:
        user: uint64 `[num_lists]`, hashes of the users' ids.
        number: uint64 `[num_lists]`, what tells lists apart.
        seconds: int64 `[num_lists]`, since 1970.
        arm: int16 `[num_lists]`.
        exposure: float64 `[num_lists, num_groups]`, of the groups of `exposure.targets`.
        is_other_version: bool `[num_lists]`, served by another version than the arm names.
        is_misplaced: bool `[num_lists]`, of another arm than the user's hash says.
        read: Lists in the files.
        left_out: Why how many of them are not here.
        versions: Lists per arm and model version.
    """

    user: np.ndarray
    number: np.ndarray
    seconds: np.ndarray
    arm: np.ndarray
    exposure: np.ndarray
    is_other_version: np.ndarray
    is_misplaced: np.ndarray
    read: int
    left_out: Counter[Reason]
    versions: Counter[tuple[int, str]]


def read_lists(
    pattern: str, experiment: Experiment, pseudonyms: Pseudonyms | None, replay: bool = False
) -> Lists:
    """Reads the lists of an experiment.

    Args:
        pattern: Parquet files: `user_id` (or `user_hash` and `salt`), `timestamp`, `arm` and
            `model_version`; `list_id`, which tells repetitions; and `groups`, a list of strings,
            best first, if there are guardrails on exposure.
        experiment: Whose lists are wanted.
        pseudonyms: Where the hashes of a serving log lead back to users.
        replay: Takes all lists, whatever their arm, as if their users had been assigned: a log
            from before the experiment.

    Raises:
        InvalidInputError: A file is damaged (none is left out: the others would be of certain
            servers or hours), lacks a column, or has hashes and `pseudonyms` is None.
    """
    files = find_files(pattern, "--lists")
    columns = _columns(files, experiment, pseudonyms, replay)
    left_out: Counter[Reason] = Counter()
    versions: Counter[tuple[int, str]] = Counter()
    reader = _Reader(experiment, pseudonyms, replay, left_out, versions)
    parts = [reader.part(chunk, columns) for chunk in plan_chunks(files)]
    arrays = {
        name: np.concatenate([part[name] for part in parts]) if parts else empty
        for name, empty in reader.empty().items()
    }
    return Lists(**arrays, read=reader.read, left_out=left_out, versions=versions)


def _columns(
    files: Sequence[str], experiment: Experiment, pseudonyms: Pseudonyms | None, replay: bool
) -> list[str]:
    names = column_names(files[0])
    who = [USER_ID]
    if USER_ID not in names and USER_HASH in names:
        if pseudonyms is None:
            raise InvalidInputError(
                f"{files[0]}: the log holds hashes of the users' ids. Give `--salts`, the folder "
                "that the server keeps in `serving.log.salts`, and `--users`."
            )
        who = [USER_HASH, SALT]
    wanted = [*who, TIMESTAMP]
    wanted += [] if replay else [ARM, MODEL_VERSION]
    wanted += [GROUPS] if experiment.exposure is not None else []
    wanted += [LIST_ID] if LIST_ID in names else []
    check_columns(files, dict.fromkeys(wanted, "--lists"))
    return wanted


class _Reader:
    """Turns chunks of a log into numbers, and counts."""

    def __init__(
        self,
        experiment: Experiment,
        pseudonyms: Pseudonyms | None,
        replay: bool,
        left_out: Counter[Reason],
        versions: Counter[tuple[int, str]],
    ) -> None:
        self._experiment, self._pseudonyms, self._replay = experiment, pseudonyms, replay
        self._left_out, self._versions = left_out, versions
        self._assigner = Assigner(experiment)
        self._arms = [arm.name for arm in experiment.arms]
        # A version of the log is `<model>/<number>`; labels move, and say nothing of a list.
        self._expected = [arm.version for arm in experiment.arms]
        self.read = 0

    def empty(self) -> dict[str, np.ndarray]:
        """No lists."""
        groups = len(self._experiment.exposure.targets) if self._experiment.exposure else 0
        return {
            "user": np.zeros(0, np.uint64),
            "number": np.zeros(0, np.uint64),
            "seconds": np.zeros(0, np.int64),
            "arm": np.zeros(0, np.int16),
            "exposure": np.zeros((0, groups)),
            "is_other_version": np.zeros(0, bool),
            "is_misplaced": np.zeros(0, bool),
        }

    def part(self, chunk: Chunk, columns: Sequence[str]) -> dict[str, np.ndarray]:
        """The lists of a chunk."""
        table = pa.concat_tables([block.table for block in read_chunk(chunk, columns)])
        self.read += len(table)
        where = f"{chunk.path}, column"
        table, unresolved = self._with_users(table)
        user_ids = as_strings(table[USER_ID], f"{where} `{USER_ID}`")
        seconds, has_time = as_seconds(table[TIMESTAMP], f"{where} `{TIMESTAMP}`")
        assigned = _of_distinct(user_ids, self._assigner.numbers)
        arm = assigned if self._replay else self._logged_arms(table, f"{where} `{ARM}`")
        kept = self._keep(
            {
                "no user": is_missing(user_ids),
                "user or salt not known": unresolved,
                "not of the experiment": arm == NO_ARM,
                "unknown arm": arm == UNKNOWN_ARM,
                "no time": ~has_time,
                "no list id": self._without_id(table),
            }
        )
        table, user_ids = table.filter(pa.array(kept)), user_ids.filter(pa.array(kept))
        arm, seconds = arm[kept], seconds[kept].astype(np.int64)
        user = id_hashes(user_ids, SEED)
        return {
            "user": user,
            "number": self._numbers(table, user, seconds, where),
            "seconds": seconds,
            "arm": arm,
            "exposure": exposure_of(table[GROUPS], self._experiment.exposure, f"{where} `{GROUPS}`")
            if self._experiment.exposure is not None
            else np.zeros((len(user), 0)),
            "is_other_version": self._other_versions(table, arm, f"{where} `{MODEL_VERSION}`"),
            "is_misplaced": arm != assigned[kept],
        }

    def _with_users(self, table: pa.Table) -> tuple[pa.Table, np.ndarray]:
        """The lists with `user_id`, and where it is only a hash."""
        if USER_HASH not in table.column_names:
            return table, np.zeros(len(table), bool)
        assert self._pseudonyms is not None
        resolved = self._pseudonyms.resolve(table)
        same = pc.equal(resolved[USER_ID], table[USER_HASH])
        return resolved, pc.fill_null(same, False).to_numpy().astype(bool)

    def _logged_arms(self, table: pa.Table, where: str) -> np.ndarray:
        return arm_numbers(as_strings(table[ARM], where), self._experiment.name, self._arms)

    def _keep(self, reasons: dict[Reason, np.ndarray]) -> np.ndarray:
        """Which lists no reason applies to; of several, the first is counted."""
        kept = np.ones(len(next(iter(reasons.values()))), bool)
        for reason, applies in reasons.items():
            self._left_out[reason] += int((kept & applies).sum())
            kept &= ~applies
        return kept

    def _without_id(self, table: pa.Table) -> np.ndarray:
        if LIST_ID not in table.column_names:
            return np.zeros(len(table), bool)
        return is_missing(as_strings(table[LIST_ID], LIST_ID))

    def _numbers(
        self, table: pa.Table, user: np.ndarray, seconds: np.ndarray, where: str
    ) -> np.ndarray:
        """What tells lists apart: their ids, or user and time."""
        if LIST_ID not in table.column_names:
            return pair_hashes(user, seconds.astype(np.uint64))
        ids = as_strings(table[LIST_ID], f"{where} `{LIST_ID}`")
        return pair_hashes(user, id_hashes(pc.fill_null(ids, ""), SEED))

    def _other_versions(self, table: pa.Table, arm: np.ndarray, where: str) -> np.ndarray:
        if self._replay:
            return np.zeros(len(arm), bool)
        coded = pc.fill_null(as_strings(table[MODEL_VERSION], where), "").dictionary_encode()
        names, code = coded.dictionary.to_pylist(), coded.indices.to_numpy()
        pairs, counts = np.unique(arm.astype(np.int64) * len(names) + code, return_counts=True)
        for pair, count in zip(pairs, counts, strict=True):
            number, i = divmod(int(pair), len(names))
            self._versions[number, names[i] or UNKNOWN] += int(count)
        other = np.zeros(len(arm), bool)
        for number, expected in enumerate(self._expected):
            if expected is not None:
                fits = np.array([name.rpartition("/")[2] == str(expected) for name in names], bool)
                other |= (arm == number) & ~fits[code]
        return other


def _of_distinct(ids: pa.Array, compute: Callable[[list[str]], np.ndarray]) -> np.ndarray:
    """What is computed once for each distinct id, for every row."""
    coded = pc.fill_null(ids, "").dictionary_encode()
    values = compute(coded.dictionary.to_pylist())
    return values[coded.indices.to_numpy()] if len(values) else np.zeros(0, np.int16)
