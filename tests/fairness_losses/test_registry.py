"""Regularizers by name, and what importing the room costs."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import fairness_losses
from fairness_losses.errors import InvalidInputError
from fairness_losses.regularizers.base import Regularizer
from fairness_losses.regularizers.exposure_parity import ExposureParity

# What a regularizer cannot be made without.
REQUIRED = {
    "exposure_constraint": {"target": [0.5, 0.5], "num_slices": 2},
    "exposure_parity": {"target": [0.5, 0.5]},
    "worst_group": {"num_slices": 2},
}


def test_the_public_names_of_the_room():
    assert fairness_losses.__all__ == ["arguments_of", "available", "get"]
    assert fairness_losses.available() == [
        "absolute_correlation",
        "expected_exposure",
        "exposure_constraint",
        "exposure_parity",
        "head_tail",
        "joint_exposure",
        "min_diff",
        "pairwise_fairness",
        "popularity_correlation",
        "worst_group",
    ]


@pytest.mark.parametrize("name", fairness_losses.available())
def test_every_name_gets_a_regularizer_that_its_config_makes_again(name):
    regularizer = fairness_losses.get(name, **REQUIRED.get(name, {}))
    assert isinstance(regularizer, Regularizer)
    assert regularizer.registered_name == name
    config = json.loads(json.dumps(regularizer.get_config()))
    again = fairness_losses.get(name, **config)
    assert type(again) is type(regularizer)
    assert again.get_config() == regularizer.get_config()


@pytest.mark.parametrize("name", fairness_losses.available())
@pytest.mark.parametrize("queries", [0, 3])
def test_every_regularizer_is_finite_on_empty_batches_and_batches_of_one_group(name, queries):
    """Whoever adds one to a model does not know what the next batch holds."""
    regularizer = fairness_losses.get(name, **REQUIRED.get(name, {}))
    rng = np.random.default_rng(0)
    scores = tf.constant(rng.normal(size=(queries, 200)), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        penalty = regularizer(
            scores,
            tf.constant([[1.0, 0.0]] * 200),
            slices=tf.constant([[1.0, 0.0]] * queries, shape=[queries, 2]),
            relevance=tf.constant(rng.integers(0, 2, (queries, 200)), tf.float32),
            embeddings=tf.constant(rng.normal(size=(200, 4)), tf.float32),
            frequency=tf.constant(rng.integers(0, 9, 200), tf.float32),
        )
    assert penalty.shape == []
    assert np.isfinite(float(penalty))
    assert float(penalty) >= 0
    gradient = tape.gradient(penalty, scores)
    assert gradient is None or np.isfinite(gradient.numpy()).all()


def test_every_regularizer_says_where_it_comes_from_and_shows_an_example():
    for name in fairness_losses.available():
        text = type(fairness_losses.get(name, **REQUIRED.get(name, {}))).__doc__
        assert "Example:" in text, name
        assert re.search(r"\b(19|20)\d\d\b", text), f"{name} names no paper"


def test_an_argument_that_does_not_exist_is_answered_with_the_one_that_was_meant():
    with pytest.raises(InvalidInputError, match=r"no argument `temprature`.*`temperature`"):
        fairness_losses.get("exposure_parity", target=[1, 1], temprature=0.5)


def test_arguments_reach_the_constructor():
    parity = fairness_losses.get("exposure_parity", target=[1, 1], temperature=0.5, depth=3)
    assert isinstance(parity, ExposureParity)
    assert (parity.temperature, parity.depth) == (0.5, 3)


def test_a_misspelt_name_is_answered_with_the_one_that_was_meant():
    with pytest.raises(InvalidInputError, match=r"no regularizer `exposure_party`.*Did you mean"):
        fairness_losses.get("exposure_party", target=[1])


def test_a_name_like_no_other_is_answered_with_all_names():
    with pytest.raises(InvalidInputError, match=r"there are: absolute.*worst_group\.$"):
        fairness_losses.get("xyz", target=[1])


def test_settings_and_metrics_need_no_tensorflow():
    modules = "browsing, config, errors, exposure, groups, metrics, registry, targets"
    imports = "\n".join(f"import fairness_losses.{module}" for module in modules.split(", "))
    program = f"{imports}\nimport sys\nassert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
