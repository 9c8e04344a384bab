r"""MovieLens-1M under a protocol that is not ours: its split, its metrics, our lists.

    python -m benchmarks.movielens_protocol --data ../shared/data/ml-1m \
        --protocol ../shared/bench/ml1m_protocol.py

The protocol is a Python file with `load(folder)`, which gives the pairs and their split, and
`evaluate(data, top)`, which takes `[num_users, 100]` item ids. All settings of the configuration
were chosen on the validation part; here the model is fitted anew to training and validation part
together, once per seed, and lists are asked from the exported model.
"""

from __future__ import annotations

import argparse
import importlib.util
import pathlib
import sys
import tempfile
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipelines.config import RunConfig
from pipelines.config_file import load_config
from pipelines.run import Run
from pipelines.variant import BASELINE, Variant
from serving.retrieve import retrieve_lists
from serving.retriever import load_retriever
from towers.examples import read_pairs
from towers.exported_tower import ExportedTower

REFITTED = np.array(["train", "train", "test"])
QUALITY = ("recall@20", "ndcg@20", "recall@100", "ndcg@100")


def main() -> None:
    """Trains once per seed and prints the protocol's figures for every variant."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder of MovieLens-1M")
    parser.add_argument("--protocol", required=True, help="the protocol's Python file")
    parser.add_argument("--config", default="configs/movielens_1m.yaml", help="run configuration")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", help="where the runs are kept; by default they are not")
    arguments = parser.parse_args()
    protocol = _load_protocol(pathlib.Path(arguments.protocol))
    data = protocol.load(arguments.data)
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for seed in arguments.seeds:
            folder = pathlib.Path(arguments.out or temporary) / str(seed)
            folder.mkdir(parents=True, exist_ok=True)
            _write_source(data, folder, REFITTED)
            run = Run(_config(arguments.config, folder, seed), folder / "run")
            for variant, lists in _lists_by_variant(run, data).items():
                figures = _figures(protocol, data, lists)
                print(f"seed {seed}, {variant}: {_as_text(figures)}", flush=True)
                found.setdefault(variant, []).append(figures)
    _print_summary(found)


def _load_protocol(path: pathlib.Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{path}: not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def _write_source(data: Any, folder: pathlib.Path, parts: np.ndarray) -> None:
    user, item = data.pairs.T.astype(str)
    tables = {
        "interactions": {"user_id": user, "item_id": item, "split": parts[data.split]},
        "users": {
            "user_id": data.users.astype(str),
            "gender": data.user_gender,
            "age": data.user_age,
        },
        "items": {"item_id": data.items.astype(str), "director_gender": data.director_gender},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")


def _config(path: str, folder: pathlib.Path, seed: int) -> RunConfig:
    """The run's configuration with the protocol's files and split in place of its own."""
    raw = yaml.safe_load(pathlib.Path(path).read_text(encoding="utf-8"))
    raw["data"] = {
        "dataset": "files",
        "interactions": {"path": "interactions.parquet"},
        "users": {"path": "users.parquet", "id": "user_id"},
        "items": {"path": "items.parquet", "id": "item_id"},
    }
    raw["split"] = {"by": "column"}
    raw["seed"] = seed
    (folder / "config.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return load_config(folder / "config.yaml")


def _lists_by_variant(run: Run, data: Any) -> dict[str, np.ndarray]:
    run.examples()
    run.validate()
    run.train()
    run.index()
    run.export()
    return {variant: _lists(run, variant, data) for variant in run.variants}


def _lists(run: Run, variant: str, data: Any) -> np.ndarray:
    """The ids that the exported model lists for every user, `[num_users, 100]`."""
    examples = run.directory.path("examples")
    users = pq.read_table(examples / "users.parquet")
    known = pa.concat_tables([read_pairs(examples, part) for part in ("train", "validation")])
    seen = known.to_pandas().groupby("user_id").item_id.agg(list)
    tower = ExportedTower(run.directory.path(f"{variant}/model") / "query_tower")
    lists = retrieve_lists(
        load_retriever(run.directory.path(Variant(variant, run.config, run.directory).served)),
        tower.raw(users),
        users["user_id"],
        [seen.get(user, []) for user in users["user_id"].to_pylist()],
    )
    frame = lists.to_pandas().set_index("user_id").candidate_ids
    return np.stack([frame[str(user)].astype(int) for user in data.users])


def _figures(protocol: ModuleType, data: Any, top: np.ndarray) -> dict[str, float]:
    """The protocol's figures, and the ratio of female directors in every age band."""
    by_part = protocol.evaluate(data, top)
    figures = {name: by_part["all"][name] for name in QUALITY}
    for part, values in by_part.items():
        figures[f"female, {part}"] = values["exposure_ratio[female]"]
    column = {item: i for i, item in enumerate(data.items)}
    label = data.director_gender[np.vectorize(column.__getitem__)(top)]
    known = data.director_gender != "unknown"
    share = (data.director_gender[known] == "female").mean()
    gain = 1 / np.log2(np.arange(top.shape[1]) + 2)
    for age in np.unique(data.user_age):
        of_band = label[data.user_age == age]
        exposure = [(gain * part).sum() for part in (of_band == "female", of_band != "unknown")]
        figures[f"female, age {age}"] = float(exposure[0] / exposure[1] / share)
    return figures


def _as_text(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in figures.items())


def _print_summary(found: dict[str, list[dict[str, float]]]) -> None:
    variants = list(found)
    print("\n| mean of the seeds (least to greatest) | " + " | ".join(variants) + " |")
    print("|---" * (len(variants) + 1) + "|")
    for name in found[BASELINE][0]:
        cells = []
        for variant in variants:
            values = [figures[name] for figures in found[variant]]
            cells.append(f"{np.mean(values):.4f} ({min(values):.4f}–{max(values):.4f})")
        print(f"| {name} | " + " | ".join(cells) + " |")
    for variant in variants[1:]:
        changes = [
            after["ndcg@100"] / before["ndcg@100"] - 1
            for before, after in zip(found[BASELINE], found[variant], strict=True)
        ]
        print(f"\nNDCG@100 of {variant}, per seed: " + ", ".join(f"{c:+.2%}" for c in changes))
        print(f"mean: {np.mean(changes):+.2%}")


if __name__ == "__main__":
    main()
