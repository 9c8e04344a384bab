"""Exposure per window of event time over an unbounded stream of lists, as a Beam transform."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
from apache_beam.coders import PickleCoder
from apache_beam.pvalue import AsSingleton
from apache_beam.transforms.trigger import AccumulationMode, AfterCount, Repeatedly
from apache_beam.transforms.userstate import ReadModifyWriteStateSpec
from apache_beam.transforms.window import FixedWindows, GlobalWindows, TimestampedValue
from apache_beam.utils.timestamp import Duration

from pipelines.audit.list_files import list_hashes, missing_ids
from pipelines.audit.meter import Meter
from pipelines.audit.read_lists import DEAD, dead_lists
from pipelines.audit.transforms import AddUp, MeasureLists
from pipelines.config import RunConfig
from pipelines.examples.arrow_ipc import from_bytes, to_bytes
from pipelines.examples.checks import Rejections, as_seconds
from pipelines.examples.inputs import TIMESTAMP
from pipelines.monitoring.alerts import Timeline, ratios
from pipelines.monitoring.memory import HASH, IDS, Distinct, RunningTotal, Sums

REPORTS, ALERTS = "reports", "alerts"
"""Outputs of `MonitorExposure`, besides `read_lists.DEAD`."""

_TIMELINES = beam.DoFn.StateParam(ReadModifyWriteStateSpec("timelines", PickleCoder()))

_SHARDS = 8
"""The ids of a window are kept in so many parts."""


class MonitorExposure(beam.PTransform):
    """Lists with the time at which they were served to a report per window, and alerts.

    Its input are Arrow tables as bytes, with the columns that `Meter.measure` describes, `list_id`
    (string) and `timestamp` (seconds, ISO 8601 or an Arrow time). The timestamp of an element is
    at most that of its earliest list.

    A window is reported when the watermark passes its end, and again, corrected, when later lists
    come within `monitoring.allowed_lateness`: each report is of all lists so far. A list counts
    once in its window, however often it comes with its `list_id`; whoever sends it again with
    another time, in another window, has served it twice.

    Outputs: `reports`, what `figures.audit_of_cells` describes with `window` (`start` and `end`,
    UTC), `pane` (`number`, from 0, and `late`) and `lists`, their number; `alerts`, see
    `docs/monitoring.md`; and `dead`, the lists that do not count, as Arrow bytes of
    `checks.DEAD_SCHEMA`.

    Args:
        config: The run configuration.
        meter: One element, the `Meter`.
    """

    def __init__(self, config: RunConfig, meter: beam.PCollection) -> None:
        super().__init__()
        self._config, self._meter = config, meter

    def expand(self, tables: beam.PCollection) -> dict[str, beam.PCollection]:
        """Returns the outputs by name."""
        config = self._config.monitoring
        meter = AsSingleton(self._meter)
        divided = tables | "Divide" >> beam.ParDo(
            DivideByWindow(config.window, self._config.seed)
        ).with_outputs(DEAD, main="lists")
        distinct = (
            divided["lists"]
            | "Windows"
            >> beam.WindowInto(
                FixedWindows(config.window),
                # Nothing waits where sums are grouped: that every runner leaves out there what
                # comes after the allowed lateness is what it is for.
                trigger=Repeatedly(AfterCount(1)),
                accumulation_mode=AccumulationMode.DISCARDING,
                allowed_lateness=Duration(seconds=config.allowed_lateness),
            )
            | "Each list once"
            >> beam.ParDo(Distinct(config.allowed_lateness))
            .with_input_types(tuple[int, bytes])
            .with_outputs(DEAD, main="lists")
        )
        measured = distinct["lists"] | "Measure" >> beam.ParDo(MeasureLists(), meter).with_outputs(
            DEAD, main="sums"
        )
        reports = (
            measured["sums"]
            | "One total" >> beam.Map(lambda sums: (0, sums)).with_output_types(Sums)
            | "Add up" >> beam.CombinePerKey(AddUp()).with_output_types(Sums)
            | "Total" >> beam.ParDo(RunningTotal(config.allowed_lateness)).with_input_types(Sums)
            | "Report" >> beam.ParDo(Report(self._config), meter)
        )
        alerts = (
            reports
            | "All windows" >> beam.WindowInto(GlobalWindows())
            | "One timeline"
            >> beam.Map(lambda report: (0, report)).with_output_types(tuple[int, dict[str, Any]])
            | "Alerts" >> beam.ParDo(Alerts(self._config))
        )
        dead = tuple(
            part[DEAD] | f"{name} dead letters" >> beam.WindowInto(GlobalWindows())
            for name, part in (("Undated", divided), ("Repeated", distinct), ("Bad", measured))
        )
        return {
            REPORTS: reports,
            ALERTS: alerts,
            DEAD: dead | "All dead letters" >> beam.Flatten(),
        }


class DivideByWindow(beam.DoFn):
    """Tables to tables of a window and shard each, with the time of their earliest list.

    Args:
        window: Its length, in seconds.
        seed: Of the lists' hashes.
    """

    def __init__(self, window: int, seed: int) -> None:
        self._window, self._seed = window, seed

    def process(self, table: bytes) -> Iterator[Any]:
        """See the class."""
        lists = from_bytes(table)
        rejections = Rejections(len(lists))
        for name, rows in missing_ids(lists, IDS).items():
            rejections.add(rows, f"`{name}` is empty")
        seconds, valid = as_seconds(lists[TIMESTAMP], f"column `{TIMESTAMP}`")
        rejections.add(
            ~valid, f"`{TIMESTAMP}` is neither seconds since 1970 nor an ISO 8601 date or time"
        )
        if not rejections.ok.all():
            yield dead_lists(rejections.dead(lists))
            lists, seconds = lists.filter(pa.array(rejections.ok)), seconds[rejections.ok]
        hashes = list_hashes(lists, IDS, self._seed)
        lists = lists.append_column(HASH, pa.array(hashes))
        shard = (hashes % np.uint64(_SHARDS)).astype(np.int64)
        place = seconds // self._window * _SHARDS + shard
        for number in np.unique(place):
            rows = np.flatnonzero(place == number)
            part = int(shard[rows[0]]), to_bytes(lists.take(rows))
            yield TimestampedValue(part, int(seconds[rows].min()))


class Report(beam.DoFn):
    """The total of a window to its report.

    Args:
        config: The run configuration.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config

    def process(
        self,
        numbered: Sums,
        meter: Meter,
        window: Any = beam.DoFn.WindowParam,
    ) -> Iterator[dict[str, Any]]:
        """See the class."""
        number, total = numbered
        yield {
            "window": {"start": _time(window.start), "end": _time(window.end)},
            "pane": {"number": number, "late": number > 0},
            "lists": int(total.lists[0]),
            **meter.report(total, self._config, {}),
        }


