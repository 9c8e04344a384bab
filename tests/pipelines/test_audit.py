import importlib.util
import json
import math
import sys

import fake_audit
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.errors import InvalidInputError
from fairness_losses.metrics.joint_exposure import joint_exposure
from pipelines.audit.figures import audit, compare, measure

LOG3 = 1 / math.log2(3)  # Attention of the second rank; the first has 1.


def small_config(**changes):
    raw = {
        "audit": {"ks": [2], "min_users": 1, "bootstrap_samples": 100},
        "slices": [],
    }
    return fake_audit.config(**{**raw, **changes})


def lists_of(**candidates: list[str]) -> pa.Table:
    return pa.table(
        {
            "user_id": list(candidates),
            "candidate_ids": pa.array(list(candidates.values()), pa.list_(pa.string())),
            "policy": ["plain"] * len(candidates),
            "model_version": ["1"] * len(candidates),
        }
    )


CATALOGUE = pa.table({"item_id": list("abcde"), "group": ["f", "f", "m", "m", "unknown"]})
USERS = pa.table({"user_id": ["u1", "u2", "u3"], "slice.gender": ["F", "M", "M"]})
RELEVANT = pa.table(
    {"user_id": ["u1", "u1", "u2", "u2", "stranger"], "item_id": ["c", "c", "a", "d", "a"]}
)
LISTS = lists_of(u1=["a", "c"], u2=["c", "d"], u3=["e", "a"])


def by_hand(lists=LISTS, config=None, catalogue=CATALOGUE, relevant=RELEVANT):
    return measure(lists, catalogue, USERS, relevant, config or small_config(), {"variant": "x"})


