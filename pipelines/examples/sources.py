"""Where the chunks of an input come from: files, or the streams of a BigQuery table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import apache_beam as beam
from apache_beam.pvalue import AsIter, PBegin

from pipelines.examples.inputs import Log, Table
from pipelines.readers.bigquery import Page, ReadPages, is_table


class Chunks(beam.PTransform):
    """The chunks of an input, each a part of a file or a page of a table, spread over workers.

    `beam.Create` itself reshuffles what it is given.
    """

    def __init__(self, plan: Log | Table) -> None:
        super().__init__()
        self._plan = plan

    def expand(self, begin: PBegin) -> beam.PCollection:
        """See the class."""
        if is_table(self._plan.files[0]):
            return begin | ReadPages(self._plan.files[0], 0, self._plan.columns)
        return begin | beam.Create(self._plan.chunks)


class Plan(beam.PTransform):
    """A plan as the one element, from which a single worker can read the whole users or items."""

    def __init__(self, plan: Table) -> None:
        super().__init__()
        self._plan = plan

    def expand(self, begin: PBegin) -> beam.PCollection:
        """See the class."""
        plan = begin | beam.Create([self._plan])
        if not is_table(self._plan.files[0]):
            return plan
        return plan | "With pages" >> beam.Map(_with_pages, AsIter(begin | Chunks(self._plan)))


def _with_pages(plan: Table, pages: Iterable[Page]) -> Table:
    return dataclasses.replace(plan, chunks=tuple(sorted(pages, key=lambda p: p.first_row)))
