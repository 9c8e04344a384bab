"""A run whose lists have quotas, other targets for a slice, and an exact model beside ScaNN's."""

import copy
import shutil

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from tiny_run import TINY, VARIANTS, fairtowers, read_json, write_config

pytestmark = pytest.mark.slow

K = 20
FOR_WOMEN = {"range_1": 0.1, "range_2": 0.2, "range_3": 0.3, "range_4": 0.4}
POLICY = {
    "kind": "quota",
    "tolerance": 0.0,
    "target": {"kind": "uniform"},
    "strategy": "bucketized",
    "by_slice": {"slice": "gender", "values": {"woman": {"shares": FOR_WOMEN}}},
}


@pytest.fixture(scope="module")
def mixed(tiny, tmp_path_factory):
    """The finished run again, under another policy; its folder."""
    folder = tmp_path_factory.mktemp("mixed")
    shutil.copytree(tiny.out, folder / "run")
    content = copy.deepcopy(TINY)
    content["serving"] |= {"also_exact": True, "policy": POLICY}
    done = fairtowers("run", write_config(folder, content), folder / "run")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "run"


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_audited_lists_are_those_of_every_users_policy(mixed, variant):
    lists = pq.read_table(mixed / variant / "audit" / "lists.parquet").to_pandas()
    users = pq.read_table(mixed / "examples" / "users.parquet").to_pandas()
    lists = lists.merge(users[["user_id", "slice.gender"]], on="user_id")
    is_woman = lists["slice.gender"] == "woman"
    assert 0 < is_woman.sum() < len(lists)
    assert set(lists.policy[is_woman]) == {"quota/1"}
    assert set(lists.policy[~is_woman]) == {"quota"}
    for of_list, woman in zip(lists.groups, is_woman, strict=True):
        count = pd.Series(of_list).value_counts()
        places = K - count.get("unknown", 0)
        for group, share in FOR_WOMEN.items():
            wanted = places * (share if woman else 0.25)
            # Only whole numbers next to it, up to what the catalogue has that the user has not.
            assert abs(count.get(group, 0) - wanted) < 1 or len(of_list) < K
    assert read_json(mixed / variant / "audit" / "report.json")["run"]["policy"] == [
        *lists.policy.unique()
    ]


def test_the_plan_and_the_keys_lie_where_they_should(mixed):
    variant = mixed / VARIANTS[0]
    plan = read_json(variant / "index" / "mix.json")
    assert plan["strategy"] == "bucketized"
    np.testing.assert_allclose(plan["shares"], [[0.25] * 4 + [0], [0.1, 0.2, 0.3, 0.4, 0]])
    model_dir = variant / "serving" / "retriever"
    assert (model_dir / "policy_keys.json").stat().st_mode & 0o777 == 0o600
    assert list(read_json(model_dir / "policy_keys.json")["keys"]) == ["woman"]
    latest = read_json(model_dir / "2" / "metadata.json")
    assert [row["policy"] for row in latest["policies"]] == ["quota", "quota/1"]
    assert "candidate_embedding" in latest["signatures"]


def test_the_exact_model_beside_it_needs_no_ops_of_scann(mixed):
    folder = mixed / VARIANTS[0] / "serving" / "retriever-exact" / "1"
    assert b"Scann>" not in (folder / "saved_model.pb").read_bytes()
    assert read_json(folder / "metadata.json")["model_version"] == "retriever-exact/1"
    assert (folder.parent / "models.config").is_file()
