r"""Do the audit's intervals cover the truth as often as they say?

    python -m benchmarks.audit_coverage

A population of 60,000 users and their lists is made up, and audited whole: that is the truth. Then
samples of 400 of its users are audited, again and again; of each figure, the table has the share of
the samples whose nominal 95 % interval covers the truth, and of those that lay below and above.
"""

from __future__ import annotations

import argparse
import collections
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.audit.details import details_of
from pipelines.audit.figures import audit
from pipelines.audit.measurement import Measurement, measure
from pipelines.config import RunConfig
from pipelines.slicing import Cells

USERS, ITEMS, DEPTH = 60_000, 400, 20
GROUPS = ["female", "male", "mixed", "rare", "unknown"]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--users", type=int, default=400)
    arguments = parser.parse_args()
    found = coverage(arguments.rounds, arguments.users)
    print("| figure | truth | covered | truth below | truth above |\n|---|---|---|---|---|")
    for name, (truth, covered, below, above) in found.items():
        print(f"| {name} | {truth:.4g} | {covered:.1%} | {below:.1%} | {above:.1%} |")


def coverage(rounds: int, users: int, seed: int = 1) -> dict[str, tuple[float, ...]]:
    """Audits samples of the population.

    Args:
        rounds: Number of samples.
        users: Of a sample.
        seed: Of the samples.

    Returns:
        By the figure's name the truth; and the shares of the samples whose interval covers it, lies
        above it, and lies below it.
    """
    config, everybody = configuration(), population()
    truth = dict(figures(audit(everybody, config)))
    counts: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        chosen = np.sort(rng.choice(USERS, users, replace=False))
        for name, figure in figures(audit(sample(everybody, chosen), config)):
            value = signed(truth[name], figure)
            side = "below" if value < figure["low"] else "above" if value > figure["high"] else ""
            counts[name][side] += 1
    return {
        name: (
            truth[name]["value"],
            *(counts[name][side] / rounds for side in ("", "below", "above")),
        )
        for name in truth
        if counts[name].total() == rounds
    }


def signed(truth: Mapping[str, Any], figure: Mapping[str, Any]) -> float:
    """The truth of a difference or ratio between the two cells that a sample compared."""
    value = truth["value"]
    if "highest" not in truth or truth["highest"] == figure["highest"]:
        return value
    return -value if "difference" in truth["kind"] else 1 / value


def figures(report: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the figures that the table is about, by name."""
    overall, women = report["overall"], report["slices"]["gender"]["F"]
    for part, cell in (("all", overall), ("women", women)):
        for name in ("recall@20", "ndcg@20"):
            yield f"{name}, {part}", cell["quality"][name]
        for group in ("female", "mixed", "rare"):
            for name, figure in cell["groups"][group].items():
                if name != "catalogue_coverage":
                    yield f"{name} of {group}, {part}", figure
        for name, figure in cell["across_groups"].items():
            if name != "min_skew":  # Of `rare`, and undefined where that is not seen.
                yield f"{name}, {part}", figure
    gender = report["disparities"]["slices"]["gender"]
    for metric in ("ndcg@20", "exposure_ratio[female]", "candidate_share[mixed]", "ndkl"):
        for kind in ("difference", "ratio"):
            yield f"{kind} of {metric}, gender", {**gender[metric][kind], "kind": kind}
    groups = report["disparities"]["groups"]["overall"]["exposure_ratio"]
    for kind in ("difference", "ratio"):
        yield f"{kind} of exposure_ratio, groups", {**groups[kind], "kind": kind}


def configuration() -> RunConfig:
    """The audit's settings."""
    return RunConfig.model_validate(
        {
            "name": "coverage",
            "data": {"dataset": "synthetic"},
            "groups": {"columns": ["director_gender"]},
            "slices": [{"column": "gender"}],
            "audit": {"ks": [DEPTH], "bootstrap_samples": 1000, "permutations": 0},
        }
    )


def population(seed: int = 7) -> Measurement:
    """Users with tastes of their own, whose lists resemble them; women see more films by women."""
    rng = np.random.default_rng(seed)
    group = rng.choice(5, ITEMS, p=[0.15, 0.63, 0.12, 0.02, 0.08])
    gender = rng.choice(["F", "M"], USERS, p=[0.4, 0.6])
    users, items = (
        np.array([f"{k}{i}" for i in range(n)]) for k, n in (("u", USERS), ("i", ITEMS))
    )
    # Some samples hold nothing of the group `rare` at all.
    held_back = np.array([-0.5, 0.0, -0.8, -2.7, 0.0])
    tops, positives = [], []
    for start in range(0, USERS, 5000):
        of = slice(start, start + 5000)
        taste = rng.normal(size=(5000, 6)) @ rng.normal(size=(6, ITEMS)) * 0.4
        liked = 0.6 * rng.normal(size=(5000, 1)) + 0.3 * (gender[of] == "F")[:, None]
        scores = taste + held_back[group] + liked * (group == 0) + rng.normal(size=(5000, ITEMS))
        tops.append(np.argsort(-scores, axis=1)[:, :DEPTH])
        chosen = np.argsort(-(scores + rng.gumbel(size=scores.shape) * 1.5), axis=1)[:, :4]
        positives.append(np.where(rng.random(chosen.shape) < 0.5, chosen, -1))
    user, place = np.nonzero(np.vstack(positives) >= 0)
    return measure(
        pa.table(
            {
                "user_id": users,
                "candidate_ids": list(items[np.vstack(tops)]),
                "policy": ["plain"] * USERS,
                "model_version": ["1"] * USERS,
            }
        ),
        pa.table({"item_id": items, "group": np.array(GROUPS)[group]}),
        pa.table({"user_id": users, "slice.gender": gender}),
        pa.table({"user_id": users[user], "item_id": items[np.vstack(positives)[user, place]]}),
        configuration(),
        {},
    )


def sample(everybody: Measurement, chosen: np.ndarray) -> Measurement:
    """Some of the users; what was shown to them is not looked at."""
    values = {
        name: {
            value: np.flatnonzero(np.isin(chosen, who, assume_unique=True))
            for value, who in of_slice.items()
        }
        for name, of_slice in everybody.cells.slices.items()
    }
    cells, sums = Cells(np.arange(len(chosen)), values), everybody.sums[chosen]
    user_ids, layout = everybody.user_ids[chosen], everybody.layout
    nothing = np.full((len(chosen), 1), -1, np.int32)
    details = details_of(
        pa.array(user_ids), cells, layout.exposure(sums), layout.has(sums), nothing, ITEMS, 1, 0
    )
    return Measurement(everybody.run, user_ids, cells, layout, sums, details)


if __name__ == "__main__":
    main()