class TestThreeUsersByHand:
    """f is at ranks 1 (u1) and 2 (u3), m at 2 (u1), 1 and 2 (u2), unknown at 1 (u3)."""

    @pytest.fixture(scope="class")
    def report(self):
        config = small_config(slices=[{"column": "gender"}])
        return audit(by_hand(config=config), config)

    @pytest.fixture(scope="class")
    def overall(self, report):
        return report["overall"]

    def test_exposure_share_and_ratio(self, overall):
        f, m = 1 + LOG3, LOG3 + 1 + LOG3
        groups = overall["groups"]
        assert groups["f"]["exposure_share"]["value"] == pytest.approx(f / (f + m))
        assert groups["m"]["exposure_share"]["value"] == pytest.approx(m / (f + m))
        # The catalogue has two of each: the target is a half.
        assert groups["f"]["exposure_ratio"]["value"] == pytest.approx(2 * f / (f + m))

    def test_unknown_is_reported_beside_the_others_and_has_no_ratio(self, overall):
        unknown = overall["groups"]["unknown"]
        assert unknown["candidate_share"]["value"] == pytest.approx(1 / 5)
        assert unknown["exposure_share"]["value"] == pytest.approx(1 / (2 + 3 * LOG3))
        assert unknown["exposure_ratio"] is None

    def test_candidates_are_counted(self, overall):
        assert overall["groups"]["f"]["candidate_share"]["value"] == pytest.approx(2 / 5)
        counts = {g: cell["candidate_share"]["count"] for g, cell in overall["groups"].items()}
        assert counts == {"f": 2, "m": 3, "unknown": 1}

    def test_quality_is_over_users_with_a_positive(self, overall):
        """u1 finds its one item at rank 2; u2 one of two, at rank 2; u3 has none."""
        assert overall["users"] == 3
        assert overall["users_with_positives"] == 2
        recall, ndcg = overall["quality"]["recall@2"], overall["quality"]["ndcg@2"]
        assert recall["value"] == pytest.approx((1 + 1 / 2) / 2)
        assert ndcg["value"] == pytest.approx((LOG3 + LOG3 / (1 + LOG3)) / 2)
        assert recall["count"] == ndcg["count"] == 2

    def test_first_hits(self, overall):
        """Both find an item at rank 2 and none at rank 1: MRR is a half, the hit rate 1."""
        assert overall["quality"]["mrr@2"]["value"] == pytest.approx(1 / 2)
        assert overall["quality"]["hit_rate@2"]["value"] == pytest.approx(1)

    def test_skew_of_all_candidates(self, overall):
        """f has 2 and m 3 of the 5 slots, where a half is the target: ln 0.8 and ln 1.2."""
        across = overall["across_groups"]
        # Resamples without any item of f are -inf, and reach the lower end.
        assert across["min_skew"] is None
        assert across["max_skew"]["value"] == pytest.approx(math.log(1.2))
        assert across["max_skew"]["count"] == 3

    def test_diversity_and_ndkl_are_means_over_lists(self, overall):
        """u1 alone has f and m. Against (1/2, 1/2), one group alone has KL = ln 2.

        u1: ln 2 at rank 1, 0 at rank 2. u2: ln 2 at both. u3: nothing at rank 1, ln 2 at rank 2.
        """
        across = overall["across_groups"]
        assert across["diversity"]["value"] == pytest.approx(1 / 3)
        mean = math.log(2) * (1 / (1 + LOG3) + 1 + 1) / 3
        assert across["ndkl"]["value"] == pytest.approx(mean)
        assert across["diversity"]["count"] == across["ndkl"]["count"] == 3

    def test_awrf_of_all_exposure(self, overall):
        """Exposure shares p of f and 1 - p of m against (1/2, 1/2)."""
        p = (1 + LOG3) / (2 + 3 * LOG3)
        shares, middle = (p, 1 - p), ((p + 0.5) / 2, (1.5 - p) / 2)
        divergence = sum(
            (s * math.log(s / m) + 0.5 * math.log(0.5 / m)) / 2
            for s, m in zip(shares, middle, strict=True)
        )
        assert overall["across_groups"]["awrf"]["value"] == pytest.approx(1 - divergence)

    def test_joint_exposure_is_that_of_the_metric(self, report):
        """The metric has exposure per user and item; `e` is of no group with a target."""
        exposure = np.array([[1, 0, LOG3, 0], [0, 0, 1, LOG3], [LOG3, 0, 0, 0]])
        target = np.repeat(exposure.sum(axis=1, keepdims=True) / 4, 4, axis=1)
        items = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])
        users = np.array([[1, 0], [0, 1], [0, 1]])
        expected = joint_exposure(exposure, target, users, items)
        cells = report["slices"]["gender"]
        of_values = np.mean([cells[value]["joint_exposure"]["value"] for value in ("F", "M")])
        assert of_values == pytest.approx(expected["GG"].loss)
        assert report["overall"]["joint_exposure"]["value"] == pytest.approx(expected["AG"].loss)

    def test_what_was_listed_of_the_catalogue(self, report):
        """Of f only a, of m both c and d; men were shown all three."""
        shown = {
            group: figures["catalogue_coverage"]
            for group, figures in report["overall"]["groups"].items()
        }
        assert shown["f"] == {"items": 1, "of": 2, "share": 0.5}
        assert shown["m"] == {"items": 2, "of": 2, "share": 1.0}
        women = report["slices"]["gender"]["F"]["groups"]
        assert women["m"]["catalogue_coverage"]["items"] == 1
        assert women["unknown"]["catalogue_coverage"]["items"] == 0

    def test_targets_and_catalogue_shares_stand_at_the_top(self, report):
        assert report["groups"] == {
            "f": {"target": 0.5, "catalogue_share": pytest.approx(0.4)},
            "m": {"target": 0.5, "catalogue_share": pytest.approx(0.4)},
            "unknown": {"target": None, "catalogue_share": pytest.approx(0.2)},
        }

    def test_the_run_says_what_was_served(self, report):
        assert report["run"] == {"variant": "x", "policy": ["plain"], "model_version": ["1"]}

    def test_it_is_json(self, report):
        assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_lists_without_a_group_with_a_target_have_no_ndkl_but_are_not_diverse():
    """u2 has a and c, u1 only the unknown item e, u3 nothing; u2's NDKL is ln 2 / (1 + LOG3)."""
    across = audit(by_hand(lists_of(u1=["e"], u2=["a", "c"], u3=[])), small_config())["overall"][
        "across_groups"
    ]
    assert across["diversity"]["value"] == pytest.approx(1 / 3)
    assert across["diversity"]["count"] == 3
    assert across["ndkl"]["value"] == pytest.approx(math.log(2) / (1 + LOG3))
    assert across["ndkl"]["count"] == 1


