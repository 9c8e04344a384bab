"""Bounds under unknown labels, and the ratios that wrong labels would hide."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairness_losses.config import TargetConfig
from fairness_losses.exposure import exposure_ratio
from fairness_losses.groups import Groups
from fairness_losses.targets import target_bounds, target_shares
from pipelines.audit.bounds import may_belong
from pipelines.audit.figures import audit, measure
from pipelines.audit.label_noise import corrected_ratio
from pipelines.config import RunConfig

GENDERS, LABELS = ["F", "M", "unknown"], ["f", "m", "unknown"]


def test_what_may_belong_to_a_cell():
    values = ["F × old", "F × unknown", "unknown × old", "unknown × unknown", "M × unknown"]
    assert may_belong("F × old", values) == values[1:4]
    assert may_belong("F", ["F", "M", "unknown"]) == ["unknown"]
    assert may_belong("unknown", ["F", "unknown"]) == []


def test_bounds_of_a_target_by_hand():
    """Of five items two are f, two m: f may be two or three fifths of all."""
    groups = Groups.from_labels(["f", "f", "m", "m", "unknown"])
    np.testing.assert_allclose(
        target_bounds(groups, TargetConfig()), [[0.4, 0.4, 0.2], [0.6, 0.6, 0.2]]
    )
    merit = target_bounds(groups, TargetConfig(kind="merit"), np.array([3, 1, 2, 0, 4]))
    np.testing.assert_allclose(merit, [[0.4, 0.2, 0.4], [0.8, 0.6, 0.4]])
    given_shares = TargetConfig(kind="explicit", shares={"f": 0.3, "m": 0.7})
    np.testing.assert_allclose(target_bounds(groups, given_shares), [[0.3, 0.7, 0]] * 2)


def audited(labels, genders, lists, positives=(), kind="catalogue", min_users=1):
    items = [f"i{i}" for i in range(len(labels))]
    users = [f"u{i}" for i in range(len(genders))]
    config = RunConfig.model_validate(
        {
            "name": "bounds",
            "data": {"dataset": "synthetic"},
            "groups": {"columns": ["maker"]},
            "slices": [{"column": "gender"}],
            "fairness": {"target": {"kind": kind}},
            "audit": {
                "ks": [2],
                "min_users": min_users,
                "bootstrap_samples": 100,
                "permutations": 0,
            },
        }
    )
    rows = [[items[i] for i in row] for row in lists]
    wanted = {
        "user_id": pa.array([users[u] for u, _ in positives], pa.string()),
        "item_id": pa.array([items[i] for _, i in positives], pa.string()),
    }
    tables = (
        pa.table(
            {
                "user_id": users,
                "candidate_ids": pa.array(rows, pa.list_(pa.string())),
                "policy": ["p"] * len(users),
                "model_version": ["1"] * len(users),
            }
        ),
        pa.table({"item_id": items, "group": labels}),
        pa.table({"user_id": users, "slice.gender": genders}),
        pa.table(wanted),
    )
    return audit(measure(*tables, config, {}), config)


def test_unknown_items_by_hand():
    """One list of f and an unknown item: shares of slots 1/2 to 1 of f, 0 to 1/2 of m.

    The catalogue is f, m and unknown, so f's target is 1/3 to 2/3, and its ratio, with the
    exposure share e = 1 / (1 + 1 / log2(3)) to 1, e / (2/3) to 1 / (1/3).
    """
    bounds = audited(["f", "m", "unknown"], ["F"], [[0, 2]])["overall"]["bounds"]
    assert (bounds["unknown_items"], bounds["unknown_lists"]) == (0.5, 0.0)
    groups = bounds["groups"]
    assert groups["f"]["candidate_share"] == {"low": 0.5, "high": 1.0}
    assert groups["m"]["candidate_share"] == {"low": 0.0, "high": 0.5}
    e = 1 / (1 + 1 / np.log2(3))
    assert groups["f"]["exposure_ratio"] == pytest.approx({"low": 1.5 * e, "high": 3.0})
    assert set(groups) == {"f", "m"}


def test_without_unknown_labels_the_bounds_are_the_figures():
    cell = audited(["f", "m"], ["F", "M"], [[0, 1], [1, 0]], [(0, 0)])["slices"]["gender"]["F"]
    for group, figures in cell["bounds"]["groups"].items():
        for name, pair in figures.items():
            value = cell["groups"][group][name]["value"]
            assert pair == pytest.approx({"low": value, "high": value})
    value = cell["quality"]["ndcg@2"]["value"]
    assert cell["bounds"]["quality"]["ndcg@2"] == pytest.approx({"low": value, "high": value})


worlds = st.tuples(
    st.lists(st.sampled_from(LABELS), min_size=1, max_size=3).map(lambda more: ["f", "m", *more]),
    st.lists(st.sampled_from(GENDERS), min_size=1, max_size=3).map(lambda more: ["F", *more]),
    st.integers(0, 2**32 - 1),
)


@settings(max_examples=25, deadline=None)
@given(worlds, st.sampled_from(["catalogue", "uniform"]))
def test_whatever_the_labels_are_the_figures_are_within_the_bounds(world, kind):
    """All ways to fill the labels in, of items and of users, one by one."""
    labels, genders, seed = world
    rng = np.random.default_rng(seed)
    lists = [rng.permutation(len(labels))[:2] for _ in genders]
    chosen = [(u, int(rng.integers(len(labels)))) for u in range(len(genders))]
    known = audited(labels, genders, lists, chosen, kind)
    bounds = known["slices"]["gender"]["F"]["bounds"]
    fill = [["f", "m"] if label == "unknown" else [label] for label in labels]
    fill_users = [["F", "M"] if g == "unknown" else [g] for g in genders]
    for items in itertools.product(*fill):
        for users in itertools.product(*fill_users):
            cell = audited(list(items), list(users), lists, chosen, kind)["slices"]["gender"]["F"]
            for group in ("f", "m"):
                for name, pair in bounds["groups"][group].items():
                    figure = cell["groups"][group][name]
                    if figure is not None and pair is not None:
                        assert pair["low"] - 1e-9 <= figure["value"] <= pair["high"] + 1e-9
            for name, pair in bounds["quality"].items():
                figure = cell["quality"][name]
                if figure is not None and pair is not None:
                    assert pair["low"] - 1e-9 <= figure["value"] <= pair["high"] + 1e-9


def test_users_who_are_not_shown_are_not_in_bounds_either():
    """One user's slice is unknown: with two as the least, nothing that follows is told."""
    genders = ["F", "F", "M", "M", "M", "X", "unknown"]
    shown = audited(["f", "m"], genders, [[0]] * 7)["slices"]["gender"]["F"]
    assert shown["bounds"]["unknown_lists"] == pytest.approx(1 / 3)
    hidden = audited(["f", "m"], genders, [[0]] * 7, min_users=2)["slices"]["gender"]
    assert hidden["unknown"] == hidden["X"] == {"suppressed": True}
    assert hidden["F"]["users"] == 2
    assert hidden["F"]["bounds"] is None


