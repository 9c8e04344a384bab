"""What the index stage decides about the mix, and exports that carry it."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from pydantic import ValidationError

from fairness_losses.browsing import dcg_weights
from fairness_losses.config import TargetConfig
from fairness_losses.errors import InvalidInputError
from serving import check
from serving.catalogue import Catalogue
from serving.check import find_differences
from serving.config import ServingConfig
from serving.export import export
from serving.index import build_index
from serving.mix import buckets
from serving.mix.plan import index_queries, index_vectors, load_mix, plan_mix
from serving.mix.targets import resolve_targets
from serving.retriever import load_retriever

NUM_ITEMS = 2000


@pytest.fixture
def catalogue(clustered):
    """ "a" and "b" depend on where an item is; "c" is one in fifty."""
    vectors = clustered(NUM_ITEMS, seed=1)
    groups = np.where(vectors[:, 0] > 0, "a", "b").astype(object)
    groups[::50] = "c"
    return Catalogue(vectors, np.char.add("i", np.arange(NUM_ITEMS).astype(str)), groups)


@pytest.fixture
def plan(tmp_path, catalogue, clustered):
    """Builds index and plan in `index`; returns plan and configuration."""

    def run(index="scann", **policy):
        config = ServingConfig(index=index, k=20, policy=policy)
        queries = clustered(64, seed=2)
        labels, folder = catalogue.groups, tmp_path / "index"
        vectors = index_vectors(catalogue.vectors, labels, config.policy)
        asked = index_queries(queries, labels, config.policy)
        build_index(vectors, labels, config, folder, 0, query_vectors=asked)
        target = TargetConfig(kind="uniform")
        done = plan_mix(
            catalogue.vectors, labels, config, folder, 0, target=target, query_vectors=queries
        )
        return done, config

    return run


def test_auto_takes_the_fastest_strategy_of_the_good(tmp_path, catalogue, plan, monkeypatch):
    monkeypatch.setattr(buckets, "_EXACT_UP_TO", 100)
    found, config = plan(kind="quota", min_recall=0.9)
    assert found == json.loads((tmp_path / "index" / "mix.json").read_text())
    assert set(found["measured"]) == {"over_fetch", "bucketized", "hybrid"}
    good = {
        name: of["mean_ms"]
        for name, of in found["measured"].items()
        if min(recall["value"] for recall in of["recall"].values()) >= 0.9
    }
    assert found["strategy"] == min(good, key=good.get)
    assert all(of["full"] == 1 for of in found["measured"].values())
    folders = {p.name for p in (tmp_path / "index" / "buckets").glob("*")}
    assert folders == {g for g, b in found["buckets"].items() if b["kind"] != "exact"}
    # The metadata of an index is read back as the same lists.
    mix, targets, _, _ = load_mix(tmp_path / "index", catalogue, config)
    rows, _ = mix.by_policy(tf.constant(catalogue.vectors[:9]))
    counts = np.stack([(targets.codes[rows] == g).sum(axis=1) for g in range(3)])
    assert ((counts >= 6) & (counts <= 7)).all()


@pytest.mark.parametrize("strategy", ["over_fetch", "bucketized", "hybrid"])
def test_a_given_strategy_is_taken_and_keeps_the_counts(
    tmp_path, catalogue, plan, strategy, monkeypatch
):
    monkeypatch.setattr(buckets, "_EXACT_UP_TO", 30)
    found, config = plan(kind="quota", strategy=strategy, over_fetch=2, tolerance=0.0)
    assert found["strategy"] == strategy
    assert list(found["measured"]) == [strategy]
    if strategy == "bucketized":
        assert {b["kind"] for b in found["buckets"].values()} == {"hashed"}
        assert min(b["recall"] for b in found["buckets"].values()) >= 0.95
    if strategy == "hybrid":
        assert "2" in found["buckets"]
    mix, targets, _, _ = load_mix(tmp_path / "index", catalogue, config)
    rows, _ = tf.function(mix.by_policy)(tf.constant(catalogue.vectors[:9]))
    counts = np.stack([(targets.codes[rows] == g).sum(axis=1) for g in range(3)])
    assert ((counts >= 6) & (counts <= 7)).all()


def test_a_tree_is_built_for_large_groups(catalogue, clustered, tmp_path, monkeypatch):
    monkeypatch.setattr(buckets, "_EXACT_UP_TO", 100)
    monkeypatch.setattr(buckets, "_HASHED_UP_TO", 500)
    codes = (np.arange(NUM_ITEMS) < 400).astype(int) + 2 * (np.arange(NUM_ITEMS) >= 1950)
    report = buckets.build_buckets(
        catalogue.vectors, codes, {0: 30, 1: 10, 2: 10}, clustered(32, seed=2), 0.97, tmp_path
    )
    assert [report[g]["kind"] for g in "012"] == ["tree", "hashed", "exact"]
    assert [report[g]["size"] for g in "012"] == [1550, 400, 50]
    assert min(b["low"] for b in report.values()) >= 0.97
    indexes = buckets.load_buckets(catalogue.vectors, codes, report, [0, 1, 2], tmp_path)
    queries = tf.constant(catalogue.vectors[:8])
    excluded = tf.constant(np.tile(np.arange(400, 1949), [8, 1]), tf.int32)
    for group, index in indexes.items():
        rows, scores = index(queries, 10, excluded)
        left = (codes == group) & ~np.isin(np.arange(NUM_ITEMS), excluded[0])
        expected = min(10, left.sum())
        assert left[rows.numpy()[:, :expected]].all()
        assert np.isneginf(scores.numpy()[:, expected:]).all()


def test_rows_of_slices_have_their_own_targets():
    policy = ServingConfig(
        policy={
            "kind": "quota",
            "tolerance": 0.1,
            "by_slice": {
                "slice": "gender",
                "values": {"M": {"tolerance": 0.2}, "F": {"shares": {"a": 0.9, "b": 0.1}}},
            },
        }
    ).policy
    targets = resolve_targets(np.array(["b", "a", "unknown", "a"]), policy, TargetConfig())
    assert targets.labels == ("a", "b", "unknown")
    np.testing.assert_allclose(
        targets.shares, [[2 / 3, 1 / 3, 0], [0.9, 0.1, 0], [2 / 3, 1 / 3, 0]]
    )
    assert targets.tolerance.tolist() == [0.1, 0.1, 0.2]


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ({"prefix": "shares"}, "belong to `kind: quota`"),
        ({"kind": "steered", "strategy": "hybrid"}, "`strategy` belongs to"),
        ({"kind": "quota", "prefix": "shares", "diversify": "dpp"}, "set one of them to none"),
        ({"by_slice": {"slice": "x", "values": {"y": {"tolerance": 0.1}}}}, "`by_slice` needs"),
        ({"kind": "quota", "by_slice": {"slice": "x", "values": {"y": {}}}}, "should have `sha"),
        ({"kind": "quota", "by_slice": {"slice": "x", "values": {"y": {"shares": {"a": 0.5}}}}},
         "`shares` should sum to 1"),
    ],
)  # fmt: skip
def test_settings_that_do_nothing_are_refused(policy, message):
    with pytest.raises(ValidationError, match=message):
        ServingConfig(policy=policy)


def test_an_index_of_another_policy_is_refused(tmp_path, catalogue, plan):
    plan("exact")
    config = ServingConfig(k=20, policy={"kind": "quota"})
    with pytest.raises(InvalidInputError, match=r"not built for `serving\.policy\.kind: quota`"):
        load_mix(tmp_path / "index", catalogue, config)


@pytest.fixture
def exported(tmp_path, catalogue, plan, save_query_tower, save_catalogue, clustered):
    """Exports a version; returns its folder."""
    users = [f"u{i}" for i in range(40)]
    tower = save_query_tower(users, clustered(40, seed=3))
    embeddings = save_catalogue(catalogue.vectors, list(catalogue.item_ids), catalogue.groups)
    features = {"user_id": np.array(users, dtype=object)[:8], "offset": np.zeros([8, 1])}

    def run(index="exact", exact=False, version=1, **policy):
        _, config = plan(index, **policy)
        index_dir, out = tmp_path / "index", tmp_path / "serving"
        return export(
            tower, embeddings, index_dir, config, out, version, {}, features, exact=exact,
            candidate_tower_dir=tower, warmup_items=features,
        )  # fmt: skip

    return run


_ALONE = """
import json, runpy, sys
sys.argv = ["check", sys.argv[1]]
try:
    runpy.run_path({check!r}, run_name="__main__")
