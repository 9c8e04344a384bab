"""Intervals where resampling has nothing to say, by Wilson's formula."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.audit.intervals import figure

Z2 = 1.959964**2
SAME = np.zeros(200)


def test_where_nothing_was_seen_the_upper_end_is_wilsons():
    """0 of 100 users: z² / (n + z²), 3.7 %."""
    found = figure(0.0, SAME, 0.95, 5000, 100, 1.0)
    assert (found["value"], found["low"], found["count"]) == (0.0, 0.0, 5000)
    assert found["high"] == pytest.approx(Z2 / (100 + Z2), rel=1e-6)
    assert found["method"] == "wilson"


def test_where_everything_was_seen_the_lower_end_is():
    found = figure(1.0, SAME + 1, 0.95, 5000, 100, 1.0)
    assert found["low"] == pytest.approx(100 / (100 + Z2), rel=1e-6)
    assert found["high"] == pytest.approx(1.0)


def test_a_ratio_is_a_multiple_of_a_share():
    """Against a target of a fifth the ratio goes to 5, and so does the interval."""
    found = figure(0.0, SAME, 0.95, 5000, 100, 5.0)
    assert found["high"] == pytest.approx(5 * Z2 / (100 + Z2), rel=1e-6)


@pytest.mark.parametrize(
    ("value", "draws", "most"),
    [
        (0.25, SAME + 0.25, 1.0),  # A quota: every list is alike, and so is every sample.
        (0.0, SAME, None),  # No share.
        (0.1, np.linspace(0, 0.2, 200), 1.0),
    ],
)
def test_other_intervals_are_those_of_the_resamples(value, draws, most):
    found = figure(value, draws, 0.95, 10, 100, most)
    assert "method" not in found
    assert (found["low"], found["high"]) == pytest.approx(
        (np.quantile(draws, 0.025), np.quantile(draws, 0.975))
    )


def test_undefined_figures_stay_undefined():
    assert figure(float("nan"), SAME, 0.95, 10, 100, 1.0) is None


@given(st.integers(1, 100_000), st.sampled_from([0.5, 0.9, 0.95, 0.99]), st.booleans())
def test_wilson_intervals_hold_the_value_and_have_a_width(users, confidence, everything):
    value = float(everything)
    found = figure(value, SAME + value, confidence, users, users, 1.0)
    assert 0 <= found["low"] <= value <= found["high"] <= 1 + 1e-12
    assert found["high"] - found["low"] > 0