class Alerts(beam.DoFn):
    """Reports, in any order, to what changes: alerts that are raised, resolved or withdrawn.

    Args:
        config: The run configuration.
    """

    def __init__(self, config: RunConfig) -> None:
        self._config = config.monitoring

    def process(
        self,
        report: tuple[int, dict[str, Any]],
        timelines: Any = _TIMELINES,
    ) -> Iterator[dict[str, Any]]:
        """See the class."""
        window = report[1]["window"]["start"]
        start = int(datetime.datetime.fromisoformat(window).timestamp())
        known = timelines.read() or {}
        for cell, ratio in ratios(report[1], self._config).items():
            name, value, group = cell
            timeline = known.setdefault(cell, Timeline())
            for at, event, withdrawn, figure in timeline.update(start, ratio, self._config):
                yield {
                    "event": event,
                    "withdrawn": withdrawn,
                    "window": {"start": _time(at), "end": _time(at + self._config.window)},
                    "slice": name,
                    "slice_value": value,
                    "group": group,
                    "exposure_ratio": dict(figure),
                    "band": [self._config.low, self._config.high],
                }
        timelines.write(known)


def _time(seconds: Any) -> str:
    moment = datetime.datetime.fromtimestamp(float(seconds), datetime.timezone.utc)
    return moment.isoformat()
