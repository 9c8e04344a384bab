"""Validation, the catalogue's vectors and audits of lists on Flink are those of one process."""

import json
import pathlib
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
import yaml

from pipelines.audit.job import audit_files
from pipelines.audit.list_files import ListFiles
from pipelines.config import RunConfig
from pipelines.datasets import generate
from pipelines.embedding import embed_catalogue
from pipelines.examples.pipeline import build_examples
from pipelines.validation.validate import validate_examples
from towers.config import IdFeature, TowersConfig
from towers.features import FeatureStatistics, build_feature
from towers.tower import ServedTower, Tower

pytestmark = pytest.mark.timeout(300)
ROOT = pathlib.Path(__file__).resolve().parents[2]
LISTS, LENGTH, DIM = 5_000, 50, 8
INTERACTIONS = 100_000


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[RunConfig, pathlib.Path]:
    """The embedded marketplace: configuration and examples."""
    raw = yaml.safe_load((ROOT / "configs" / "synthetic.yaml").read_text(encoding="utf-8"))
    config = RunConfig.model_validate(raw)
    source, examples = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("examples")
    generate(config, source)
    build_examples(config, source, examples)
    return config, examples


def test_validation_says_the_same(built, tmp_path, flink_args):
    config, examples = built
    found = []
    for name, args in (("here", []), ("there", flink_args)):
        out = tmp_path / name
        out.mkdir()
        validate_examples(config, examples, out, None, args)
        found.append(json.loads((out / "validation.json").read_text(encoding="utf-8")))
    here, there = map(leaves, found)
    # Histograms come of sketches of quantiles, which depend on the order that they are merged in.
    sketched = {path for path in here if "/histogram/" in path}
    assert sketched
    for path in sketched:
        assert there.pop(path) == pytest.approx(here.pop(path), abs=0.02 * INTERACTIONS), path
    assert_same(here, there, 1e-6)


def test_vectors_are_the_same(built, tmp_path, flink_args):
    _, examples = built
    ids = pq.read_table(examples / "catalogue.parquet")["item_id"].to_pylist()
    tf.keras.utils.set_random_seed(0)
    layer = build_feature(
        IdFeature(kind="id", column="item_id"), FeatureStatistics(vocabulary=ids), DIM
    )
    ServedTower(Tower([layer], TowersConfig(dim=DIM), "candidate_tower")).save(str(tmp_path / "t"))
    vectors = []
    for name, args in (("here", []), ("there", flink_args)):
        out = tmp_path / name
        out.mkdir()
        embed_catalogue(examples / "catalogue.parquet", tmp_path / "t", DIM, out, args)
        vectors.append(np.load(out / "vectors.npy"))
    np.testing.assert_allclose(vectors[1], vectors[0], rtol=1e-6)
    assert len(np.unique(vectors[0], axis=0)) == len(ids)


def test_an_audit_of_lists_finds_the_same(built, tmp_path, flink_args):
    """In two files, with lists that cannot be audited."""
    config, examples = built
    for number in range(2):
        write_lists(tmp_path / f"lists-{number}.parquet", examples, seed=number)
    files = ListFiles.find(str(tmp_path / "lists-*.parquet"), config.seed)
    found, counts = [], []
    for name, args in (("here", []), ("there", flink_args)):
        out = tmp_path / name
        out.mkdir()
        counts.append(audit_files(config, files, examples, out, "log", None, args))
        found.append(json.loads((out / "report.json").read_text(encoding="utf-8")))
    assert counts[0] == counts[1]
    assert counts[0]["dead"] == {"an item is not in the catalogue": 2}
    assert_same(*map(leaves, found), 1e-9)


def write_lists(path: pathlib.Path, examples: pathlib.Path, seed: int) -> None:
    """Lists of chance, of which the first holds a stranger."""
    users = pq.read_table(examples / "users.parquet")["user_id"].to_pylist()
    items = np.array(pq.read_table(examples / "catalogue.parquet")["item_id"].to_pylist())
    rng = np.random.default_rng(seed)
    rows = [rng.choice(items, LENGTH, replace=False).tolist() for _ in range(LISTS)]
    rows[0][0] = "stranger"
    table = {
        "user_id": rng.choice(users, LISTS),
        "list_id": [f"{seed}-{number}" for number in range(LISTS)],
        "candidate_ids": rows,
        "policy": ["relevance"] * LISTS,
        "model_version": ["1"] * LISTS,
    }
    pq.write_table(pa.table(table), path, row_group_size=1_000)


def assert_same(expected: dict[str, Any], found: dict[str, Any], rel: float) -> None:
    """More than 200 values are equal but for the rounding of sums."""
    assert found.keys() == expected.keys()
    assert len(found) > 200
    for path, value in expected.items():
        same = pytest.approx(value, rel=rel) if isinstance(value, float) else value
        assert found[path] == same, path


def leaves(value: Any, path: str = "") -> dict[str, Any]:
    """Numbers and other leaves of JSON by their path."""
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    else:
        return {path: value}
    return {p: v for key, each in inner for p, v in leaves(each, f"{path}/{key}").items()}
