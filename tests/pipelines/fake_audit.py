"""Made-up lists that look like a marketplace's, for the tests of the audit and its report."""

import numpy as np
import pyarrow as pa

from pipelines.audit.figures import audit, compare, measure
from pipelines.audit.leakage import leakage
from pipelines.config import RunConfig
from pipelines.report.build import build_report

GROUPS = ["female", "male", "mixed", "unknown"]


def config(**changes) -> RunConfig:
    raw = {
        "name": "Film night: director gender",
        "data": {"dataset": "synthetic"},
        "groups": {"columns": ["director_gender"]},
        "slices": [{"column": "gender"}, {"column": "age"}, {"cross": ["gender", "age"]}],
    }
    return RunConfig.model_validate({**raw, **changes})


def world(num_users: int = 2400, num_items: int = 800, depth: int = 100, seed: int = 7) -> dict:
    """Tables of a catalogue, users, positives and lists, before and after."""
    rng = np.random.default_rng(seed)
    group = rng.choice(4, num_items, p=[0.11, 0.74, 0.07, 0.08])
    gender = rng.choice(["F", "M", "unknown"], num_users, p=[0.3, 0.66, 0.04])
    age = rng.choice(["0–17", "18–24", "25–44", "45+"], num_users, p=[0.04, 0.24, 0.51, 0.21])
    taste = rng.normal(size=(num_users, 8)) @ rng.normal(size=(8, num_items)) * 0.5
    taste += rng.normal(0, 1, num_items) + 0.4 * (gender == "F")[:, None] * (group == 0)
    held_back = np.array([-0.9, 0.0, -1.0, -0.3])
    noise = rng.gumbel(size=taste.shape)
    chosen = np.argsort(-(taste + 0.9 * held_back[group] + noise), axis=1)[:, :5]
    kept = rng.random(chosen.shape) < 0.45
    left = np.array([-0.13, 0.0, -0.08, 0.0])

    def lists(bias: np.ndarray, version: int) -> pa.Table:
        top = np.argsort(-(taste + bias[group] + 0.06 * noise), axis=1)[:, :depth]
        return pa.table(
            {
                "user_id": users,
                "candidate_ids": list(items[top]),
                "policy": ["plain"] * num_users,
                "model_version": [version] * num_users,
            }
        )

    users = np.array([f"u{i}" for i in range(num_users)])
    items = np.array([f"i{i}" for i in range(num_items)])
    return {
        "catalogue": pa.table({"item_id": items, "group": np.array(GROUPS)[group]}),
        "users": pa.table({"user_id": users, "slice.gender": gender, "slice.age": age}),
        "relevant": pa.table(
            {"user_id": users[np.nonzero(kept)[0]], "item_id": items[chosen[kept]]}
        ),
        "before": lists(held_back, 1),
        "after": lists(left, 2),
    }


def vectors_of(tables: dict, dim: int = 8, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of users, which give their gender away but not their age, and of items."""
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(len(tables["users"]), dim))
    queries[:, 0] += 1.5 * (tables["users"]["slice.gender"].to_numpy() == "F")
    items = rng.normal(size=(len(tables["catalogue"]), dim))
    items[:, 1] += tables["catalogue"]["group"].to_numpy() == "female"
    return queries, items


def extra() -> dict:
    """What other stages tell the report."""
    recall = {"female": 0.962, "male": 0.981, "mixed": 0.947, "unknown": 0.968}
    counts = {
        "interactions": {
            "read": 1_000_209,
            "written": {"train": 798_730, "validation": 99_841, "test": 99_841},
            "dead": {"no item id": 1_797},
            "duplicates": 0,
        },
        "users": {"read": 2_400, "written": 2_400, "dead": {}, "duplicates": 0},
        "items": {"read": 800, "written": 800, "dead": {}, "duplicates": 0},
    }
    index = {
        variant: {
            "kind": "scann",
            "num_items": 800,
            "dim": 64,
            "k": 100,
            "settings": {"leaves": 28},
            "build_seconds": 0.4,
            "recall": {
                "num_queries": 1000,
                "overall": 0.977 + better,
                "low": 0.975 + better,
                "high": 0.979 + better,
                "by_group": {group: value + better for group, value in recall.items()},
            },
            "groups": {
                group: _index_group(value + better, share)
                for (group, value), share in zip(
                    recall.items(), (0.11, 0.78, 0.03, 0.08), strict=True
                )
            },
            "target": 0.95,
            "target_reached": better > 0,
            "short_groups": [] if better else ["mixed"],
        }
        for variant, better in (("without_regularizer", 0.0), ("exposure_parity", 0.006))
    }
    training = {
        variant: [
            {
                "epoch": epoch,
                "loss": 6.2 * 0.93**epoch + worse,
                "val_ndcg@100": 0.4 - 0.3 * 0.7**epoch - 0.1 * worse,
            }
            for epoch in range(1, 11)
        ]
        for variant, worse in (("without_regularizer", 0.0), ("exposure_parity", 0.11))
    }
    return {"counts": counts, "index": index, "training": training}


def _index_group(recall: float, share: float) -> dict:
    """What `index.json` says of a group."""
    places = round(share * 100_000)
    change = recall - 0.975
    interval = {"low": change - 0.004, "high": change + 0.004, "count": places}
    return {
        "recall": {"value": recall, "low": recall - 0.003, "high": recall + 0.003, "count": places},
        "share": {
            "exact": share,
            "found": share * (1 + change),
            "change": {"value": change, **interval},
        },
    }


def report(settings: RunConfig | None = None, **size) -> dict:
    """The report of a made-up run with and without the regularizer."""
    settings, tables = settings or config(), world(**size)
    shared = [tables[name] for name in ("catalogue", "users", "relevant")]
    before, after = (
        measure(tables[name], *shared, settings, {"variant": variant})
        for name, variant in (("before", "without_regularizer"), ("after", "exposure_parity"))
    )
    queries, items = vectors_of(tables)
    vectors = leakage(tables["users"], queries, tables["catalogue"], items, settings)
    return build_report(
        settings,
        [audit(run, settings) | {"leakage": vectors} for run in (before, after)],
        compare(before, after, settings),
        extra(),
    )
