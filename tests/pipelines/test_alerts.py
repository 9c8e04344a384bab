import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.monitoring.alerts import Timeline, is_outside, ratios
from pipelines.monitoring.config import MonitoringConfig

CONFIG = MonitoringConfig(window=60, allowed_lateness=120, low=0.8, high=1.25)


def ratio(low, high) -> dict:
    return {"value": (low + high) / 2, "low": low, "high": high, "count": 5000}


INSIDE, BELOW, ABOVE = ratio(0.9, 1.1), ratio(0.4, 0.6), ratio(1.3, 1.5)


@pytest.mark.parametrize(
    ("figure", "outside"),
    [
        (INSIDE, False),
        (BELOW, True),
        (ABOVE, True),
        (ratio(0.7, 0.85), False),
        (ratio(0.8, 0.9), False),
        (ratio(1.2, 1.4), False),
        (ratio(0.5, 2.0), False),
    ],
)
def test_a_ratio_is_outside_if_its_whole_interval_is(figure, outside):
    assert is_outside(figure, CONFIG) == outside


def test_an_alert_stands_until_the_ratio_is_back():
    timeline = Timeline()
    assert timeline.update(0, INSIDE, CONFIG) == []
    assert timeline.update(60, BELOW, CONFIG) == [(60, "raised", False, BELOW)]
    assert timeline.update(120, ABOVE, CONFIG) == []
    assert timeline.update(180, INSIDE, CONFIG) == [(180, "resolved", False, INSIDE)]
    assert timeline.update(240, BELOW, CONFIG) == [(240, "raised", False, BELOW)]


def test_a_window_that_says_nothing_neither_raises_nor_resolves():
    timeline = Timeline()
    timeline.update(0, BELOW, CONFIG)
    assert timeline.update(60, None, CONFIG) == []
    assert timeline.update(120, BELOW, CONFIG) == []
    assert timeline.update(180, INSIDE, CONFIG) == [(180, "resolved", False, INSIDE)]


def test_a_correction_moves_an_alert_to_the_window_in_which_it_began():
    timeline = Timeline()
    timeline.update(0, BELOW, CONFIG)
    timeline.update(60, ABOVE, CONFIG)
    assert timeline.update(0, INSIDE, CONFIG) == [
        (0, "raised", True, BELOW),
        (60, "raised", False, ABOVE),
    ]


def test_an_old_alert_is_remembered_as_open_though_its_window_is_forgotten():
    timeline = Timeline()
    timeline.update(0, BELOW, CONFIG)
    far = 60 * 1000
    assert timeline.update(far, ABOVE, CONFIG) == []
    assert timeline.figures == {far: ABOVE}
    assert timeline.update(far + 60, INSIDE, CONFIG) == [(far + 60, "resolved", False, INSIDE)]


FIGURES = st.sampled_from([INSIDE, BELOW, ABOVE, None])


@given(st.dictionaries(st.integers(0, 40).map(lambda n: 60 * n), FIGURES), st.data())
def test_what_was_said_and_not_withdrawn_follows_from_the_figures_in_any_order(figures, data):
    """Panes come in any order, some corrected; the last of each window is what holds."""
    order = data.draw(st.permutations(sorted(figures)))
    panes = [(window, data.draw(FIGURES)) for window in order if data.draw(st.booleans())]
    panes += [(window, figures[window]) for window in order]
    timeline, net = Timeline(), set()
    for window, figure in panes:
        for at, event, withdrawn, _ in timeline.update(window, figure, CONFIG):
            if withdrawn:
                net.remove((at, event))
            else:
                assert (at, event) not in net
                net.add((at, event))
    expected, outside = set(), False
    for window in sorted(figures):
        if figures[window] is None:
            continue
        now = is_outside(figures[window], CONFIG)
        if now != outside:
            expected.add((window, "raised" if now else "resolved"))
        outside = now
    assert net == expected


def report(count, **cell) -> dict:
    groups = {
        label: {"exposure_ratio": figure, "candidate_share": {"value": 0.5, "count": count}}
        for label, figure in (("f", BELOW), ("m", INSIDE), ("unknown", None))
    }
    return {
        "groups": {"f": {"target": 0.5}, "m": {"target": 0.5}, "unknown": {"target": None}},
        "overall": {"groups": groups} | cell,
        "slices": {"gender": {"F": {"suppressed": True}}},
    }


def test_ratios_of_every_cell_and_group_with_a_target():
    found = ratios(report(500), CONFIG)
    assert found == {
        ("overall", "", "f"): BELOW,
        ("overall", "", "m"): INSIDE,
        ("gender", "F", "f"): None,
        ("gender", "F", "m"): None,
    }


def test_a_cell_with_few_candidates_of_all_groups_says_nothing():
    """Twice 499 candidates are fewer than 1,000; a group that nobody sees is no reason to wait."""
    assert set(ratios(report(499), CONFIG).values()) == {None}
    few = report(1000)
    few["overall"]["groups"]["m"]["candidate_share"]["count"] = 0
    assert ratios(few, CONFIG)["overall", "", "f"] == BELOW


def test_only_the_wanted_groups():
    wanted = CONFIG.model_copy(update={"groups": ["m"]})
    assert {group for _, _, group in ratios(report(500), wanted)} == {"m"}


def test_a_band_without_width_is_refused():
    with pytest.raises(ValueError, match=r"`low` should be below `high`. Received: 1.0, 1.0"):
        MonitoringConfig(low=1.0, high=1.0)
