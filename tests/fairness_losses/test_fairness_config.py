"""Settings of groups, targets and the regularizer: what is refused, and why."""

import pydantic
import pytest

from fairness_losses.config import FairnessConfig, GroupsConfig, TargetConfig


def test_defaults_steer_to_the_catalogue_without_unknown():
    fairness = FairnessConfig()
    assert fairness.regularizer == "exposure_parity"
    assert fairness.target == TargetConfig(kind="catalogue", include_unknown=False)


def test_misspelt_settings_are_refused():
    with pytest.raises(pydantic.ValidationError, match="wieght"):
        FairnessConfig.model_validate({"wieght": 1.0})


def test_settings_cannot_be_changed_afterwards():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        FairnessConfig().weight = 2.0


def test_settings_survive_being_written_and_read():
    config = FairnessConfig(
        target=TargetConfig(kind="explicit", shares={"a": 0.25, "b": 0.75}), weight=0.5
    )
    assert FairnessConfig.model_validate(config.model_dump()) == config


@pytest.mark.parametrize(
    "target",
    [{"kind": "explicit"}, {"kind": "uniform", "shares": {"a": 1.0}}, {"shares": {"a": 1.0}}],
)
def test_shares_go_with_the_explicit_kind_and_with_no_other(target):
    with pytest.raises(pydantic.ValidationError, match="if and only if `kind` is `explicit`"):
        TargetConfig.model_validate(target)


@pytest.mark.parametrize("share", [0.0, -0.5])
def test_shares_are_positive(share):
    with pytest.raises(pydantic.ValidationError, match=f"positive. Received: {share}"):
        TargetConfig(kind="explicit", shares={"a": share})


def test_shares_are_finite():
    for share in (float("nan"), float("inf")):
        with pytest.raises(pydantic.ValidationError, match="finite number"):
            TargetConfig(kind="explicit", shares={"a": share})


def test_a_share_for_unknown_needs_unknown_to_be_included():
    shares = {"a": 0.5, "unknown": 0.5}
    with pytest.raises(pydantic.ValidationError, match="include_unknown: true"):
        TargetConfig(kind="explicit", shares=shares)
    assert TargetConfig(kind="explicit", shares=shares, include_unknown=True).shares == shares


@pytest.mark.parametrize(
    ("name", "value"), [("weight", -1), ("temperature", 0), ("depth", 0), ("queries", 0)]
)
def test_numbers_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(pydantic.ValidationError, match=name):
        FairnessConfig.model_validate({name: value})


def test_groups_need_a_column():
    with pytest.raises(pydantic.ValidationError, match="columns"):
        GroupsConfig(columns=[])