def test_a_group_that_nobody_sees_has_no_skew():
    """The skew of f is minus infinity, which JSON does not know; m is ln 2 ahead."""
    across = audit(by_hand(lists_of(u1=["c"], u2=["d"], u3=["c"])), small_config())["overall"][
        "across_groups"
    ]
    assert across["min_skew"] is None
    assert across["max_skew"]["value"] == pytest.approx(math.log(2))


def test_only_the_first_ranks_count_and_short_lists_are_allowed():
    lists = lists_of(u1=["a", "c", "b"], u2=["c"], u3=[])
    groups = audit(by_hand(lists), small_config())["overall"]["groups"]
    assert groups["f"]["candidate_share"]["count"] == 1
    assert groups["m"]["exposure_share"]["value"] == pytest.approx((1 + LOG3) / (2 + LOG3))


def test_lists_may_come_in_chunks():
    chunked = pa.concat_tables([LISTS.slice(0, 1), LISTS.slice(1)])
    assert audit(by_hand(chunked), small_config()) == audit(by_hand(), small_config())


def test_a_positive_outside_the_catalogue_cannot_be_found():
    """u1 wanted two items, of which one exists no more: recall is a half."""
    relevant = pa.table({"user_id": ["u1", "u1"], "item_id": ["c", "gone"]})
    overall = audit(by_hand(relevant=relevant), small_config())["overall"]
    assert overall["quality"]["recall@2"]["value"] == pytest.approx(0.5)


def test_without_groups_only_quality_is_audited():
    config = small_config(groups=None)
    measured = by_hand(config=config, catalogue=CATALOGUE.drop(["group"]))
    report = audit(measured, config)
    assert report["groups"] == {}
    assert report["overall"]["groups"] == {}
    assert "across_groups" not in report["overall"]
    assert report["overall"]["quality"]["recall@2"]["value"] == pytest.approx(0.75)


def test_groups_that_no_list_holds_have_no_share_where_nothing_has_one():
    lists = lists_of(u1=["e"], u2=[], u3=[])
    groups = audit(by_hand(lists), small_config())["overall"]["groups"]
    assert groups["f"] == {
        "candidate_share": None,
        "exposure_share": None,
        "exposure_ratio": None,
        "catalogue_coverage": {"items": 0, "of": 2, "share": 0},
    }


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        (lists_of(u1=["a", "zz"]), "item `zz`, which is not in the catalogue"),
        (lists_of(u1=["b"], u2=["a", "a"]), "list of user `u2` holds an item twice"),
        (pa.concat_tables([LISTS, LISTS]), "more than one list"),
    ],
)
def test_lists_that_cannot_be_audited_are_refused(lists, message):
    with pytest.raises(InvalidInputError, match=message):
        by_hand(lists)


class TestSuppression:
    """Twenty users are enough, nineteen are not; two such cells protect one another."""

    @pytest.fixture(scope="class")
    def report(self):
        users = [f"u{i:02}" for i in range(78)]
        config = small_config(
            slices=[{"column": "gender"}], audit={"ks": [2], "bootstrap_samples": 100}
        )
        labels = ["F"] * 20 + ["M"] * 20 + ["X"] * 19 + ["unknown"] * 19
        gender = pa.table({"user_id": users, "slice.gender": labels})
        relevant = pa.table({"user_id": users[1:], "item_id": ["a"] * 77})
        lists = lists_of(**{user: ["a", "c"] for user in users})
        measured = measure(lists, CATALOGUE, gender, relevant, config, {})
        return audit(measured, config), compare(measured, measured, config)

    def test_small_cells_show_nothing_not_even_their_size(self, report):
        for value in ("X", "unknown"):
            assert [r["slices"]["gender"][value] for r in report] == [{"suppressed": True}] * 2

    def test_quality_of_few_users_with_positives_is_withheld(self, report):
        """Of the 20 women 19 have a positive."""
        audited, compared = (r["slices"]["gender"]["F"] for r in report)
        assert audited["users"] == 20
        assert audited["users_with_positives"] is None
        assert audited["quality"] == dict.fromkeys(["recall@2", "ndcg@2", "mrr@2", "hit_rate@2"])
        assert audited["groups"]["f"]["exposure_ratio"] is not None
        assert compared["quality"]["ndcg@2"] == {"difference": None, "relative": None}

    def test_large_cells_are_shown(self, report):
        assert report[0]["overall"]["users"] == 78
        assert report[0]["overall"]["users_with_positives"] == 77
        assert report[0]["slices"]["gender"]["M"]["users_with_positives"] == 20

    def test_differences_are_between_cells_that_are_shown(self, report):
        gender = report[0]["disparities"]["slices"]["gender"]
        assert set(gender["exposure_ratio[f]"]["by_group"]) == {"F", "M"}
        assert {t["value"] for t in report[0]["tests"]["cells"]} == {"F", "M"}


