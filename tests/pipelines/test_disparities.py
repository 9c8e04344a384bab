"""Differences and ratios, beside fairlearn's `MetricFrame` where that has the same figures."""

import fake_audit
import numpy as np
import pytest
from fairlearn.metrics import MetricFrame

from fairness_losses.metrics.ranking import hit_rate_at_k, recall_at_k
from pipelines.audit.disparities import between_values
from pipelines.audit.figures import audit, measure


def config():
    small = {"ks": [20], "bootstrap_samples": 200, "min_users": 1}
    return fake_audit.config(audit={**small, "permutations": 0})


@pytest.fixture(scope="module")
def tables():
    return fake_audit.world(num_users=900, num_items=300, depth=20)


@pytest.fixture(scope="module")
def report(tables):
    shared = [tables[name] for name in ("catalogue", "users", "relevant")]
    return audit(measure(tables["before"], *shared, config(), {}), config())


@pytest.fixture(scope="module")
def frame(tables):
    """A row per listed place, or per user: what fairlearn takes for a sample."""
    users = tables["users"].to_pandas()
    group = tables["catalogue"].to_pandas().set_index("item_id")["group"]
    lists = tables["before"].to_pandas()[["user_id", "candidate_ids"]].merge(users, on="user_id")
    relevant = tables["relevant"].to_pandas().groupby("user_id")["item_id"].agg(set)
    lists["relevant"] = [relevant.get(user, set()) for user in lists["user_id"]]
    places = lists.explode("candidate_ids").reset_index(drop=True)
    places["group"] = group.loc[places["candidate_ids"]].to_numpy()
    places["rank"] = places.groupby("user_id").cumcount() + 1
    return lists, places


def close(ours, theirs):
    assert ours["value"] == pytest.approx(theirs, rel=1e-12)


def check(ours, metric, name):
    """Overall, by group, difference and ratio of a metric are those of a `MetricFrame`."""
    close(ours["overall"], metric.overall)
    assert set(ours["by_group"]) == set(metric.by_group.index)
    for value, figure in ours["by_group"].items():
        close(figure, metric.by_group[value])
    close(ours["difference"], metric.difference())
    close(ours["ratio"], metric.ratio())
    assert ours["difference"]["highest"] == metric.by_group.idxmax(), name
    assert ours["ratio"]["lowest"] == metric.by_group.idxmin(), name


@pytest.mark.parametrize("slice_name", ["gender", "age"])
def test_shares_are_fairlearns_selection_rates(report, frame, slice_name):
    """Of places whose group is known, those of films by women; each with its attention."""
    _, places = frame
    known = places[places["group"] != "unknown"]
    is_female = (known["group"] == "female").astype(int)
    weighted = {
        "candidate_share[female]": np.ones(len(known)),
        "exposure_share[female]": 1 / np.log2(known["rank"].to_numpy() + 1),
    }
    for name, weight in weighted.items():
        metric = MetricFrame(
            metrics=lambda _, y, w: float((y * w).sum() / w.sum()),
            y_true=is_female,
            y_pred=is_female,
            sensitive_features=known[f"slice.{slice_name}"],
            sample_params={"w": weight},
        )
        check(report["disparities"]["slices"][slice_name][name], metric, name)


@pytest.mark.parametrize(
    ("name", "of_list"), [("recall@20", recall_at_k), ("hit_rate@20", hit_rate_at_k)]
)
def test_quality_is_a_mean_of_fairlearns(report, frame, name, of_list):
    lists, _ = frame
    with_positive = lists[lists["relevant"].map(len) > 0]
    hits = np.array(
        [
            [item in wanted for item in row]
            for row, wanted in zip(
                with_positive["candidate_ids"], with_positive["relevant"], strict=True
            )
        ]
    )
    values = of_list(hits, with_positive["relevant"].map(len).to_numpy(), 20)
    metric = MetricFrame(
        metrics=lambda _, y: float(y.mean()),
        y_true=values,
        y_pred=values,
        sensitive_features=with_positive["slice.gender"],
    )
    check(report["disparities"]["slices"]["gender"][name], metric, name)


