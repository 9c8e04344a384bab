import json
import math

import fake_audit
import numpy as np
import pyarrow as pa
import pytest

from pipelines.audit.leakage import leakage, probe


def phi(x: float) -> float:
    """Distribution function of the standard normal."""
    return (1 + math.erf(x / math.sqrt(2))) / 2


def planted(num_rows: int, share: float, shift: float, dim: int = 6, seed: int = 0):
    """Vectors whose mean is shifted for the members of `b`, and the labels."""
    rng = np.random.default_rng(seed)
    is_b = np.arange(num_rows) < share * num_rows
    vectors = rng.normal(size=(num_rows, dim)) + shift * is_b[:, None] * (np.arange(dim) == 2)
    order = rng.permutation(num_rows)
    return vectors[order].astype(np.float32), np.where(is_b, "b", "a")[order]


@pytest.fixture(scope="module")
def rare():
    return probe(*planted(8000, share=0.2, shift=2.0), seed=1, samples=300)


def test_a_planted_attribute_is_recovered_as_well_as_can_be():
    """Means 2 apart, unit variance, equal halves: the midpoint is best, right for Phi(1) = 84.1 %.

    The standard error of 6000 answers is sqrt(0.84 * 0.16 / 6000) = 0.005.
    """
    found = probe(*planted(6000, share=0.5, shift=2.0), seed=1, samples=300)
    for measure in ("accuracy", "balanced_accuracy"):
        figure = found[measure]
        assert figure["value"] == pytest.approx(phi(1), abs=0.015)
        assert figure["low"] < phi(1) < figure["high"]
        assert figure["high"] - figure["low"] == pytest.approx(2 * 1.96 * 0.0047, rel=0.2)
        assert figure["count"] == 6000
    assert found["baseline"] == found["balanced_baseline"] == 0.5


def test_a_rare_label_is_answered_as_each_measure_asks(rare):
    """One in five is `b`, 2 apart: for accuracy the cut moves from the midpoint by ln(4) / 2.

    It is right for 0.8 * Phi(1 + 0.693) + 0.2 * Phi(1 - 0.693) = 0.8 * 0.955 + 0.2 * 0.620 = 88.8 %
    where `a` alone is right for 80 %. For the balanced accuracy the midpoint stays best: Phi(1).
    """
    cut = math.log(4) / 2
    best = 0.8 * phi(1 + cut) + 0.2 * phi(1 - cut)
    assert best == pytest.approx(0.888, abs=0.001)
    assert rare["accuracy"]["value"] == pytest.approx(best, abs=0.012)
    assert rare["balanced_accuracy"]["value"] == pytest.approx(phi(1), abs=0.02)
    assert rare["baseline"] == pytest.approx(0.8)
    assert rare["balanced_baseline"] == 0.5


def test_the_same_seed_gives_the_same_result(rare):
    data = planted(8000, share=0.2, shift=2.0)
    assert probe(*data, seed=1, samples=300) == rare
    assert probe(*data, seed=2, samples=300)["accuracy"] != rare["accuracy"]


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_noise_gives_nothing_away(share):
    """Of thirty intervals most hold the guess, and hardly more are above it than chance allows.

    Two above are expected (the docstring says why not fewer); six would have a chance of 1 %.
    """
    found = [
        probe(*planted(300, share, shift=0.0, seed=seed), seed=seed, samples=200)
        for seed in range(30)
    ]
    for measure, guess in (("accuracy", "baseline"), ("balanced_accuracy", "balanced_baseline")):
        above = sum(each[measure]["low"] > each[guess] for each in found)
        below = sum(each[measure]["high"] < each[guess] for each in found)
        assert above < 6
        assert above + below < 9


def test_rows_are_answered_by_a_classifier_that_has_not_seen_them():
    """With more dimensions than rows a fit on all rows would recover any labels at all."""
    rng = np.random.default_rng(0)
    labels = np.tile(["a", "b"], 50)
    found = probe(rng.normal(size=(100, 200)), labels, seed=0, samples=300)
    assert found["accuracy"]["value"] < 0.7


