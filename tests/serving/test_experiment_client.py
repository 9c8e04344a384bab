"""A client asks for what a user's arm is served, and says which arm it was."""

import contextlib

import pytest
from small_experiment import experiment

from serving.experiments.assignment import Assigner
from serving.experiments.client import ExperimentClient

ARMS = [
    {"name": "control", "share": 0.5, "label": "stable"},
    {"name": "treatment", "share": 0.5, "version": 7, "policy_key": "k", "signature": "controlled"},
]


class Recorder:
    """Stands for `Client`, and remembers what it was asked."""

    def __init__(self):
        self.asked, self.closed = [], []

    @contextlib.contextmanager
    def __call__(self, address, model, version, label):
        outer, number = self, version or label

        class Connected:
            def retrieve(self, features, **more):
                outer.asked.append((number, features, more))
                return "lists"

        yield Connected()
        self.closed.append(number)


@pytest.fixture
def recorder():
    return Recorder()


def user_of(defined, number):
    return next(u for u in map(str, range(1000)) if Assigner(defined).number(u) == number)


@pytest.mark.parametrize("number", [0, 1])
def test_the_version_and_policy_of_the_arm_are_asked(recorder, number):
    defined = experiment(arms=ARMS)
    user = user_of(defined, number)
    with ExperimentClient(defined, "x:1", connect=recorder) as client:
        found = client.retrieve(
            user, {"user_id": [user]}, other_arms={"page": "b"}, exclude=[["i"]]
        )
    assert found == "lists"
    expected = [
        ("stable", {"policy_key": None, "signature": None, "arm": "page:b;fair-tower:control"}),
        (7, {"policy_key": "k", "signature": "controlled", "arm": "page:b;fair-tower:treatment"}),
    ][number]
    version, more = expected
    assert recorder.asked == [(version, {"user_id": [user]}, {**more, "exclude": [["i"]]})]
    assert sorted(recorder.closed, key=str) == [7, "stable"]


def test_who_does_not_take_part_gets_the_control_and_no_arm(recorder):
    defined = experiment(arms=ARMS, eligibility=[{"attribute": "country", "any_of": ["de"]}])
    user = user_of(defined, 1)
    with ExperimentClient(defined, "x:1", connect=recorder) as client:
        client.retrieve(user, {}, {"country": "fr"})
        client.retrieve(user, {}, {"country": "de"})
    assert [(version, more["arm"]) for version, _, more in recorder.asked] == [
        ("stable", ""),
        (7, "fair-tower:treatment"),
    ]
