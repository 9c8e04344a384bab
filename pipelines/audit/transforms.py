"""The audit as a Beam transform: tables of lists to one report, in memory of a fixed size."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.pvalue import AsSingleton

from pipelines.audit.accumulator import Accumulator
from pipelines.audit.list_checks import MODEL_VERSION, POLICY
from pipelines.audit.meter import Meter
from pipelines.audit.read_lists import DEAD, METRICS, dead_lists
from pipelines.config import RunConfig
from pipelines.examples.arrow_ipc import from_bytes

REPORT, AUDITED, SERVED = "report", "audited", "served"
"""Outputs of `AuditLists`, besides `read_lists.DEAD`: the report, as JSON values; the number of
lists behind it; and what served how many of them."""


class AuditLists(beam.PTransform):
    """Lists to the report that `pipelines.audit.figures.audit_of_cells` describes.

    Its input are Arrow tables as bytes, whose columns `Meter.measure` describes. Every list counts:
    what may repeat goes through `read_lists.ReadLists` first. The result does not depend on how
    lists are divided into tables, bundles and workers, but for the rounding of float sums.

    Args:
        config: The run configuration.
        meter: One element, the `Meter`.
        run: What the lists are, copied into the report.
    """

    def __init__(self, config: RunConfig, meter: beam.PCollection, run: Mapping[str, Any]) -> None:
        super().__init__()
        self._config, self._meter, self._run = config, meter, dict(run)

    def expand(self, tables: beam.PCollection) -> dict[str, beam.PCollection]:
        """Returns the outputs by name."""
        meter = AsSingleton(self._meter)
        measured = tables | "Measure" >> beam.ParDo(MeasureLists(), meter).with_outputs(
            DEAD, main="sums"
        )
        total = measured["sums"] | "Add up" >> beam.CombineGlobally(AddUp())
        return {
            REPORT: total | "Report" >> beam.Map(_report, meter, self._config, self._run),
            AUDITED: total | "Audited" >> beam.Map(lambda sums: int(sums.lists[0]) if sums else 0),
            SERVED: total | "Served" >> beam.Map(_served),
            DEAD: measured[DEAD],
        }


class MeasureLists(beam.DoFn):
    """Tables to the sums of their lists; and the lists that cannot be used, if any."""

    def process(self, table: bytes, meter: Meter) -> Iterator[Any]:
        """See the class."""
        sums, dead = meter.measure(from_bytes(table))
        Metrics.counter(METRICS, "lists_audited").inc(int(sums.lists[0]))
        if len(dead):
            yield dead_lists(dead)
        yield sums


class AddUp(beam.CombineFn):
    """Adds accumulators up; None if there are none."""

    def create_accumulator(self) -> Accumulator | None:
        """Nothing yet: what its shape is, the first one says."""
        return None

    def add_input(self, total: Accumulator | None, sums: Accumulator) -> Accumulator:
        """Adds one, which stays as it is."""
        if total is None:
            return copy.deepcopy(sums)
        total += sums
        return total

    def merge_accumulators(self, totals: Iterable[Accumulator | None]) -> Accumulator | None:
        """Adds up totals; the first may be changed."""
        merged = None
        for total in totals:
            if merged is None:
                merged = total
            elif total is not None:
                merged += total
        return merged

    def extract_output(self, total: Accumulator | None) -> Accumulator | None:
        """The total itself."""
        return total


def _served(total: Accumulator | None) -> list[dict[str, Any]]:
    kinds = total.notes.served.items() if total else []
    return [
        {POLICY: policy, MODEL_VERSION: version, "lists": lists}
        for (policy, version), lists in sorted(kinds, key=str)
    ]


def _report(
    total: Accumulator | None, meter: Meter, config: RunConfig, run: Mapping[str, Any]
) -> dict[str, Any]:
    return meter.report(total or meter.empty(), config, run)
