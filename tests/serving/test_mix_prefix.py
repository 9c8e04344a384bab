"""Minimums of prefixes, against the published table and draws by lottery."""

import numpy as np
import pytest

from fairness_losses.errors import InvalidInputError
from serving.mix.prefix import (
    adjust_alpha,
    failure_probability,
    minimum_by_shares,
    minimum_by_significance,
    minimum_table,
)


@pytest.mark.parametrize(
    ("share", "published"),
    [
        (0.1, "0 0 0 0 0 0 0 0 0 0 0 0"),
        (0.2, "0 0 0 0 0 0 0 0 0 0 1 1"),
        (0.3, "0 0 0 0 0 0 1 1 1 1 1 2"),
        (0.4, "0 0 0 0 1 1 1 1 2 2 2 3"),
        (0.5, "0 0 0 1 1 1 2 2 3 3 3 4"),
        (0.6, "0 0 1 1 2 2 3 3 4 4 5 5"),
        (0.7, "0 1 1 2 2 3 3 4 5 5 6 6"),
    ],
)
def test_the_table_of_the_fa_ir_paper(share, published):
    # Zehlike et al., CIKM 2017: alpha 0.1, prefixes of 1 to 12.
    assert minimum_table(share, 12, 0.1)[1:].tolist() == [int(m) for m in published.split()]


def test_failure_probability_is_that_of_draws():
    minimum = minimum_table(0.5, 40, 0.1)
    draws = np.random.default_rng(0).random([40_000, 40]) < 0.5
    failed = (draws.cumsum(axis=1) < minimum[1:]).any(axis=1).mean()
    assert failure_probability(minimum, 0.5) == pytest.approx(failed, abs=0.01)
    # Testing 40 prefixes refuses far more than a tenth of fair lists.
    assert failed > 0.2


@pytest.mark.parametrize(("share", "k"), [(0.5, 100), (0.2, 50), (0.05, 100)])
def test_adjusted_alpha_is_the_largest_that_refuses_no_more_than_alpha(share, k):
    adjusted = adjust_alpha(share, k, 0.1)
    assert failure_probability(minimum_table(share, k, adjusted), share) <= 0.1
    assert failure_probability(minimum_table(share, k, adjusted * 1.001), share) > 0.1 or (
        adjusted == pytest.approx(0.1)
    )


def test_minimum_by_shares_worked_by_hand():
    assert minimum_by_shares(np.array([0.5, 0.3, 0.2]), 5).tolist() == [
        [0, 0, 0], [0, 0, 0], [1, 0, 0], [1, 0, 0], [2, 1, 0], [2, 1, 1],
    ]  # fmt: skip


def test_significance_of_several_groups_divides_alpha_and_leaves_out_who_has_no_target():
    table = minimum_by_significance(np.array([0.5, 0.5, 0.0]), 30, 0.1)
    adjusted = adjust_alpha(0.5, 30, 0.05)
    assert (table[:, 0] == minimum_table(0.5, 30, adjusted)).all()
    assert (table[:, 0] == table[:, 1]).all()
    assert not table[:, 2].any()
    assert (np.diff(table, axis=0) >= 0).all()


def test_minimums_that_do_not_fit_are_refused(monkeypatch):
    monkeypatch.setattr(
        "serving.mix.prefix.minimum_table", lambda share, k, alpha: np.arange(k + 1)
    )
    with pytest.raises(InvalidInputError, match="needs 2 items among the first 1"):
        minimum_by_significance(np.array([0.5, 0.5]), 5, 0.1)