class TestCompare:
    @pytest.fixture(scope="class")
    def runs(self):
        config, tables = fake_audit.config(), fake_audit.world(num_users=400)
        shared = [tables[name] for name in ("catalogue", "users", "relevant")]
        before, after = (measure(tables[n], *shared, config, {}) for n in ("before", "after"))
        return config, before, after

    def test_differences_are_those_of_the_audits(self, runs):
        config, before, after = runs
        old, new = (audit(run, config)["slices"]["gender"]["F"] for run in (before, after))
        change = compare(before, after, config)["slices"]["gender"]["F"]
        was, now = (cell["quality"]["ndcg@100"]["value"] for cell in (old, new))
        found = change["quality"]["ndcg@100"]
        assert found["difference"]["value"] == pytest.approx(now - was)
        assert found["relative"]["value"] == pytest.approx(now / was - 1)
        was, now = (cell["groups"]["female"]["exposure_ratio"]["value"] for cell in (old, new))
        assert change["groups"]["female"]["exposure_ratio"]["value"] == pytest.approx(now - was)

    def test_measures_across_groups_change_by_their_difference(self, runs):
        config, before, after = runs
        old, new = (audit(run, config)["overall"]["across_groups"] for run in (before, after))
        change = compare(before, after, config)["overall"]["across_groups"]
        assert list(change) == ["min_skew", "max_skew", "awrf", "diversity", "ndkl"]
        for name, figure in change.items():
            assert figure["value"] == pytest.approx(new[name]["value"] - old[name]["value"])
            assert figure["count"] == 400

    def test_a_run_does_not_differ_from_itself_in_any_resample(self, runs):
        """The draws are paired: were they not, the interval would not be a point."""
        config, before, _ = runs
        change = compare(before, before, config)["overall"]
        for figure in (
            change["quality"]["ndcg@100"]["relative"],
            change["groups"]["female"]["exposure_ratio"],
        ):
            assert (figure["low"], figure["value"], figure["high"]) == (0, 0, 0)

    def test_groups_without_a_target_have_no_change(self, runs):
        change = compare(runs[1], runs[2], runs[0])["overall"]
        assert change["groups"]["unknown"]["exposure_ratio"] is None

    def test_counts_are_users(self, runs):
        change = compare(runs[1], runs[2], runs[0])["overall"]
        assert change["groups"]["female"]["exposure_ratio"]["count"] == 400
        assert change["quality"]["ndcg@100"]["relative"]["count"] < 400

    def test_other_users_are_refused(self):
        fewer = by_hand(LISTS.slice(0, 2))
        with pytest.raises(InvalidInputError, match="same users"):
            compare(by_hand(), fewer, small_config())

    def test_other_metrics_are_refused(self):
        other = small_config(audit={"ks": [1], "min_users": 1})
        with pytest.raises(InvalidInputError, match=r"audit\.ks"):
            compare(by_hand(), by_hand(config=other), small_config())


@st.composite
def worlds(draw):
    """A catalogue of two groups and `unknown`, and lists of it."""
    labels = ["g0", "g1", *draw(st.lists(st.sampled_from(["g0", "g1", "unknown"]), max_size=5))]
    items = [f"i{i}" for i in range(len(labels))]
    lists = draw(
        st.lists(
            st.permutations(items).flatmap(
                lambda p: st.integers(0, len(p)).map(lambda n: list(p)[:n])
            ),
            min_size=1,
            max_size=6,
        )
    )
    return (
        pa.table({"item_id": items, "group": labels}),
        lists_of(**{f"u{i}": row for i, row in enumerate(lists)}),
    )


