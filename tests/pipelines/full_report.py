"""A report with everything that a report can have, made up where it takes days to get it."""

import copy
import functools

import fake_audit
import numpy as np

from pipelines.report.releases import release_of
from pipelines.sweep.config import SweepConfig
from pipelines.sweep.frontier import frontier
from pipelines.sweep.points import points_of

CARD = {
    "intended_use": "Candidates for the evening's film, seen by members who agreed to it.",
    "not_for": "Anything that decides about the people who made the films.",
    "owner": "Film night, responsible lists team",
    "targets_set_by": "The programme board",
    "targets_because": "A film by a woman should be found as easily as any other.",
    "limits": ["Directors of old films are known by name only."],
    "data": {
        "source": "Ratings of members; own data, for this purpose.",
        "grounds": "Members agreed when they signed up.",
        "item_groups": "Film archive, checked by hand.",
        "gaps": ["Members who never rated a film."],
    },
}


def figure(value: float, width: float = 0.02, count: int = 400) -> dict:
    return {"value": value, "low": value - width, "high": value + width, "count": count}


@functools.cache
def full_report() -> dict:
    """A made-up run whose gates failed, with a sweep and earlier releases; not to be changed."""
    settings = fake_audit.config(
        audit={"bootstrap_samples": 100},
        card=CARD,
        report={"release": "November"},
        features={"query": [{"kind": "id", "column": "user_id"}]},
    )
    report = fake_audit.report(settings)
    report["frontier"] = made_up_frontier(report, settings)
    report["releases"] = [earlier(report, name, part) for name, part in MONTHS]
    report["verdict"] = VERDICT
    for run in report["runs"]:
        add_details(run)
    return report


MONTHS = [("August", 0.55), ("September", 0.62), ("October, after the quota", 0.9)]


def earlier(report: dict, name: str, part: float) -> dict:
    """A release whose groups had only a part of their exposure."""
    release = copy.deepcopy(release_of(report, name)) | {"release": name, "passed": part > 0.8}
    for each in release["groups"].values():
        for end in ("value", "low", "high"):
            each[end] *= part
    return release


def made_up_frontier(report: dict, settings) -> dict:
    sweep = SweepConfig.model_validate(
        {
            "group": "female",
            "bonuses": [0.1, 0.2],
            "points": [
                {"regularizer": "exposure_parity", "weights": [0.5, 1.0, 2.0]},
                {"regularizer": "min_diff", "weights": [1.0, 3.0]},
            ],
        }
    )
    points = points_of(sweep, settings.fairness, "without_regularizer")
    rng = np.random.default_rng(5)
    results = []
    for number, point in enumerate(points):
        audit = copy.deepcopy(report["runs"][0])
        closer = 0.08 * number
        for cells in ({"": audit["overall"]}, *audit["slices"].values()):
            for cell in cells.values():
                if "groups" in cell:
                    value = cell["groups"]["female"]["exposure_ratio"]["value"] + closer
                    cell["groups"]["female"]["exposure_ratio"] = figure(value)
        change = {
            name: {"relative": figure(-0.02 * closer + rng.normal(0, 0.001), 0.002)}
            for name in ("ndcg@100", "recall@100")
        }
        results.append((point, {"audit": audit, "change": {"overall": {"quality": change}}}))
    return frontier(results, settings, sweep)


def gate(name: str, figure: str, group: str | None, over: str, **changes) -> dict:
    return {
        "name": name,
        "run": "exposure_parity",
        "figure": figure,
        "group": group,
        "over": over,
        "of": "value",
        "end": "value",
        "change": None,
        "interval": None,
        "count": 700,
        "at": None,
        "checked": 3,
        "withheld": 0,
        "reason": None,
        **changes,
    }


VERDICT = {
    "passed": False,
    "title": "Film night",
    "previous": None,
    "model_versions": ["retriever/3"],
    "gates": [
        gate(
            *("quality", "ndcg@100", None, "overall"),
            change="relative",
            wanted={"min": -0.02, "max": None},
            found=-0.0123,
            status="passed",
        ),
        gate(
            *("women’s films", "exposure_ratio", "female", "gender"),
            end="low",
            wanted={"min": 0.8, "max": None},
            found=0.71,
            at={"slice": "gender", "value": "M", "group": "female"},
            status="failed",
        ),
        gate(
            *("mixed", "exposure_ratio", "mixed", "age"),
            wanted={"min": 0.8, "max": 1.25},
            found=None,
            reason="no figure: too few users",
            status="not measured",
        ),
    ],
}


def add_details(run: dict) -> None:
    """Disparities, tests, bounds and label noise, whatever the audit gave."""
    values = {
        name: [v for v, c in cells.items() if "groups" in c]
        for name, cells in run["slices"].items()
    }
    run["disparities"] = {
        "slices": {
            name: {
                metric: {
                    "difference": figure(0.12) | {"highest": names[0], "lowest": names[-1]},
                    "ratio": figure(0.87) | {"highest": names[0], "lowest": names[-1]},
                }
                for metric in ("exposure_ratio[female]", "exposure_ratio[male]", "ndcg@100")
            }
            for name, names in values.items()
        },
        "groups": {
            "overall": {
                "exposure_ratio": {
                    "difference": figure(0.2) | {"highest": "male", "lowest": "mixed"},
                    "ratio": figure(0.81) | {"highest": "male", "lowest": "mixed"},
                }
            }
        },
    }
    run["tests"] = {
        "permutations": 9999,
        "users": 2400,
        "smallest_p": 0.0001,
        "correction": "holm",
        "level": 0.05,
        "cells": [
            {
                "slice": name,
                "value": value,
                "group": group,
                "difference": -0.0432,
                "p_value": 0.0123,
                "adjusted_p": 0.0871,
                "differs": group == "female",
            }
            for name, names in values.items()
            for value in names
            for group in ("female", "male")
        ],
    }
    for cells in ({"": run["overall"]}, *run["slices"].values()):
        for cell in cells.values():
            if "groups" in cell:
                bounds = {"exposure_ratio": {"low": 0.712, "high": 1.034}}
                lists = None if cell is run["overall"] else 0.042
                cell["bounds"] = {
                    "unknown_items": 0.081,
                    "unknown_lists": lists,
                    "quality": {},
                    "groups": dict.fromkeys(("female", "male", "mixed"), bounds),
                }
                for group in cell["groups"].values():
                    group["catalogue_coverage"] = {"items": 90, "of": 120, "share": 0.75}
    run["overall"]["label_noise"] = {"0.05": {"female": 0.873, "male": 1.02, "mixed": None}}
