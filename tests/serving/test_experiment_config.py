"""Definitions that make no sense are refused, and one that runs is known by its fingerprint."""

import pathlib

import numpy as np
import pyarrow as pa
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from small_experiment import experiment, guarded

from serving.experiments.arms import NAME
from serving.experiments.config import Experiment
from serving.experiments.labels import NO_ARM, UNKNOWN_ARM, arm_label, arm_numbers

READY = pathlib.Path(__file__).resolve().parents[2] / "configs" / "experiments"
MEAN = {"kind": "mean", "name": "clicks", "value": "clicks"}
WOMEN = {"kind": "exposure", "name": "exposure", "groups": ["female"], "margin": 0.05}
A, B = ({"name": n, "share": 0.5, "label": n} for n in ("a", "b"))


@pytest.mark.parametrize("path", sorted(READY.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_ready_definitions_are_valid(path):
    Experiment.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arms": [A, {**B, "share": 0.4}]}, "should sum to 1. Received: 0.9"),
        ({"arms": [A, {**B, "name": "a"}]}, "different names. Received: a, a"),
        ({"arms": [A, {"name": "b", "share": 0.5}]}, "the arm `b` should say what is served"),
        ({"arms": [A, {**B, "version": 3}]}, "a `label` and a `version`: give one"),
        ({"arms": [A, {**B, "name": "b;a:a"}]}, "String should match pattern"),
        ({"eligibility": [{"attribute": "gender", "any_of": ["f"]}]}, "`gender`, which is sensit"),
        (
            {"slices": ["plan"], "eligibility": [{"attribute": "plan", "any_of": ["free"]}]},
            "`plan`, which is sensitive",
        ),
        ({"eligibility": [{"attribute": "country"}]}, "should have one of `any_of`"),
        ({"layer": {"name": "page", "buckets": [0, 10_000]}}, "of 0 to 9999. Received: 0 and 10"),
        ({"end": "2026-11-01T00:00:00Z"}, "`end` should be after `start`"),
        ({"start": "2026-11-01T00:00:00"}, "should have timezone info"),
        ({"metrics": {"primary": MEAN, "secondary": [MEAN]}}, "two metrics are called `clicks`"),
        (
            {"metrics": {"primary": MEAN, "guardrails": [{**MEAN, "name": "x"}]}},
            "guardrail `x` needs a `margin`",
        ),
        ({"metrics": {"primary": {**MEAN, "margin": 0.1}}}, "`clicks` is no guardrail"),
        ({"metrics": {"primary": MEAN, "guardrails": [WOMEN]}}, "needs the section `exposure`"),
        (
            {
                "metrics": {"primary": MEAN, "guardrails": [WOMEN]},
                "exposure": {"targets": {"a": 1, "b": 1}},
            },
            "group `female`, which has no share",
        ),
        ({"exposure": {"targets": {"unknown": 1, "b": 1}}}, "`unknown` is no group"),
        ({"sampling": 0.1}, "Extra inputs are not permitted"),
    ],
)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        experiment(**changes)


def test_the_fingerprint_is_another_when_anything_but_traffic_is():
    fingerprint = guarded().fingerprint()
    assert guarded(traffic=0.2).fingerprint() == fingerprint
    for change in ({"alpha": 0.1}, {"salt": "x"}, {"end": "2026-11-17T00:00:00Z"}):
        assert guarded(**change).fingerprint() != fingerprint


names = st.from_regex(NAME, fullmatch=True)


@given(st.dictionaries(names, names, min_size=1, max_size=4))
def test_every_arm_of_a_label_is_read_from_it(arms):
    label = pa.array([arm_label(arms)])
    for name, arm in arms.items():
        assert arm_numbers(label, name, ["other arm", arm]).tolist() == [1]


def test_labels_of_other_experiments_and_unknown_arms_are_told_apart():
    labels = pa.array(["x:a", "y:b;x:b", None, "", "y:a", "x:c", "x:a;x:b", "a", "xx:a"])
    found = arm_numbers(labels, "x", ["a", "b"])
    none, unknown = NO_ARM, UNKNOWN_ARM
    np.testing.assert_array_equal(found, [0, 1, none, none, none, unknown, unknown, none, none])
