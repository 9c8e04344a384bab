"""What the vectors give away, in rows of a table and in sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from markupsafe import Markup

from pipelines.report import wording
from pipelines.report.trace import shown

Probe = Mapping[str, Any]
"""What `pipelines.audit.leakage` found about one attribute."""


@dataclasses.dataclass(frozen=True)
class Probed:
    """One attribute in the vectors of the run before (None if there is none) and the run after."""

    side: str
    attribute: str
    before: Probe | None
    after: Probe


def probed(report: Mapping[str, Any]) -> list[Probed]:
    """The attributes that were probed, those of users first."""
    *earlier, last = (
        {(each["side"], each["attribute"]): each for each in run.get("leakage", [])}
        for run in report["runs"]
    )
    return [
        Probed(side, name.replace("_", " "), earlier[0].get((side, name)) if earlier else None, now)
        for (side, name), now in last.items()
    ]


def findings(report: Mapping[str, Any]) -> Iterator[Markup]:
    """One sentence per attribute: whether the vectors give it away.

    They are about the balanced accuracy, for which guessing is as good whatever the frequencies:
    where nine of ten items are of one group, accuracy has little room above the guess.
    """
    for each in probed(report):
        now = wording.find(each.after, "balanced_accuracy")
        if now is None:
            continue
        guess, was = each.after["balanced_baseline"], wording.find(each.before, "balanced_accuracy")
        earlier = was and Markup("; without the regularizer {}").format(
            shown(was["value"], wording.share)
        )
        yield Markup(
            "The vectors of {} {} {} away: with every label counted alike, a classifier that sees "
            "nothing else is right in {} of cases, a guess in {}{}."
        ).format(
            each.side,
            "give" if above(now, guess) else "do not clearly give",
            each.attribute,
            shown(now, lambda figure: wording.with_interval(figure, wording.share)),
            shown(guess, wording.share),
            earlier or "",
        )


def above(figure: Mapping[str, float] | None, baseline: float) -> bool:
    """Whether the whole interval of a figure is above what a guess reaches."""
    return figure is not None and figure["low"] > baseline