def test_three_labels_apart_are_all_recovered():
    labels = np.repeat(["x", "y", "z"], 40)
    vectors = np.eye(3)[np.repeat([0, 1, 2], 40)]
    found = probe(vectors, labels, seed=0, samples=100)
    certain = {"value": 1.0, "low": 1.0, "high": 1.0, "count": 120}
    assert found["accuracy"] == found["balanced_accuracy"] == certain
    assert found["labels"] == ["x", "y", "z"]
    assert found["baseline"] == found["balanced_baseline"] == pytest.approx(1 / 3)


def test_constant_vectors_leave_the_guess():
    """Nothing to see: the most frequent label always, one label of each two in every fold."""
    labels = np.repeat(["a", "b"], [60, 40])
    found = probe(np.ones((100, 4), np.float32), labels, seed=0, samples=100)
    assert found["accuracy"]["value"] == found["baseline"] == pytest.approx(0.6)
    assert found["balanced_accuracy"]["value"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "labels",
    [
        ["a"] * 100,
        ["unknown"] * 100,
        ["a"] * 81 + ["b"] * 19,
        ["a"] * 50 + ["unknown"] * 50,
        [],
    ],
)
def test_fewer_than_two_labels_of_enough_members_are_withheld(labels):
    vectors = np.zeros((len(labels), 2))
    assert probe(vectors, np.array(labels, dtype=str), seed=0) == {"suppressed": True}


def test_small_labels_and_unknown_are_left_out_and_counted():
    labels = np.repeat(["a", "b", "c", "unknown"], [60, 40, 19, 30])
    vectors = np.random.default_rng(0).normal(size=(149, 3))
    found = probe(vectors, labels, seed=0, samples=100)
    assert found["labels"] == ["a", "b"]
    assert found["accuracy"]["count"] == 100
    assert found["baseline"] == 0.6
    assert found["unknown"] == 30
    assert found["withheld_labels"] == 1


@pytest.mark.parametrize(("unknown", "told"), [(0, 0), (19, None), (20, 20)])
def test_few_unknown_are_not_counted_out(unknown, told):
    labels = np.repeat(["a", "b", "unknown"], [30, 30, unknown])
    vectors = np.random.default_rng(0).normal(size=(60 + unknown, 3))
    assert probe(vectors, labels, seed=0, samples=100)["unknown"] == told


def test_a_label_needs_a_member_in_every_fold():
    labels = np.repeat(["a", "b", "c"], [30, 30, 4])
    vectors = np.random.default_rng(0).normal(size=(64, 3))
    found = probe(vectors, labels, seed=0, samples=100, min_members=1)
    assert found["labels"] == ["a", "b"]


def test_at_most_so_many_rows_are_drawn():
    vectors, labels = planted(1000, share=0.5, shift=2.0)
    found = probe(vectors, labels, seed=0, samples=100, max_rows=300)
    assert found["accuracy"]["count"] == 300


def test_vectors_that_are_no_numbers_are_refused():
    vectors = np.full((60, 2), np.nan)
    with pytest.raises(ValueError, match="`vectors` should be finite"):
        probe(vectors, np.repeat(["a", "b"], 30), seed=0)


class TestOfARun:
    @pytest.fixture(scope="class")
    def found(self):
        config = fake_audit.config(audit={"bootstrap_samples": 100})
        tables = fake_audit.world(num_users=600, num_items=300)
        queries, items = fake_audit.vectors_of(tables)
        return leakage(tables["users"], queries, tables["catalogue"], items, config)

    def test_every_sliced_column_and_the_group_are_probed_and_no_crossing(self, found):
        assert [(each["side"], each["attribute"]) for each in found] == [
            ("users", "gender"),
            ("users", "age"),
            ("items", "director_gender"),
        ]

    def test_what_was_planted_is_found(self, found):
        gender, age, _ = found
        assert gender["balanced_accuracy"]["low"] > 0.7
        assert age["balanced_accuracy"]["low"] < age["balanced_baseline"]

    def test_it_is_json(self, found):
        assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_users_without_a_value_are_unknown():
    config = fake_audit.config(groups=None, slices=[{"column": "gender"}])
    gender = pa.array([None] * 25 + ["F"] * 30 + ["M"] * 30)
    users = pa.table({"slice.gender": gender})
    vectors = np.random.default_rng(0).normal(size=(85, 2))
    (found,) = leakage(users, vectors, pa.table({}), np.zeros((0, 2)), config)
    assert found["unknown"] == 25
    assert found["labels"] == ["F", "M"]
