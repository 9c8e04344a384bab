"""Groups of a catalogue: their order, their shares, and `unknown`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairness_losses.groups import Groups

LABELS = st.lists(
    st.one_of(st.just("unknown"), st.text("abz é×~", min_size=1, max_size=4)), min_size=1
)


def test_labels_are_sorted_and_unknown_is_last_whatever_its_letter():
    groups = Groups.from_labels(["zoe", "unknown", "amy", "amy"])
    assert groups.labels == ("amy", "zoe", "unknown")
    np.testing.assert_array_equal(groups.membership, [[0, 1, 0], [0, 0, 1], [1, 0, 0], [1, 0, 0]])
    assert groups.membership.dtype == np.float32


def test_unknown_is_a_group_of_its_own_with_a_share():
    groups = Groups.from_labels(["b", "unknown", "a", "a"])
    np.testing.assert_array_equal(groups.catalogue_share, [0.5, 0.25, 0.25])
    np.testing.assert_array_equal(groups.is_unknown, [False, False, True])


def test_only_the_exact_label_is_unknown():
    groups = Groups.from_labels(["Unknown", "unknown", "unknown × new"])
    assert groups.labels == ("Unknown", "unknown × new", "unknown")


def test_groups_without_unknown():
    assert not Groups.from_labels(["b", "a"]).is_unknown.any()


@given(LABELS)
def test_every_item_is_wholly_in_the_group_of_its_label(labels):
    groups = Groups.from_labels(labels)
    assert [groups.labels[row.argmax()] for row in groups.membership] == labels
    assert set(np.unique(groups.membership)) <= {0.0, 1.0}
    np.testing.assert_array_equal(groups.membership.sum(axis=1), 1.0)
    known = [label for label in groups.labels if label != "unknown"]
    assert list(groups.labels) == sorted(known) + ["unknown"] * ("unknown" in labels)
    assert groups.catalogue_share.sum() == pytest.approx(1.0)


def test_an_item_may_have_a_fraction_in_each_of_two_groups():
    """Three films, one by a woman and a man: women have (1 + 1/2) / 3 of the catalogue."""
    groups = Groups(("men", "women"), np.array([[0, 1], [0.5, 0.5], [1, 0]], np.float32))
    np.testing.assert_allclose(groups.catalogue_share, [0.5, 0.5])


@pytest.mark.parametrize("shape", [(3,), (3, 3)])
def test_membership_has_one_column_per_label(shape):
    with pytest.raises(ValueError, match=r"\[num_items, 2\].*Received"):
        Groups(("a", "b"), np.zeros(shape, np.float32))


def test_items_of_several_groups_have_equal_parts_in_each():
    """A film by two women and a man, one by a man, one by nobody known."""
    groups = Groups.from_sets([["woman", "woman", "man"], ["man"], []])
    assert groups.labels == ("man", "woman", "unknown")
    np.testing.assert_allclose(groups.membership, [[1 / 3, 2 / 3, 0], [1, 0, 0], [0, 0, 1]])


def test_crossed_groups_multiply_and_unknown_in_either_is_unknown():
    gender = Groups.from_sets([["woman", "man"], ["man"], ["unknown"], ["woman"]])
    age = Groups.from_labels(["new", "old", "new", "unknown"])
    crossed = gender.crossed(age)
    assert crossed.labels == ("man × new", "man × old", "woman × new", "unknown")
    np.testing.assert_allclose(
        crossed.membership, [[0.5, 0, 0.5, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 1]]
    )


@given(st.lists(st.tuples(*[st.sampled_from(["a", "b", "unknown"])] * 2), min_size=1))
def test_crossed_memberships_sum_to_1(pairs):
    first, second = zip(*pairs, strict=True)
    crossed = Groups.from_labels(first).crossed(Groups.from_labels(second))
    np.testing.assert_allclose(crossed.membership.sum(axis=1), 1.0)


def test_crossed_attributes_are_of_the_same_items():
    with pytest.raises(ValueError, match=r"`other` should have 2 items\. Received: 1\."):
        Groups.from_labels(["a", "b"]).crossed(Groups.from_labels(["c"]))
