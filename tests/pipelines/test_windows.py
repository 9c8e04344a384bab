"""Exposure per window of a stream: what is reported when, and every list once."""

import gc
import pickle
import typing

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest
from apache_beam.coders import BytesCoder
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.direct.direct_runner import BundleBasedDirectRunner
from apache_beam.testing.test_stream import TestStream
from apache_beam.transforms.trigger import InMemoryUnmergedState
from apache_beam.transforms.window import TimestampedValue

from pipelines.audit.meter import Meter
from pipelines.audit.read_lists import DEAD
from pipelines.config import RunConfig
from pipelines.examples.arrow_ipc import from_bytes, to_bytes
from pipelines.monitoring.windows import ALERTS, REPORTS, MonitorExposure
from pipelines.readers.chunks import with_origin

WINDOW, LATENESS = 60, 120
CATALOGUE = pa.table({"item_id": list("abcd"), "group": ["f", "f", "m", "m"]})
USERS = pa.table({"user_id": ["u1", "u2"], "slice.gender": ["F", "M"]})


def config(**monitoring) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "stream",
            "data": {"dataset": "synthetic"},
            "groups": {"columns": ["group"]},
            "slices": [{"column": "gender"}],
            # At this level one user is enough for an alert.
            "audit": {"ks": [2], "min_users": 1, "confidence": 0.5},
            "monitoring": {
                "window": WINDOW,
                "allowed_lateness": LATENESS,
                "bootstrap_samples": 100,
                "min_count": 1,
                **monitoring,
            },
        }
    )


def table(*lists: tuple) -> bytes:
    """Lists as (id, user, time, items)."""
    ids, users, times, items = zip(*lists, strict=True)
    columns = {
        "list_id": list(ids),
        "user_id": list(users),
        "timestamp": list(times),
        "candidate_ids": pa.array([list(row) for row in items], pa.list_(pa.string())),
        "policy": ["plain"] * len(ids),
        "model_version": ["1"] * len(ids),
    }
    return to_bytes(with_origin(pa.table(columns), 0, np.arange(1, len(ids) + 1)))


class Collect(beam.DoFn):
    """Notes what arrives, in order; the runner works in this process."""

    found: typing.ClassVar[dict[str, list]] = {}

    def __init__(self, name):
        self._name = name

    def process(self, element):
        Collect.found.setdefault(self._name, []).append(element)


def streamed(events, **monitoring) -> dict[str, list]:
    """Runs the events: (time, table), a watermark as a number, or seconds on the clock as a str."""
    stream = TestStream(coder=BytesCoder())
    for event in events:
        if isinstance(event, tuple):
            stream = stream.add_elements([TimestampedValue(event[1], event[0])])
        elif isinstance(event, str):
            stream = stream.advance_processing_time(float(event))
        else:
            stream = stream.advance_watermark_to(event)
    stream = stream.advance_watermark_to_infinity()
    settings = config(**monitoring)
    meter = Meter.of(CATALOGUE, USERS, None, settings, settings.monitoring.bootstrap_samples)
    Collect.found = {REPORTS: [], ALERTS: [], DEAD: []}
    options = PipelineOptions([])
    options.view_as(StandardOptions).streaming = True
    with beam.Pipeline(runner=BundleBasedDirectRunner(), options=options) as pipeline:
        against = pipeline | "Meter" >> beam.Create([meter])
        outputs = pipeline | stream | MonitorExposure(settings, against)
        for name, output in outputs.items():
            _ = output | f"Collect {name}" >> beam.ParDo(Collect(name))
    return Collect.found


def lists_of(reports) -> list[tuple]:
    """Second at which the window starts, number of the pane, whether late, and lists."""
    return [
        (
            int(np.datetime64(r["window"]["start"][:19]).astype("datetime64[s]").astype(int)),
            r["pane"]["number"],
            r["pane"]["late"],
            r["overall"]["lists"],
        )
        for r in reports
    ]


def reasons(found) -> list[tuple]:
    rows = [row for data in found[DEAD] for row in from_bytes(data).to_pylist()]
    return [(row["user_id"], row["reason"]) for row in rows]


