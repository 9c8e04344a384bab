"""Regularizers by name, and what importing the room costs."""

import subprocess
import sys

import pytest

import fairness_losses
from fairness_losses.errors import InvalidInputError
from fairness_losses.regularizers.base import Regularizer
from fairness_losses.regularizers.exposure_parity import ExposureParity


def test_the_public_names_of_the_room():
    assert fairness_losses.__all__ == ["arguments_of", "available", "get"]
    assert fairness_losses.available() == ["exposure_parity"]


def test_every_name_gets_a_regularizer():
    for name in fairness_losses.available():
        assert isinstance(fairness_losses.get(name, target=[0.5, 0.5]), Regularizer)


def test_arguments_reach_the_constructor():
    parity = fairness_losses.get("exposure_parity", target=[1, 1], temperature=0.5, depth=3)
    assert isinstance(parity, ExposureParity)
    assert (parity.temperature, parity.depth) == (0.5, 3)


def test_a_misspelt_name_is_answered_with_the_one_that_was_meant():
    with pytest.raises(InvalidInputError, match=r"no regularizer `exposure_party`.*Did you mean"):
        fairness_losses.get("exposure_party", target=[1])


def test_a_name_like_no_other_is_answered_with_all_names():
    with pytest.raises(InvalidInputError, match=r"there are: exposure_parity\.$"):
        fairness_losses.get("xyz", target=[1])


def test_settings_and_metrics_need_no_tensorflow():
    modules = "browsing, config, errors, exposure, groups, metrics.ranking, registry, targets"
    imports = "\n".join(f"import fairness_losses.{module}" for module in modules.split(", "))
    program = f"{imports}\nimport sys\nassert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", program], check=True)
