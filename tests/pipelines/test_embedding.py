"""The catalogue embedded by Beam is the catalogue embedded in one piece."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from pipelines import embedding
from pipelines.embedding import embed_catalogue
from pipelines.readers import parquet
from towers.config import CategoricalFeature, IdFeature, TowersConfig
from towers.exported_tower import ExportedTower
from towers.features import FeatureStatistics, build_feature
from towers.tower import ServedTower, Tower

ITEMS = [f"i{n}" for n in range(10)]
CATALOGUE = pa.table(
    {
        "item_id": ITEMS,
        "group": ["a", "b"] * 5,
        "frequency": range(10),
        "genres": [["war", "drama"][: n % 3] for n in range(10)],
    }
)
DIM = 4


@pytest.fixture(scope="module")
def tower(tmp_path_factory):
    tf.keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("tower")
    layers = [
        build_feature(feature, FeatureStatistics(vocabulary=vocabulary), DIM)
        for feature, vocabulary in (
            (IdFeature(kind="id", column="item_id"), ITEMS),
            (CategoricalFeature(kind="categorical", column="genres"), ["drama", "war"]),
        )
    ]
    keras = Tower(layers, TowersConfig(dim=DIM, hidden=[5]), "candidate_tower")
    ServedTower(keras).save(str(folder))
    return folder


def embedded(catalogue, tower, out):
    out.mkdir()
    result = embed_catalogue(catalogue, tower, DIM, out)
    return result, np.load(out / "vectors.npy"), pq.read_table(out / "items.parquet")


@pytest.fixture
def small_chunks(monkeypatch):
    """Row groups of three rows are read one at a time."""
    monkeypatch.setattr(parquet, "_ROWS", 3)


def test_chunks_of_a_file_give_all_vectors_in_order(tower, tmp_path, small_chunks):
    path = tmp_path / "catalogue.parquet"
    pq.write_table(CATALOGUE, path, row_group_size=3)
    result, vectors, items = embedded(path, tower, tmp_path / "out")
    assert result == {"items": 10, "dim": DIM}
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, ExportedTower(tower).embed(CATALOGUE), rtol=1e-6)
    assert items.to_pydict() == CATALOGUE.select(["item_id", "group"]).to_pydict()


def test_a_folder_of_files_is_one_catalogue(tower, tmp_path):
    folder = tmp_path / "catalogue.parquet"
    folder.mkdir()
    for number, rows in enumerate((slice(0, 7), slice(7, 10))):
        pq.write_table(
            CATALOGUE.slice(rows.start, rows.stop - rows.start), folder / f"part-{number}.parquet"
        )
    _, vectors, items = embedded(folder, tower, tmp_path / "out")
    np.testing.assert_allclose(vectors, ExportedTower(tower).embed(CATALOGUE), rtol=1e-6)
    assert items["item_id"].to_pylist() == ITEMS


def test_the_tower_is_loaded_once(tower, tmp_path, small_chunks, monkeypatch):
    loaded = []

    class Counted(ExportedTower):
        def __init__(self, path):
            loaded.append(path)
            super().__init__(path)

    monkeypatch.setattr(embedding, "ExportedTower", Counted)
    path = tmp_path / "catalogue.parquet"
    pq.write_table(CATALOGUE, path, row_group_size=1)
    embedded(path, tower, tmp_path / "out")
    assert loaded == [tower]
