"""The audit of MovieLens-1M beside a protocol that is not ours: other code, the same figures."""

import importlib.util
import pathlib
import sys

import numpy as np
import pyarrow as pa
import pytest
from scipy import sparse

from pipelines.audit.figures import audit, measure
from pipelines.config import RunConfig

pytestmark = pytest.mark.slow

PROTOCOL = pathlib.Path(__file__).resolve().parents[3] / "shared" / "bench" / "ml1m_protocol.py"


@pytest.fixture(scope="module")
def protocol():
    if not PROTOCOL.is_file():
        pytest.skip("the protocol is not there: put it into ../shared/bench")
    spec = importlib.util.spec_from_file_location(PROTOCOL.stem, PROTOCOL)
    module = importlib.util.module_from_spec(spec)
    sys.modules[PROTOCOL.stem] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def best_of_svd(data, factors=64):
    """The 100 unseen films that a truncated SVD of all other pairs scores highest, per user."""
    row = np.searchsorted(data.users, data.of(0, 1)[:, 0])
    column = np.searchsorted(data.items, data.of(0, 1)[:, 1])
    shape = len(data.users), len(data.items)
    seen = sparse.csr_matrix((np.ones(len(row)), (row, column)), shape)
    start = np.random.default_rng(0).normal(size=min(shape))
    u, s, vt = sparse.linalg.svds(seen, k=factors, v0=start)
    scores = (u * s) @ vt
    scores[row, column] = -np.inf
    return data.items[np.argsort(-scores, axis=1, kind="stable")[:, :100]]


@pytest.fixture(scope="module")
def found(protocol, movielens_1m):
    """What the protocol and the audit say of the same lists."""
    data = protocol.load(movielens_1m)
    top = best_of_svd(data)
    config = RunConfig.model_validate(
        {
            "name": "MovieLens-1M",
            "data": {"dataset": "movielens_1m"},
            "groups": {"columns": ["director_gender"]},
            "slices": [{"column": "gender"}],
            "audit": {"ks": [20, 100]},
        }
    )
    # The protocol looks at the users with a test positive alone.
    audited = np.isin(data.users, data.of(2)[:, 0])
    relevant = data.of(2).astype(str)
    lists = {
        "user_id": data.users[audited].astype(str),
        "candidate_ids": list(top[audited].astype(str)),
        "policy": ["svd"] * int(audited.sum()),
        "model_version": ["1"] * int(audited.sum()),
    }
    report = audit(
        measure(
            pa.table(lists),
            pa.table({"item_id": data.items.astype(str), "group": data.director_gender}),
            pa.table({"user_id": data.users.astype(str), "slice.gender": data.user_gender}),
            pa.table({"user_id": relevant[:, 0], "item_id": relevant[:, 1]}),
            config,
            {},
        ),
        config,
    )
    return protocol.evaluate(data, top), report


def test_every_figure_is_that_of_the_protocol(found):
    expected, report = found
    cells = {"all": report["overall"], **report["slices"]["gender"]}
    assert set(expected) == set(cells)
    for part, figures in expected.items():
        for name, value in figures.items():
            if name.startswith("exposure_ratio"):
                group = name[len("exposure_ratio[") : -1]
                ours = cells[part]["groups"][group]["exposure_ratio"]
            else:
                ours = cells[part]["quality"][name]
            assert ours["value"] == pytest.approx(value, abs=1e-9)
            assert ours["low"] <= value <= ours["high"]


def test_the_audit_finds_what_is_there(found):
    """Films by women get about half of their share, and less with men than with women."""
    _, report = found
    ratio = report["overall"]["groups"]["female"]["exposure_ratio"]
    assert 0.5 < ratio["low"] < ratio["high"] < 0.6
    women, men = (
        report["slices"]["gender"][g]["groups"]["female"]["exposure_ratio"] for g in ("F", "M")
    )
    assert men["high"] < women["low"]
    (test,) = (t for t in report["tests"]["cells"] if (t["value"], t["group"]) == ("M", "female"))
    assert test["differs"]
    assert test["difference"] < 0
    assert test["adjusted_p"] < 0.01
    between = report["disparities"]["slices"]["gender"]["exposure_ratio[female]"]
    assert (between["difference"]["highest"], between["difference"]["lowest"]) == ("F", "M")
    assert between["difference"]["low"] > 0
