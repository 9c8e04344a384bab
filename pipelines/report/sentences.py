"""What the audit found, in sentences; every number in them is traced to `report.json`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipelines.report import wording
from pipelines.report.trace import shown
from pipelines.report.wording import Figure, find, headline_metrics, overall_cells, steered_groups


def headline(report: Mapping[str, Any]) -> Markup:
    """The outcome in one sentence."""
    _, after, _ = overall_cells(report)
    if after.get("suppressed"):
        return Markup("The lists are of fewer than {} users: too few to report on.").format(
            shown(report["runs"][-1]["min_users"], wording.count)
        )
    parts = [part for part in (_exposure_outcome(report), _quality_outcome(report)) if part]
    if not parts:
        return Markup("Too few of the users have a held-out item to say how good the lists are.")
    opening = "With the regularizer, " if report["comparison"] else ""
    return Markup("{}{}.").format(opening, Markup("; ").join(parts))


def _exposure_outcome(report: Mapping[str, Any]) -> Markup | None:
    before, after, _ = overall_cells(report)
    closer: dict[bool, list[str]] = {True: [], False: []}
    for group in steered_groups(report):
        was, now = (find(cell, "groups", group, "exposure_ratio") for cell in (before, after))
        if was and now:
            closer[abs(now["value"] - 1) < abs(was["value"] - 1)].append(group)
    if not any(closer.values()):
        return None
    if not closer[False]:
        return Markup("exposure is closer to the target for every group")
    if not closer[True]:
        return Markup("exposure is closer to the target for no group")
    return Markup("exposure is closer to the target for {}, but not for {}").format(
        _listed(closer[True]), _listed(closer[False])
    )


def _quality_outcome(report: Mapping[str, Any]) -> Markup | None:
    _, after, change = overall_cells(report)
    _, ndcg = headline_metrics(report)
    name, moved = wording.measure_name(ndcg), find(change, "quality", ndcg, "relative")
    if moved is None:
        now = find(after, "quality", ndcg)
        return now and Markup("{} is {}").format(name, _with_interval(now, wording.quality))
    said = "shows no clear change:" if moved["low"] <= 0 <= moved["high"] else "changed by"
    return Markup("{} {} {}").format(name, said, _with_interval(moved, wording.relative_change))


def verdict(report: Mapping[str, Any]) -> list[Markup]:
    """What the audit found about each group, and where the worst slice is, in sentences."""
    cells = overall_cells(report)
    sentences = []
    for group in steered_groups(report):
        was, now, moved = (find(cell, "groups", group, "exposure_ratio") for cell in cells)
        if now is not None:
            sentences.append(_group_sentence(report, group, was, now, moved))
    sentences += [_constraint_sentence(**said) for said in report["constraint"].values()]
    worst = worst_slice(report["runs"][-1])
    if worst is not None:
        name, value, group, now = worst
        sentences.append(
            Markup(
                "The slice furthest from the target is {} ({}): there, items of group {} get {} "
                "of what the target gives them."
            ).format(value, name, group, _percent(now))
        )
    return sentences


def _group_sentence(
    report: Mapping[str, Any],
    group: str,
    was: Figure,
    now: Mapping[str, float],
    moved: Figure,
) -> Markup:
    due = {
        "catalogue": "their share of the catalogue gives them",
        "uniform": "an equal share for every group gives them",
    }.get(report["settings"]["fairness"]["target"]["kind"], "the target gives them")
    sentence = Markup("Items of group {} get {} of the exposure that {}").format(
        group, _percent(now), due
    )
    if was is None or moved is None:
        return sentence + "."
    earlier = shown(was["value"], wording.whole_share)
    if moved["low"] <= 0 <= moved["high"]:
        return Markup("{}; from {} this is no clear change.").format(sentence, earlier)
    direction = "up" if moved["value"] > 0 else "down"
    return Markup("{}, {} from {}.").format(sentence, direction, earlier)


def _constraint_sentence(bands: int, unmet_bands: int) -> Markup:
    # Ratios stay out: a band may be of fewer users than are reported on.
    measured = "as measured on lists for users of the training part when it ended"
    said = shown(bands, wording.count)
    if not unmet_bands:
        return Markup("The model was trained under a constraint, {} bands, all met {}.").format(
            said, measured
        )
    return Markup(
        "The model was trained under a constraint: of its {} bands {} are not met, {}."
    ).format(said, shown(unmet_bands, wording.count), measured)


def worst_slice(run: Mapping[str, Any]) -> tuple[str, str, str, Mapping[str, float]] | None:
    """The slice, value and group furthest from a ratio of 1, among those that chance cannot be."""
    found = [
        (name, value, group, figure)
        for name, cells in run["slices"].items()
        for value, cell in cells.items()
        for group, about in run["groups"].items()
        if about["target"] is not None
        and (figure := find(cell, "groups", group, "exposure_ratio"))
        and not figure["low"] <= 1 <= figure["high"]
    ]
    return max(found, key=lambda each: abs(each[-1]["value"] - 1), default=None)


def _with_interval(figure: Mapping[str, float], form: wording.Form) -> Markup:
    return shown(figure, lambda each: wording.with_interval(each, form))


def _percent(figure: Mapping[str, float]) -> Markup:
    """`93 % (91–95)`, with a decimal where whole percents would hide the interval."""
    low, value, high = (100 * figure[part] for part in ("low", "value", "high"))
    digits = 0 if high - low >= 1 else 1
    text = f"{value:.{digits}f}\u00a0% ({low:.{digits}f}–{high:.{digits}f})"
    return shown(figure, lambda _: text)


def _listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
