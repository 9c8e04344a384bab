"""What `export` writes is served as it stands: files, warm-up, ScaNN's ops, reloading."""

import json

import numpy as np
import pytest
from conftest import run_server

from serving.client import Client
from serving.config import ServingConfig
from serving.export import export
from serving.index import build_index
from serving.server.files import find_files


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_an_export_is_served_and_answers_as_it_did(
    tmp_path, save_query_tower, save_catalogue, clustered, kind
):
    vectors = clustered(300, seed=1)
    groups = np.where(np.arange(300) % 3, "b", "a")
    embeddings = save_catalogue(vectors, [f"item {i} é" for i in range(300)], groups)
    users = [f"u{i}" for i in range(8)]
    tower = save_query_tower(users, clustered(8, seed=2))
    features = {"user_id": np.array(users, dtype=object), "offset": np.zeros([8, 1])}
    config = ServingConfig(index=kind, k=10)
    build_index(vectors, groups, config, tmp_path / "i", 0, query_vectors=clustered(9, seed=3))

    def write(version: int):
        out = tmp_path / "serving"
        return export(tower, embeddings, tmp_path / "i", config, out, version, {}, features)

    model_dir = write(1).parent
    with run_server(find_files(model_dir)) as server:
        exchanges = json.loads((model_dir / "1" / "expected.json").read_text())
        for address in (server.address, server.url):
            with Client(address, label="stable") as client:
                for exchange in exchanges:
                    outputs = client.predict(exchange["inputs"], exchange["signature"])
                    assert set(outputs) == set(exchange["outputs"])
                    for name, expected in exchange["outputs"].items():
                        _assert_same(outputs[name], expected)
        write(2)
        server.look_for_versions()
        with Client(server.address) as client:
            lists = client.retrieve({"user_id": ["u1"], "offset": [[0.0]]})
        assert lists.model_version.tolist() == ["retriever/2"]


def _assert_same(array: np.ndarray, expected: list) -> None:
    if array.dtype == object:
        flat = [v.decode() if isinstance(v, bytes) else v for v in array.ravel()]
        assert flat == np.asarray(expected, dtype=object).ravel().tolist()
    else:
        np.testing.assert_allclose(array, expected, rtol=1e-4, atol=1e-5)
