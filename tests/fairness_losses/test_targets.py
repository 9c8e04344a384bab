"""Target shares of every kind, and what is wrong with the ones that cannot be."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairness_losses.config import TargetConfig
from fairness_losses.errors import InvalidInputError
from fairness_losses.groups import Groups
from fairness_losses.targets import debiased_relevance, target_shares

# Columns: men, women, unknown.
CATALOGUE = Groups.from_labels(["men"] * 3 + ["women"] + ["unknown"] * 4)


def explicit(shares: dict[str, float], include_unknown: bool = False) -> TargetConfig:
    return TargetConfig(kind="explicit", shares=shares, include_unknown=include_unknown)


def test_catalogue_target_is_the_share_among_items_whose_group_is_known():
    """3 men and 1 woman among 8 items, 4 of them unknown."""
    np.testing.assert_allclose(target_shares(CATALOGUE, TargetConfig()), [0.75, 0.25, 0.0])


def test_catalogue_target_with_unknown_is_the_share_of_all_items():
    target = target_shares(CATALOGUE, TargetConfig(include_unknown=True))
    np.testing.assert_allclose(target, [3 / 8, 1 / 8, 4 / 8])


@pytest.mark.parametrize(("include", "expected"), [(False, [1 / 2, 1 / 2, 0]), (True, [1 / 3] * 3)])
def test_uniform_target(include, expected):
    config = TargetConfig(kind="uniform", include_unknown=include)
    np.testing.assert_allclose(target_shares(CATALOGUE, config), expected)


def test_catalogue_target_counts_fractions_of_items():
    """A film by both counts half for each: (1/2, 1/2 + 1) of 2."""
    groups = Groups(("men", "women"), np.array([[0.5, 0.5], [0, 1]], np.float32))
    np.testing.assert_allclose(target_shares(groups, TargetConfig()), [0.25, 0.75])


def test_explicit_shares_are_put_in_the_order_of_the_labels():
    target = target_shares(CATALOGUE, explicit({"women": 0.6, "men": 0.4}))
    np.testing.assert_allclose(target, [0.4, 0.6, 0.0])


def test_explicit_shares_may_include_unknown():
    config = explicit({"women": 0.25, "men": 0.25, "unknown": 0.5}, include_unknown=True)
    np.testing.assert_allclose(target_shares(CATALOGUE, config), [0.25, 0.25, 0.5])


def test_explicit_shares_for_other_groups_are_refused_by_name():
    with pytest.raises(
        InvalidInputError, match=r"Of those, 1 have no share\. Not in the catalogue: wimmen\."
    ):
        target_shares(CATALOGUE, explicit({"wimmen": 0.5, "men": 0.5}))


def test_a_missing_group_is_counted_but_not_named():
    with pytest.raises(
        InvalidInputError, match=r"groups of the catalogue\. Of those, 1 have no share\.$"
    ):
        target_shares(CATALOGUE, explicit({"men": 1}))


def test_unknown_is_missing_where_it_is_included():
    with pytest.raises(InvalidInputError, match=r"1 have no share\.$"):
        target_shares(CATALOGUE, explicit({"women": 0.5, "men": 0.5}, include_unknown=True))


def test_a_catalogue_of_unknowns_has_no_target():
    groups = Groups.from_labels(["unknown", "unknown"])
    with pytest.raises(InvalidInputError, match="include_unknown"):
        target_shares(groups, TargetConfig())
    np.testing.assert_array_equal(target_shares(groups, TargetConfig(include_unknown=True)), [1.0])


@given(
    st.lists(st.sampled_from(["a", "b", "c", "unknown"]), min_size=1).filter(
        lambda labels: set(labels) != {"unknown"}
    ),
    st.sampled_from(["catalogue", "uniform"]),
    st.booleans(),
)
def test_targets_sum_to_1_and_are_0_for_excluded_groups_alone(labels, kind, include_unknown):
    groups = Groups.from_labels(labels)
    target = target_shares(groups, TargetConfig(kind=kind, include_unknown=include_unknown))
    assert target.sum() == pytest.approx(1.0)
    np.testing.assert_array_equal(target == 0, groups.is_unknown & (not include_unknown))


def test_population_counts_are_normalised():
    """51 and 49 of 100, or any multiple of them."""
    config = TargetConfig(kind="population", shares={"women": 5100, "men": 4900})
    np.testing.assert_allclose(target_shares(CATALOGUE, config), [0.49, 0.51, 0.0])


def test_explicit_shares_that_do_not_sum_to_1_are_refused_with_their_sum():
    with pytest.raises(ValueError, match=r"`shares` should sum to 1\. Received: 0\.9\."):
        explicit({"women": 0.4, "men": 0.5})


def test_merit_is_the_share_of_what_users_chose():
    """Men were chosen 3 + 0 + 1 times, women 12 times, unknown 8 times: 4 and 12 of 16."""
    relevance = np.array([3, 0, 1, 12, 2, 2, 2, 2])
    target = target_shares(CATALOGUE, TargetConfig(kind="merit"), relevance)
    np.testing.assert_allclose(target, [0.25, 0.75, 0.0])


def test_merit_without_choices_is_refused():
    with pytest.raises(ValueError, match=r"needs `relevance` of 8 items. Received: None"):
        target_shares(CATALOGUE, TargetConfig(kind="merit"))


def test_a_group_that_nobody_chose_cannot_have_a_target_by_merit():
    relevance = np.array([3, 0, 1, 0, 2, 2, 2, 2])
    with pytest.raises(InvalidInputError, match=r"gives the group `women` no exposure"):
        target_shares(CATALOGUE, TargetConfig(kind="merit"), relevance)


def test_debiased_relevance_counts_what_was_rarely_shown_more():
    """Item 0: shown always, chosen twice; item 1: shown half of the time, chosen once; item 2: a
    propensity of 0.001 counts as the floor of 0.1."""
    relevance = debiased_relevance(
        np.array([0, 0, 1, 2]), np.array([1.0, 1.0, 0.5, 0.001]), num_items=4, floor=0.1
    )
    np.testing.assert_allclose(relevance, [2, 2, 10, 0])


def test_debiased_relevance_does_not_depend_on_what_was_shown():
    """Two items, equally liked: one shown to 90 %, the other to 10 % of 100,000 users."""
    rng = np.random.default_rng(0)
    shown = np.array([0.9, 0.1])
    item, _ = np.nonzero(rng.random((2, 100_000)) < shown[:, None] * 0.3)
    relevance = debiased_relevance(item, shown[item], num_items=2)
    np.testing.assert_allclose(relevance, [30_000, 30_000], rtol=0.03)


@pytest.mark.parametrize("propensity", [0.0, -0.1, 1.5, float("nan")])
def test_a_propensity_is_a_probability(propensity):
    with pytest.raises(ValueError, match=r"`propensity` should be in \(0, 1\]\. Received: "):
        debiased_relevance(np.array([0]), np.array([propensity]), num_items=1)