@pytest.mark.parametrize("from_labels", [True, False])
def test_wrong_labels_are_undone_exactly(from_labels):
    """True shares, blurred as the formula says, come back; with them the true ratio."""
    exposure, target, rate = np.array([0.1, 0.6, 0.3]), np.array([0.2, 0.5, 0.3]), 0.1
    blur = (1 - rate - rate / 2) * np.eye(3) + rate / 2
    observed = exposure @ blur
    observed_target = target @ blur if from_labels else target
    np.testing.assert_allclose(
        corrected_ratio(observed, observed_target, rate, from_labels), exposure / target
    )


def test_errors_hide_a_difference():
    """10 % of two groups' labels are swapped: 0.8 was (0.4 - 0.1) / (0.5 - 0.1) = 0.75."""
    share, target = np.array([0.4, 0.6]), np.array([0.5, 0.5])
    np.testing.assert_allclose(corrected_ratio(share, target, 0.1, True), [0.75, 1.25])


@pytest.mark.parametrize(
    ("share", "rate"),
    [
        ([0.04, 0.96], 0.05),  # Less than errors alone would make.
        ([0.4, 0.6], 0.5),  # Labels that say nothing.
    ],
)
def test_what_cannot_be_known_is_not_said(share, rate):
    found = corrected_ratio(np.array(share), np.array([0.5, 0.5]), rate, True)
    assert np.isnan(found[0])


def test_groups_without_a_target_have_no_ratio():
    groups = Groups.from_labels(["f", "m", "unknown"])
    target = target_shares(groups, TargetConfig())
    share = np.array([0.3, 0.7, 0.2])
    found = corrected_ratio(share, target, 0.0, True)
    np.testing.assert_allclose(found, [0.6, 1.4, np.nan])
    np.testing.assert_allclose(found, exposure_ratio(share, target))