def _audit_world(catalogue: pa.Table, lists: pa.Table) -> dict:
    config = small_config(audit={"ks": [3], "min_users": 1, "bootstrap_samples": 100})
    users = pa.table({"user_id": ["u0"], "slice.gender": ["F"]})
    relevant = pa.table({"user_id": ["u0"], "item_id": ["i0"]})
    return audit(measure(lists, catalogue, users, relevant, config, {}), config)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_shares_sum_to_one_over_groups_with_a_target(world):
    groups = _audit_world(*world)["overall"]["groups"]
    for measure_name in ("candidate_share", "exposure_share"):
        shares = [groups[g][measure_name] for g in ("g0", "g1")]
        if all(shares):
            assert sum(s["value"] for s in shares) == pytest.approx(1)


@settings(max_examples=60, deadline=None)
@given(worlds())
def test_all_ratios_are_one_if_and_only_if_shares_are_the_targets(world):
    report = _audit_world(*world)
    cells = [(report["overall"]["groups"][g], report["groups"][g]) for g in ("g0", "g1")]
    if all(cell["exposure_ratio"] for cell, _ in cells):
        parity = all(c["exposure_ratio"]["value"] == pytest.approx(1) for c, _ in cells)
        assert parity == all(
            c["exposure_share"]["value"] == pytest.approx(about["target"]) for c, about in cells
        )


def test_lists_that_take_turns_are_at_parity():
    """Each group is once first and once second, and has half of the catalogue."""
    lists = lists_of(u1=["a", "c"], u2=["d", "b"], u3=[])
    groups = audit(by_hand(lists), small_config())["overall"]["groups"]
    assert [groups[g]["exposure_ratio"]["value"] for g in "fm"] == [pytest.approx(1)] * 2


@settings(max_examples=30, deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_the_order_of_the_users_changes_nothing(world, random):
    catalogue, lists = world
    order = list(range(len(lists)))
    random.shuffle(order)
    assert _audit_world(catalogue, lists.take(order)) == _audit_world(catalogue, lists)


@pytest.fixture(scope="module")
def protocol(movielens_1m):
    """The module with the reference definitions, loaded from where the shared data lies."""
    path = movielens_1m.parents[1] / "bench" / "ml1m_protocol.py"
    if not path.is_file():
        pytest.skip("ml1m_protocol.py is not there: it belongs into ../shared/bench")
    spec = importlib.util.spec_from_file_location("ml1m_protocol", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


def _popular_unseen(data) -> np.ndarray:
    """The 100 most popular movies that a user has neither in training nor in validation."""
    known = data.of(0, 1)
    user, item = np.searchsorted(data.users, known[:, 0]), np.searchsorted(data.items, known[:, 1])
    score = np.tile(np.bincount(item, minlength=len(data.items)), (len(data.users), 1))
    score[user, item] = -1
    return data.items[np.argsort(-score, axis=1, kind="stable")[:, :100]]


def test_popularity_lists_of_movielens_1m_measure_as_the_protocol_says(movielens_1m, protocol):
    """Equal to 1e-9 overall and per gender; the protocol looks at users with a test positive."""
    data = protocol.load(movielens_1m)
    top = _popular_unseen(data)
    expected = protocol.evaluate(data, top)

    config = fake_audit.config(
        slices=[{"column": "gender"}], audit={"bootstrap_samples": 100, "ks": [20, 100]}
    )
    test = data.of(2).astype(str)
    evaluated = np.isin(data.users.astype(str), test[:, 0])
    users = data.users[evaluated].astype(str)
    lists = lists_of(**dict(zip(users, top[evaluated].astype(str).tolist(), strict=True)))
    report = audit(
        measure(
            lists,
            pa.table({"item_id": data.items.astype(str), "group": data.director_gender}),
            pa.table({"user_id": data.users.astype(str), "slice.gender": data.user_gender}),
            pa.table({"user_id": test[:, 0], "item_id": test[:, 1]}),
            config,
            {},
        ),
        config,
    )
    cells = {"all": report["overall"], **report["slices"]["gender"]}
    for part, figures in expected.items():
        for metric in ("recall@20", "ndcg@20", "recall@100", "ndcg@100"):
            assert cells[part]["quality"][metric]["value"] == pytest.approx(
                figures[metric], rel=0, abs=1e-9
            )
        for group in ("female", "male", "mixed"):
            found = cells[part]["groups"][group]["exposure_ratio"]["value"]
            assert found == pytest.approx(figures[f"exposure_ratio[{group}]"], rel=0, abs=1e-9)
