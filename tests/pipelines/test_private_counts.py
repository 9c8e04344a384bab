"""The private release: noise as it is stated, and one user with a bounded part in every count."""

import json
import random
from fractions import Fraction

import fake_audit
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from pipelines.audit.discrete_laplace import discrete_laplace
from pipelines.audit.job import audit_files
from pipelines.audit.list_files import ListFiles
from pipelines.audit.meter import Meter
from pipelines.audit.private_counts import clipped, places_by_shard, release
from pipelines.config import PrivateCountsConfig
from pipelines.examples.arrow_ipc import to_bytes
from pipelines.readers.chunks import with_origin


@pytest.mark.parametrize("scale", [Fraction(1, 2), Fraction(7, 3), Fraction(40)])
def test_noise_is_discrete_laplace(scale):
    """8,000 draws against the distribution of SciPy, in bins that hold enough of them."""
    source = random.Random(5)
    drawn = np.array([discrete_laplace(scale, source) for _ in range(8_000)])
    expected = stats.dlaplace(1 / float(scale))
    edges = np.unique(expected.ppf(np.linspace(0.01, 0.99, 25)))
    observed = np.bincount(np.searchsorted(edges, drawn), minlength=len(edges) + 1)
    chances = np.diff(np.concatenate([[0], expected.cdf(edges), [1]]))
    assert stats.chisquare(observed, chances * len(drawn)).pvalue > 0.001


def test_the_systems_randomness_is_not_the_same_twice():
    drawn = [[discrete_laplace(Fraction(1000)) for _ in range(20)] for _ in range(2)]
    assert drawn[0] != drawn[1]


def config(**private):
    audit = {"ks": [10], "bootstrap_samples": 100, "min_users": 20}
    return fake_audit.config(audit={**audit, "private_counts": {"epsilon": 1, **private}})


def many_lists(users=60, each=5):
    """Tables of a small world in which every user has several lists."""
    tables = fake_audit.world(num_users=users, num_items=50, depth=10)
    one = tables["before"].select(["user_id", "candidate_ids", "policy"])
    lists = pa.concat_tables([one] * each)
    lists = lists.append_column("model_version", pa.array(["1"] * len(lists)))
    return tables, lists.append_column("list_id", pa.array([f"l{i}" for i in range(len(lists))]))


def exact(lists, tables, settings):
    """The clipped counts of lists, int `[num_combinations, 1 + num_groups]`."""
    meter = Meter.of(tables["catalogue"], tables["users"], None, settings, 100)
    table = to_bytes(with_origin(lists, 0, np.arange(len(lists))))
    most = settings.audit.private_counts.lists_per_user
    found = [clipped((shard, [part]), meter, most) for shard, part in places_by_shard(table, meter)]
    return sum(found)


@pytest.mark.parametrize("most", [1, 3])
def test_each_user_counts_with_few_lists(most):
    settings = config(lists_per_user=most)
    counts = exact(*many_lists()[::-1], settings)
    assert counts[:, 0].sum() == 60 * most
    assert counts[:, 1:].sum() == 60 * most * 10


@pytest.mark.parametrize("most", [1, 3])
def test_without_one_user_counts_change_by_no_more_than_is_stated(most):
    """One combination of cells loses at most so many lists, and the depth times as many places."""
    settings = config(lists_per_user=most)
    tables, lists = many_lists()
    whole = exact(lists, tables, settings)
    for user in ("u0", "u17", "u59"):
        rest = lists.filter(pa.array(np.array(lists["user_id"]) != user))
        change = np.abs(whole - exact(rest, tables, settings))
        assert (change.sum(axis=1) > 0).sum() == 1
        assert change[:, 0].sum() == most
        assert change[:, 1:].sum() == most * 10


def test_the_release_states_its_noise():
    """Everybody and three slices are four divisions, with lists and places each: eight parts."""
    settings = config(lists_per_user=2, epsilon=0.5)
    tables, lists = many_lists()
    meter = Meter.of(tables["catalogue"], tables["users"], None, settings, 100)
    found = release(
        exact(lists, tables, settings),
        meter.index,
        meter.layout.groups.labels,
        10,
        settings.audit.private_counts,
        random.Random(1),
    )
    assert found["noise"] == {"lists": 8 * 2 / 0.5, "places": 8 * 2 * 10 / 0.5}
    assert (found["epsilon"], found["lists_per_user"]) == (0.5, 2)
    assert set(found["slices"]) == {"gender", "age", "gender × age"}
    assert set(found["overall"]["places"]) == {"female", "male", "mixed", "unknown"}


def test_noise_is_around_the_counts():
    """Over 400 releases the mean of a count is off by less than five of its standard errors."""
    settings = config(lists_per_user=1, epsilon=5)
    tables, lists = many_lists()
    meter = Meter.of(tables["catalogue"], tables["users"], None, settings, 100)
    counts, source = exact(lists, tables, settings), random.Random(2)
    labels, private = meter.layout.groups.labels, settings.audit.private_counts
    drawn = [
        release(counts, meter.index, labels, 10, private, source)["overall"] for _ in range(400)
    ]
    off = np.array([one["lists"] for one in drawn]) - 60
    assert len(set(off.tolist())) > 5
    scale = 8 / 5
    assert abs(off.mean()) < 5 * np.sqrt(2) * scale / np.sqrt(400)
    assert off.std() == pytest.approx(np.sqrt(2) * scale, rel=0.25)


@pytest.mark.parametrize("with_ids", [True, False])
def test_the_audit_of_files_writes_it_beside_the_report(tmp_path, with_ids):
    settings = config(epsilon=50, lists_per_user=1)
    tables, lists = many_lists(each=3 if with_ids else 1)
    for name in ("examples", "out"):
        (tmp_path / name).mkdir()
    for name in ("catalogue", "users"):
        pq.write_table(tables[name], tmp_path / "examples" / f"{name}.parquet")
    lists = lists if with_ids else lists.drop(["list_id"])
    pq.write_table(lists, tmp_path / "lists.parquet", row_group_size=40)
    files = ListFiles.find(str(tmp_path / "lists.parquet"), settings.seed)
    audit_files(settings, files, tmp_path / "examples", tmp_path / "out", "log")
    found = json.loads((tmp_path / "out" / "private_counts.json").read_text())
    # Noise of scale 0.16 and 1.6: more than 10 and 60 off is less likely than 1 in 10^15.
    assert abs(found["overall"]["lists"] - 60) < 10
    assert abs(sum(found["overall"]["places"].values()) - 600) < 300


def test_it_is_off_by_default():
    assert fake_audit.config().audit.private_counts is None
    with pytest.raises(ValueError, match="epsilon"):
        PrivateCountsConfig(epsilon=0)
