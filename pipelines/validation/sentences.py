"""The result of a validation in sentences for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fairness_losses.config import UNKNOWN
from pipelines.examples.inputs import GROUP, SLICE_PREFIX
from pipelines.report.wording import share
from pipelines.validation.anomalies import KINDS

_NAMED = 3


def headline(result: Mapping[str, Any]) -> str:
    """The outcome in one sentence."""
    count = len(result["anomalies"])
    if not count:
        return f"{result['examples']['train']:,} training examples are as they should be."
    return "One thing is wrong." if count == 1 else f"{count} things are wrong."


def problems(result: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """For every kind of anomaly that there is, its name and a sentence on where."""
    for name, kind in KINDS.items():
        found = [a["feature"] for a in result["anomalies"] if a["kind"] == name]
        where = _listed(list(dict.fromkeys(label(f) for f in found if f)))
        if found:
            yield name, f"{kind.headline}{f': {where}' if where else ''}."


def findings(result: Mapping[str, Any]) -> Iterator[str]:
    """What was looked at and how it is, a sentence each; what is wrong stands elsewhere."""
    log = result["inputs"]["interactions"]
    written, dead, repeated = rows_of(log)
    yield (
        f"Of {log['read']:,} interactions {written:,} became examples, {dead:,} could not be used "
        f"({share(dead / max(log['read'], 1))}), and {repeated:,} were repetitions."
    )
    yield _drift(result)
    if skew := _furthest(result["skew"]):
        yield (
            f"{result['examples']['serving']:,} requests were compared with the training examples. "
            f"Furthest from them is {skew}."
        )
    yield from _coverage(result)
    yield from _unstated(result)


def label(feature: str) -> str:
    """`gender` for `slice.gender`."""
    return feature.removeprefix(SLICE_PREFIX)


def number(value: float) -> str:
    """Four significant digits, with separators: `1,235`, `0.0123`."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def rows_of(count: Mapping[str, Any]) -> tuple[int, int, int]:
    """Rows of an input that were written, could not be used, and were repetitions."""
    written = count["written"]
    kept = sum(written.values()) if isinstance(written, Mapping) else written
    return kept, sum(count["dead"].values()), count["duplicates"]


def _drift(result: Mapping[str, Any]) -> str:
    if not result["compared_with_last_run"]:
        return "There is no earlier run with this schema, so nothing is said about drift."
    if furthest := _furthest(result["drift"]):
        return f"Since the last run, the distribution that moved furthest is that of {furthest}."
    return "No feature has a distribution that could be compared with the last run's."


def _furthest(distances: Sequence[Mapping[str, Any]]) -> str:
    if not distances:
        return ""
    most = max(distances, key=lambda each: each["distance"])
    limit = "no limit" if most["limit"] is None else f"the limit is {most['limit']:.2f}"
    return f"{label(most['feature'])}: {most['distance']:.3f} of at most 1 ({limit})"


def _coverage(result: Mapping[str, Any]) -> Iterator[str]:
    known = [
        (count, group, f"{value} ({name})")
        for name, cells in result["coverage"].items()
        for value, cell in cells.items()
        if cell is not None and UNKNOWN not in value.split(" × ")
        for group, count in cell["groups"].items()
        if group != UNKNOWN
    ]
    if known:
        count, group, value = min(known)
        yield (
            f"The combination of slice and group with the fewest training examples has {count:,}: "
            f"group {group} for users {value}."
        )


def _unstated(result: Mapping[str, Any]) -> Iterator[str]:
    everyone = result["missing_labels"][0]["missing"]
    examples = max(result["examples"]["train"], 1)
    parts = [
        f"{'the group of the item' if name == GROUP else label(name)} in {share(count / examples)}"
        for name, count in everyone.items()
        if count
    ]
    if parts:
        yield f"Of the training examples, nobody stated {_listed(parts, len(parts))}."


def _listed(names: Sequence[str], most: int = _NAMED) -> str:
    """`a`, `a and b`, `a, b and 4 more`."""
    shown = list(names[:most])
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    if not shown:
        return ""
    *first, last = shown
    return f"{', '.join(first)} and {last}" if first else last
