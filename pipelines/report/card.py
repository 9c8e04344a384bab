"""The cards of the model and of the data: what people said of them, and what the run knows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from fairness_losses.config import UNKNOWN
from pipelines.report import wording
from pipelines.report.trace import shown
from pipelines.report.wording import find

_TARGETS = {
    "catalogue": "Every group should get its share of the catalogue.",
    "uniform": "Every group should get the same share.",
    "merit": "Every group should get its share of what users chose in training.",
    "population": "Every group should get its share of a population.",
    "explicit": "Every group should get a share that was given for it.",
}

_PARTS = {"train": "training", "test": "the test"}

_CROSSED = " × "
"""In the name of a slice that others make, see `pipelines.config.SliceConfig.name`."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of a card.

    Attributes:
        label: What it is about.
        said: Sentences; none where nobody said anything.
        setting: Where people say it, if it is for them to say.
    """

    label: str
    said: Sequence[Markup]
    setting: str | None = None


def model_card(report: Mapping[str, Any]) -> list[Entry]:
    """Returns the card of the model, in the order of its reading."""
    return [
        _stated(report, "Intended use", "intended_use"),
        _stated(report, "Not for", "not_for"),
        _stated(report, "Who answers for it", "owner"),
        Entry("Targets", list(_targets(report))),
        _stated(report, "Who set the targets", "targets_set_by"),
        _stated(report, "Why these targets", "targets_because"),
        Entry("How exposure is steered", list(_steering(report))),
        Entry("What the model is told", list(_features(report))),
        Entry("What was audited", list(_versions(report))),
        _stated(report, "Its own limits", "limits"),
    ]


def data_card(report: Mapping[str, Any]) -> list[Entry]:
    """Returns the card of the data, in the order of its reading."""
    return [
        _stated(report, "Source", "data", "source"),
        _stated(report, "Period", "data", "period"),
        _stated(report, "Grounds for using attributes", "data", "grounds"),
        Entry("Size", list(_sizes(report))),
        Entry("Groups of items", list(_groups(report))),
        _stated(report, "Who labelled the items", "data", "item_groups"),
        Entry("Slices of users", list(_slices(report))),
        _stated(report, "Who labelled the users", "data", "user_slices"),
        _stated(report, "Whom the data leave out", "data", "gaps"),
    ]


def _stated(report: Mapping[str, Any], label: str, *path: str) -> Entry:
    said = find(report, "card", *path) or []
    sentences = [escape(each) for each in ([said] if isinstance(said, str) else said)]
    return Entry(label, sentences, ".".join(["card", *path]))


def _targets(report: Mapping[str, Any]) -> Iterator[Markup]:
    groups = report["runs"][-1]["groups"]
    if not groups:
        yield Markup("There are no groups, and so no targets.")
        return
    yield Markup(_TARGETS[report["settings"]["fairness"]["target"]["kind"]])
    yield _enumerated(
        Markup("{} {}").format(group, shown(about["target"], wording.share))
        for group, about in groups.items()
        if about["target"] is not None
    )


def _steering(report: Mapping[str, Any]) -> Iterator[Markup]:
    fairness, policy = (report["settings"][name] for name in ("fairness", "serving"))
    if report["runs"][-1]["groups"] and fairness["weight"] > 0:
        yield Markup("In training, by the regularizer {}, weight {}.").format(
            _words(fairness["regularizer"]), shown(fairness["weight"], "{:g}".format)
        )
    kind = find(policy, "policy", "kind")
    if kind == "relevance":
        yield Markup("Not in serving: the most relevant items are listed.")
    else:
        yield Markup("In serving, by the policy {}.").format(_words(kind))


def _features(report: Mapping[str, Any]) -> Iterator[Markup]:
    settings = report["settings"]
    used = set()
    for side, tower in (("users", "query"), ("items", "candidate")):
        columns = [feature["column"] for feature in settings["features"][tower]]
        used |= set(columns)
        yield Markup("Of {}: {}.").format(side, _enumerated(map(_words, columns)))
    hidden = [name for name in settings["sensitive"] if name not in used]
    told = [name for name in settings["sensitive"] if name in used]
    if hidden:
        yield Markup("Never: {}.").format(_enumerated(map(_words, hidden)))
    if told:
        yield Markup("Sensitive, and told all the same: {}.").format(_enumerated(map(_words, told)))


def _versions(report: Mapping[str, Any]) -> Iterator[Markup]:
    for run in report["runs"]:
        about = run["run"]
        versions = find(about, "model_version") or []
        named = _words(about["variant"])
        if versions:
            yield Markup("{}, model version {}").format(
                named, _enumerated(shown(each, str) for each in versions)
            )
        else:
            yield escape(named)


def _sizes(report: Mapping[str, Any]) -> Iterator[Markup]:
    counts = report["counts"]
    log = find(counts, "interactions")
    if log:
        written = log["written"]
        yield Markup("{} interactions read: {}; {}; {} repeated.").format(
            shown(log["read"], wording.count),
            _enumerated(
                Markup("{} for {}").format(shown(number, wording.count), _PARTS.get(part, part))
                for part, number in written.items()
            ),
            _unusable(log["dead"]),
            shown(log["duplicates"], wording.count),
        )
    for name in ("users", "items"):
        if (table := find(counts, name)) is not None:
            yield Markup("{} {}.").format(shown(table["written"], wording.count), name)
    if isinstance(find(counts, "audited"), int):
        yield Markup("{} lists read, {} audited; {}.").format(
            shown(counts["read"], wording.count),
            shown(counts["audited"], wording.count),
            _unusable(counts["dead"]),
        )


def _unusable(dead: Mapping[str, int]) -> Markup:
    if not dead:
        return Markup("none unusable")
    reasons = (
        Markup("{} ({})").format(shown(number, wording.count), reason)
        for reason, number in dead.items()
    )
    return Markup("unusable: {}").format(_enumerated(reasons))


def _groups(report: Mapping[str, Any]) -> Iterator[Markup]:
    columns = find(report["settings"], "groups", "columns") or []
    shares = [
        Markup("{} {}").format(group, shown(about["catalogue_share"], wording.share))
        for group, about in report["runs"][-1]["groups"].items()
    ]
    if shares:
        yield Markup("By {}: {} of the catalogue.").format(
            _enumerated(map(_words, columns)), _enumerated(shares)
        )
    else:
        yield Markup("None.")


def _slices(report: Mapping[str, Any]) -> Iterator[Markup]:
    last = report["runs"][-1]
    for name, cells in last["slices"].items():
        if _CROSSED in name:
            continue
        users = find(cells, UNKNOWN, "users")
        if UNKNOWN not in cells:
            yield Markup("{}: known of all users whose lists were audited.").format(name)
        elif users is None:
            yield Markup("{}: unknown of too few users to say how many.").format(name)
        else:
            yield Markup("{}: unknown of {} of {} users.").format(
                name,
                shown(users, wording.count),
                shown(last["overall"]["users"], wording.count),
            )


def _enumerated(parts: Iterable[str]) -> Markup:
    return Markup(", ").join(parts)


def _words(name: str) -> str:
    return name.replace("_", " ")