def test_a_window_is_reported_when_the_watermark_passes_its_end():
    found = streamed(
        [
            (5, table(("l1", "u1", 5, "ac"), ("l2", "u2", 59, "ca"))),
            (61, table(("l3", "u1", 61, "ab"))),
            59,
            61,
        ]
    )
    assert lists_of(found[REPORTS]) == [(0, 0, False, 2), (60, 0, False, 1)]


def test_a_table_of_several_windows_is_divided():
    lists = [("l1", "u1", 130, "ac"), ("l2", "u2", 1, "ac"), ("l3", "u2", 60, "ac")]
    found = streamed([(1, table(*lists)), 500])
    assert sorted(lists_of(found[REPORTS])) == [
        (0, 0, False, 1),
        (60, 0, False, 1),
        (120, 0, False, 1),
    ]


def test_late_lists_correct_the_report_until_the_lateness_is_over():
    """The window's end is 60: up to 180 it is corrected, each time with all lists so far."""
    late = "another list"
    found = streamed(
        [
            (5, table(("l1", "u1", 5, "ac"))),
            70,
            (10, table(("l2", "u2", 10, "ca"))),
            179,
            (20, table(("l3", "u2", 20, "ca"))),
            181,
            (30, table(("l4", "u2", 30, late[:2]))),
        ]
    )
    assert lists_of(found[REPORTS]) == [(0, 0, False, 1), (0, 1, True, 2), (0, 2, True, 3)]


def kept_in_state() -> int:
    """Bytes that the runner keeps between bundles for grouping and for state."""
    states = [o for o in gc.get_objects() if isinstance(o, InMemoryUnmergedState)]
    return sum(len(pickle.dumps({w: dict(tags) for w, tags in s.state.items()})) for s in states)


def test_a_window_is_forgotten_when_no_more_can_come(monkeypatch):
    """Three windows are open to corrections: after 40 no more is kept than after the first ten."""
    events = []
    for window in range(40):
        start = window * WINDOW
        lists = [(f"l{window}-{i}", "u1", start + i, "ac") for i in range(3)]
        events += [(start, table(*lists)), start + WINDOW]
    kept = []
    monkeypatch.setattr(Collect, "process", lambda *_: kept.append(kept_in_state()))
    streamed(events)
    assert len(kept) >= 40
    assert max(kept[-10:]) < 1.5 * max(kept[:10])


def test_corrections_do_not_wait_for_the_clock():
    """A late list is reported at once, and time that passes alone reports nothing again."""
    found = streamed(
        [
            (5, table(("l1", "u1", 5, "ac"))),
            "3600",
            70,
            "3600",
            (10, table(("l2", "u2", 10, "ca"))),
            "3600",
        ]
    )
    assert lists_of(found[REPORTS]) == [(0, 0, False, 1), (0, 1, True, 2)]


def test_a_list_counts_once_however_often_it_comes():
    """In one table, in another one, and late: three times too often."""
    one = ("l1", "u1", 5, "ac")
    found = streamed(
        [
            (5, table(one, one)),
            (5, table(one, ("l2", "u2", 6, "ca"))),
            70,
            (5, table(one, ("l3", "u2", 7, "ca"))),
        ]
    )
    assert lists_of(found[REPORTS]) == [(0, 0, False, 2), (0, 1, True, 3)]
    assert reasons(found) == [("u1", "another list has the same `user_id` and `list_id`")] * 3


def test_a_repetition_that_comes_late_corrects_nothing():
    one = ("l1", "u1", 5, "ac")
    found = streamed([(5, table(one)), 70, (5, table(one))])
    assert lists_of(found[REPORTS]) == [(0, 0, False, 1)]


def test_the_same_id_counts_for_each_user_and_window():
    lists = [("l1", "u1", 5, "ac"), ("l1", "u2", 5, "ac"), ("l1", "u1", 65, "ac")]
    found = streamed([(5, table(*lists)), 500])
    assert sorted(lists_of(found[REPORTS])) == [(0, 0, False, 2), (60, 0, False, 1)]
    assert reasons(found) == []


