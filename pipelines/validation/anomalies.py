"""What is wrong with the examples, by kind, and what a person can do about each."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from fairness_losses.errors import InvalidInputError

Anomaly = dict[str, str]
"""The `feature` (empty if it is about all), the `part` and the `problem`."""


class AnomaliesError(InvalidInputError):
    """The examples break the schema; the message is a table of what is wrong where."""

    exit_code = 3


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of anomaly.

    Attributes:
        problem: What it says about the examples.
        remedy: What to do.
    """

    problem: str
    remedy: str

    @property
    def headline(self) -> str:
        """The problem as the beginning of a sentence."""
        return self.problem[0].upper() + self.problem[1:]


KINDS = {
    "schema": Kind(
        "the examples do not fulfil the schema",
        "Correct the data; or, if they are meant to be so, change the schema and give it as "
        "`validation.schema_path`, or remove it to have one inferred again.",
    ),
    "drift": Kind(
        "distributions are further than `validation.max_drift` from those of the last run",
        "Correct the data; or, if they are meant to be so, raise the setting, or remove the folder "
        "`schema` to begin anew.",
    ),
    "skew": Kind(
        "requests in `validation.serving_path` are not like the training examples",
        "Correct how features are made where requests come from, or for training; or, if they are "
        "meant to differ, raise `validation.max_skew`.",
    ),
    "coverage": Kind(
        "the examples do not fulfil `validation.min_positives`",
        "Give more data, join groups or bands of few, or lower the setting.",
    ),
    "shares": Kind(
        "shares changed by more than `validation.max_share_ratio` since the last run",
        "Correct the data; or, if they are meant to be so, raise the setting, or remove the folder "
        "`schema` to begin anew.",
    ),
}
"""All kinds, in the order in which they are told."""


def raise_if_any(found: Mapping[str, Sequence[Anomaly]], schema: str) -> None:
    """Stops the run if anything is wrong.

    Args:
        found: Anomalies by kind.
        schema: Path of the schema that the examples were held to; empty if it was inferred.

    Raises:
        AnomaliesError: There is an anomaly.
    """
    said = [
        f"{kind.problem}{f' {schema}' if name == 'schema' and schema else ''}:\n"
        f"{_table(found[name])}\n{kind.remedy}"
        for name, kind in KINDS.items()
        if found[name]
    ]
    if said:
        raise AnomaliesError("\n".join(said))


def _table(anomalies: Sequence[Anomaly]) -> str:
    rows = [("feature", "part", "what is wrong")]
    rows += [(a["feature"], a["part"], a["problem"]) for a in anomalies]
    wide, narrow = (max(len(row[i]) for row in rows) for i in range(2))
    return "\n".join(f"  {f:<{wide}}  {p:<{narrow}}  {problem}" for f, p, problem in rows)
