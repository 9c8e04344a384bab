"""The exported version: complete, checkable in a fresh process, and what a server expects."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2
from tensorflow_serving.config import model_server_config_pb2

from fairness_losses.errors import InvalidInputError
from serving.check import check_in_fresh_process, find_differences
from serving.config import ServingConfig
from serving.export import export
from serving.index import build_index
from serving.retriever import load_retriever

NUM_ITEMS = 300


@pytest.fixture
def export_version(tmp_path, save_query_tower, save_catalogue, clustered):
    """Exports a version of a retriever of 300 items; returns its folder."""
    vectors = clustered(NUM_ITEMS, seed=1)
    groups = np.where(np.arange(NUM_ITEMS) % 3, "b", "a")
    embeddings = save_catalogue(vectors, [f"item {i} é" for i in range(NUM_ITEMS)], groups)
    users = [f"u{i}" for i in range(8)]
    tower = save_query_tower(users, clustered(8, seed=2))
    features = {"user_id": np.array(users, dtype=object), "offset": np.zeros([8, 1])}

    def run(kind: str = "exact", version: int = 1) -> pathlib.Path:
        config = ServingConfig(index=kind, k=10)
        index = tmp_path / "index"
        build_index(vectors, groups, config, index, 0, query_vectors=clustered(9, seed=3))
        out, made_by = tmp_path / "serving", {"run": "a run"}
        return export(tower, embeddings, index, config, out, version, made_by, features)

    return run


def _op_types(version_dir: pathlib.Path) -> set[str]:
    model = saved_model_pb2.SavedModel.FromString((version_dir / "saved_model.pb").read_bytes())
    graph = model.meta_graphs[0].graph_def
    inside = (node for function in graph.library.function for node in function.node_def)
    return {node.op for node in (*graph.node, *inside)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["exact", "scann"])
def test_a_fresh_process_answers_as_the_export_did(export_version, kind):
    check_in_fresh_process(export_version(kind))


def test_a_changed_answer_is_found_and_named(export_version):
    version_dir = export_version()
    assert find_differences(version_dir) == []
    path = version_dir / "expected.json"
    exchanges = json.loads(path.read_text())
    exchanges[1]["outputs"]["candidate_ids"][0][0] = "another"
    exchanges[3]["outputs"]["embedding"][0][0] += 0.01
    path.write_text(json.dumps(exchanges))
    assert find_differences(version_dir) == [
        "Request 1 to `relevance`: `candidate_ids` is not what it was at the export.",
        "Request 3 to `query_embedding`: `embedding` is not what it was at the export.",
    ]


def test_a_model_that_cannot_be_loaded_fails_the_check_with_its_output(export_version):
    version_dir = export_version()
    (version_dir / "saved_model.pb").unlink()
    with pytest.raises(RuntimeError, match="SavedModel"):
        check_in_fresh_process(version_dir)


def test_the_exact_model_needs_core_ops_only(export_version):
    version_dir = export_version("exact")
    assert not any(op.startswith("Scann>") for op in _op_types(version_dir))
    assert json.loads((version_dir / "metadata.json").read_text())["requires_scann_ops"] is False


def test_the_scann_model_says_that_it_needs_ops(export_version):
    version_dir = export_version("scann")
    assert any(op.startswith("Scann>") for op in _op_types(version_dir))
    assert json.loads((version_dir / "metadata.json").read_text())["requires_scann_ops"] is True


def test_warm_up_requests_ask_every_signature_for_one_and_for_all(export_version):
    path = export_version() / "assets.extra" / "tf_serving_warmup_requests"
    records = tf.data.TFRecordDataset(str(path)).as_numpy_iterator()
    logs = [prediction_log_pb2.PredictionLog.FromString(r) for r in records]
    requests = [log.predict_log.request for log in logs]
    asked = [(r.model_spec.signature_name, len(r.inputs["user_id"].string_val)) for r in requests]
    signatures = ("serving_default", "relevance", "controlled", "query_embedding")
    assert asked == [(s, n) for n in (1, 8) for s in signatures]
    assert {r.model_spec.name for r in requests} == {"retriever"}


def test_metadata_describes_the_model(export_version):
    metadata = json.loads((export_version(version=3) / "metadata.json").read_text())
    assert metadata["model_version"] == "retriever/3"
    assert metadata["groups"] == ["a", "b"]
    assert metadata["k"] == 10
    assert metadata["index"]["num_items"] == NUM_ITEMS
    assert metadata["provenance"] == {"run": "a run"}
    described = metadata["signatures"]["controlled"]
    assert described["inputs"] == {
        "control_groups": {"dtype": "string", "shape": [-1, -1]},
        "control_weights": {"dtype": "float32", "shape": [-1, -1]},
        "exclude_ids": {"dtype": "string", "shape": [-1, -1]},
        "offset": {"dtype": "float32", "shape": [-1, -1]},
        "policy_key": {"dtype": "string", "shape": [-1]},
        "user_id": {"dtype": "string", "shape": [-1]},
    }
    assert described["outputs"]["candidate_ids"] == {"dtype": "string", "shape": [-1, 10]}
    assert described["outputs"]["model_version"] == {"dtype": "string", "shape": [-1]}


def test_a_new_version_is_a_canary_beside_the_stable_one(export_version):
    export_version(version=1)
    model_dir = export_version(version=2).parent
    text = (model_dir / "models.config").read_text()
    parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    (config,) = parsed.model_config_list.config
    assert (config.name, config.base_path) == ("retriever", "/models/retriever")
    assert list(config.model_version_policy.specific.versions) == [1, 2]
    assert dict(config.version_labels) == {"stable": 1, "canary": 2}
    assert {p.name for p in model_dir.iterdir()} == {
        "1", "2", "deploy",
        "models.config", "batching.config", "monitoring.config", "versions.json",
    }  # fmt: skip


def test_exporting_a_version_again_replaces_it(export_version):
    version_dir = export_version()
    (version_dir / "leftover").touch()
    (version_dir.parent / ".incomplete-1").mkdir()
    assert not (export_version() / "leftover").exists()
    assert not (version_dir.parent / ".incomplete-1").exists()


def test_two_loaded_scann_exports_keep_their_own_index(export_version):
    versions = [load_retriever(export_version("scann", version)) for version in (1, 2)]
    query = {"user_id": tf.constant(["u1"]), "offset": tf.zeros([1, 1])}
    answers = [v.signatures["serving_default"](**query) for v in versions]
    assert (answers[0]["candidate_ids"].numpy() == answers[1]["candidate_ids"].numpy()).all()
    assert [a["model_version"].numpy()[0] for a in answers] == [b"retriever/1", b"retriever/2"]


@pytest.mark.parametrize(
    ("vectors", "item_ids", "message"),
    [
        (np.eye(3), ["a", "b"], "one row for each of the 2 rows"),
        (np.eye(2), ["a", "a"], "given once and not be empty. Received 'a', 2 times"),
        (np.eye(2), ["a", ""], "given once and not be empty. Received '', 1 times"),
        (np.array([[1.0], [np.nan]]), ["a", "b"], "vector in row 1 is not finite"),
    ],
)
def test_a_broken_catalogue_is_refused(tmp_path, save_catalogue, vectors, item_ids, message):
    embeddings = save_catalogue(vectors, item_ids, ["g"] * len(item_ids))
    with pytest.raises(InvalidInputError, match=message):
        export(tmp_path, embeddings, tmp_path, ServingConfig(), tmp_path, 1, {}, {})