def test_what_cannot_be_used_is_a_dead_letter():
    lists = [
        ("l1", "u1", "2020-01-01T00:00:05", "ac"),
        ("l2", "u2", "yesterday", "ac"),
        (None, "u2", "2020-01-01T00:00:05", "ac"),
        ("l4", "u2", "2020-01-01T00:00:06", "ax"),
    ]
    found = streamed([(1577836805, table(*lists)), 1577840000])
    assert [r["overall"]["lists"] for r in found[REPORTS]] == [1]
    assert found[REPORTS][0]["window"] == {
        "start": "2020-01-01T00:00:00+00:00",
        "end": "2020-01-01T00:01:00+00:00",
    }
    assert sorted(reason for _, reason in reasons(found)) == [
        "`list_id` is empty",
        "`timestamp` is neither seconds since 1970 nor an ISO 8601 date or time",
        "an item is not in the catalogue",
    ]


def test_lists_without_a_user_do_not_repeat_one_another():
    lists = [("l1", None, 5, "ac"), ("l1", None, 6, "ac"), ("l1", "u1", 7, "ac")]
    found = streamed([(5, table(*lists)), 500])
    assert lists_of(found[REPORTS]) == [(0, 0, False, 1)]
    assert reasons(found) == [(None, "`user_id` is empty")] * 2


def test_ratios_are_those_of_the_lists_of_the_window():
    """u1 sees f alone in the first window, and both in the second: a half is the target."""
    found = streamed([(5, table(("l1", "u1", 5, "ab"))), (65, table(("l2", "u1", 65, "cd"))), 130])
    first, second = (r["slices"]["gender"]["F"]["groups"] for r in found[REPORTS])
    assert first["f"]["exposure_ratio"]["value"] == 2.0
    assert second["f"]["exposure_ratio"]["value"] == 0.0


def events_of(found) -> list[tuple]:
    return [
        (a["event"], a["withdrawn"], a["window"]["start"][14:16], a["slice"], a["slice_value"])
        for a in found[ALERTS]
        if a["group"] == "f"
    ]


def test_an_alert_is_raised_and_resolved():
    """Women see f alone in the first two minutes, then both groups alike."""
    balanced = [("l3", "u1", 125, "ac"), ("l4", "u1", 126, "ca")]
    found = streamed(
        [
            (5, table(("l1", "u1", 5, "ab"))),
            60,
            (65, table(("l2", "u1", 65, "ab"))),
            120,
            (125, table(*balanced)),
            180,
        ]
    )
    assert sorted(events_of(found)) == [
        ("raised", False, "00", "gender", "F"),
        ("raised", False, "00", "overall", ""),
        ("resolved", False, "02", "gender", "F"),
        ("resolved", False, "02", "overall", ""),
    ]
    raised = found[ALERTS][0]
    # Twice a share of 1, of one user: Wilson's lower end is 1 / (1 + z²), z = 0.6745 at 50 %.
    low = pytest.approx(2 / (1 + 0.6744898**2))
    ratio = {"value": 2.0, "low": low, "high": 2.0, "count": 2, "method": "wilson"}
    assert raised["exposure_ratio"] == ratio
    assert raised["band"] == [0.8, 1.25]
    assert raised["window"]["end"] == "1970-01-01T00:01:00+00:00"


def test_late_lists_withdraw_an_alert_that_was_raised_in_error():
    found = streamed(
        [
            (5, table(("l1", "u1", 5, "ab"))),
            60,
            (6, table(("l2", "u1", 6, "cd"))),
        ]
    )
    assert events_of(found)[:2] == [
        ("raised", False, "00", "overall", ""),
        ("raised", False, "00", "gender", "F"),
    ]
    assert sorted(events_of(found)[2:]) == [
        ("raised", True, "00", "gender", "F"),
        ("raised", True, "00", "overall", ""),
    ]


@pytest.mark.parametrize("change", [{"min_count": 3}, {"groups": ["m"]}, {"high": 2.0, "low": 0.0}])
def test_what_rests_on_little_is_not_wanted_or_within_the_band_is_no_alert(change):
    found = streamed([(5, table(("l1", "u1", 5, "ab"))), 60], **change)
    assert events_of(found) == []
    assert len(found[REPORTS]) == 1