except SystemExit as done:
    others = {{"serving", "towers", "fairness_losses", "pipelines", "scann"}}
    print(json.dumps([done.code, sorted(others & set(sys.modules))]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("index", "policy"),
    [
        ("exact", {"kind": "quota", "prefix": "significance"}),
        ("exact", {"kind": "quota", "diversify": "dpp"}),
        ("exact", {"kind": "steered"}),
        ("scann", {"kind": "quota", "strategy": "hybrid"}),
        ("scann", {"kind": "steered"}),
    ],
)
def test_a_process_with_tensorflow_alone_replays_every_signature(exported, index, policy):
    version = exported(index, **policy)
    asked = {e["signature"] for e in json.loads((version / "expected.json").read_text())}
    assert asked == set(json.loads((version / "metadata.json").read_text())["signatures"])
    program = _ALONE.format(check=check.__file__)
    result = subprocess.run(
        [sys.executable, "-c", program, str(version)], capture_output=True, text=True, check=True
    )
    code, others = json.loads(result.stdout.splitlines()[-1])
    assert (code, others) == (0, ["scann"] if index == "scann" else [])


def test_exact_beside_scann_answers_with_core_ops(exported):
    version = exported("scann", exact=True, kind="quota", strategy="over_fetch")
    assert b"Scann>" not in (version / "saved_model.pb").read_bytes()
    assert json.loads((version / "metadata.json").read_text())["requires_scann_ops"] is False
    assert find_differences(version) == []


def test_keys_of_slices_are_in_the_graph_and_their_names_are_not(exported):
    slices = {"slice": "gender", "values": {"femme": {"shares": {"a": 0.8, "b": 0.1, "c": 0.1}}}}
    versions = [exported(kind="quota", by_slice=slices, version=n) for n in (1, 2)]
    keys = json.loads((versions[0].parent / "policy_keys.json").read_text())["keys"]
    for version in versions:
        written = b"".join(p.read_bytes() for p in version.rglob("*") if p.is_file())
        assert b"femme" not in written
        assert b"gender" not in written
        assert keys["femme"].encode() in written
        signature = load_retriever(version).signatures["controlled"]
        answer = signature(
            user_id=tf.constant(["u1", "u1"]),
            offset=tf.zeros([2, 1]),
            policy_key=tf.constant([keys["femme"], ""]),
            exclude_ids=tf.zeros([2, 0], tf.string),
            control_groups=tf.zeros([2, 0], tf.string),
            control_weights=tf.zeros([2, 0]),
        )
        assert answer["policy"].numpy().tolist() == [b"quota/1", b"quota"]
        shares = (answer["groups"].numpy() == b"a").mean(axis=1)
        assert 0.75 <= shares[0] <= 0.85
        assert 0.28 <= shares[1] <= 0.4


# Far from the prices that an index was tuned at, it finds fewer of the items that they lift.
@pytest.mark.parametrize(("index", "within"), [("exact", 0.02), ("scann", 0.1)])
def test_a_loaded_model_steers_itself(exported, index, within):
    model = load_retriever(exported(index, kind="steered"))
    ask, steer = model.signatures["serving_default"], model.signatures["steering_prices"]
    read = {"policy_key": tf.constant([""])}
    users = {"user_id": tf.constant([f"u{i}" for i in range(40)]), "offset": tf.zeros([40, 1])}
    start = steer(**read)["prices"].numpy()
    assert steer(**read)["groups"].numpy().tolist() == [[b"a", b"b", b"c"]]
    ask(**users)
    assert (steer(**read)["prices"].numpy() != start).all()
    # From prices that are far off it comes back.
    # A merged request may name a row twice.
    far = {"policy_key": tf.constant(["", ""]), "prices": tf.zeros([2, 3])}
    assert (model.signatures["set_steering_prices"](**far)["prices"].numpy() == 0).all()
    attention = dcg_weights(20) / dcg_weights(20).sum()
    shares = [((ask(**users)["groups"].numpy() == b"c") @ attention).mean() for _ in range(80)]
    assert shares[0] < 0.1
    assert shares[-1] == pytest.approx(1 / 3, rel=within)
    before = steer(**read)["prices"].numpy()
    model.signatures["relevance"](**users)
    assert (steer(**read)["prices"].numpy() == before).all()