def test_crossed_slices_are_fairlearns_intersections(report, frame):
    _, places = frame
    known = places[places["group"] != "unknown"]
    is_female = (known["group"] == "female").astype(int).to_numpy()
    metric = MetricFrame(
        metrics=lambda _, y: float(y.mean()),
        y_true=is_female,
        y_pred=is_female,
        sensitive_features=known[["slice.gender", "slice.age"]],
    )
    by_group = report["disparities"]["slices"]["gender × age"]["candidate_share[female]"][
        "by_group"
    ]
    assert len(by_group) == 12
    for value, figure in by_group.items():
        close(figure, metric.by_group[tuple(value.split(" × "))])


def test_between_groups_of_items(report):
    """Highest less lowest of the ratios of the groups with a target."""
    found = report["disparities"]["groups"]["overall"]["exposure_ratio"]
    ratios = {
        group: figures["exposure_ratio"]["value"]
        for group, figures in report["overall"]["groups"].items()
        if group != "unknown"
    }
    assert set(found["by_group"]) == set(ratios)
    assert found["difference"]["value"] == pytest.approx(
        max(ratios.values()) - min(ratios.values())
    )
    assert found["ratio"]["value"] == pytest.approx(min(ratios.values()) / max(ratios.values()))


def figure(value, count):
    return {"value": value, "low": value, "high": value, "count": count}


def test_intervals_compare_the_same_two_cells_in_every_resample():
    """a is 0.3 or 0.5, b always 0.2: the difference is from 0.1 to 0.3, and the ratio from 2/5."""
    path = ("quality", "ndcg@10")
    cells = {
        v: {"quality": {"ndcg@10": figure(x, n)}} for v, x, n in (("a", 0.4, 9), ("b", 0.2, 7))
    }
    drawn = {"a": {path: np.tile([0.3, 0.5], 100)}, "b": {path: np.full(200, 0.2)}}
    found = between_values({"quality": {"ndcg@10": figure(0.3, 16)}}, cells, drawn, 0.95)["ndcg@10"]
    assert found["difference"] == pytest.approx(
        {"value": 0.2, "low": 0.1, "high": 0.3, "count": 7, "highest": "a", "lowest": "b"}
    )
    assert found["ratio"] == pytest.approx(
        {"value": 0.5, "low": 0.4, "high": 2 / 3, "count": 7, "highest": "a", "lowest": "b"}
    )


def test_a_figure_whose_resamples_say_nothing_lends_its_ends():
    """a is 0.4 (0.3 to 0.5), b 0 with 0 to 0.04 by Wilson: 0.26 to 0.5 apart, at most 2/15."""
    path = ("quality", "ndcg@10")
    a = {"value": 0.4, "low": 0.3, "high": 0.5, "count": 9}
    b = {"value": 0.0, "low": 0.0, "high": 0.04, "count": 7, "method": "wilson"}
    cells = {name: {"quality": {"ndcg@10": f}} for name, f in (("a", a), ("b", b))}
    drawn = {"a": {path: np.tile([0.3, 0.5], 100)}, "b": {path: np.zeros(200)}}
    found = between_values({}, cells, drawn, 0.95)["ndcg@10"]
    both = {"count": 7, "highest": "a", "lowest": "b", "method": "wilson"}
    difference = {"value": 0.4, "low": 0.26, "high": 0.5}
    assert found["difference"] == pytest.approx({**difference, **both})
    assert found["ratio"] == pytest.approx({"value": 0.0, "low": 0.0, "high": 2 / 15, **both})


def test_one_value_alone_has_no_difference():
    path = ("quality", "ndcg@10")
    cells = {"a": {"quality": {"ndcg@10": figure(0.4, 9)}}, "b": {"quality": {"ndcg@10": None}}}
    drawn = {value: {path: np.full(10, 0.4)} for value in cells}
    found = between_values({}, cells, drawn, 0.95)["ndcg@10"]
    assert found["by_group"]["b"] is None
    assert found["difference"] is found["ratio"] is None
