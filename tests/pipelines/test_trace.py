"""Every number on the page is the one of `report.json` that it says it is, rounded."""

import html.parser
import json
import re
from decimal import Decimal

import fake_audit
import full_report
import pytest

from pipelines.report.build import write_report
from pipelines.report.trace import shown, traced

NUMBER = re.compile(r"[+−-]?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
VOID = ("meta", "br")


def test_pointers_are_those_of_rfc_6901():
    (value,) = traced({"a/b": {"m~n": [None, 7]}})["a/b"].values()
    assert value[1].pointer == "/a~1b/m~0n/1"
    assert value.pointer == "/a~1b/m~0n"


def test_traced_values_are_the_values():
    value = {"a": [1, 2.5, "x", None, True, {"b": False}]}
    assert traced(value) == value
    assert traced(True) is True


def test_what_is_shown_is_escaped_and_says_where_it_stands():
    evil = traced({'"><b>': 1.0})['"><b>']
    assert str(shown(evil, "{}<i>".format)) == (
        '<span data-path="/&#34;&gt;&lt;b&gt;">1.0&lt;i&gt;</span>'
    )


def test_a_number_that_was_computed_claims_no_place():
    value = traced({"a": 2.0})["a"]
    assert shown(value * 2, "{:g}".format) == "4"


class Numbers(html.parser.HTMLParser):
    """The text of every element with a `data-path`, and the text outside of them."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[tuple[str, bool]] = []
        self.found: list[tuple[str, str]] = []
        self.outside: list[tuple[tuple[str, ...], str]] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if "data-path" in attributes:
            assert not any(traced for _, traced in self.open), "one within another"
            self.found.append((attributes["data-path"], ""))
        if tag not in VOID:
            # What a measure means is told with numbers that are nobody's figures.
            name = "meaning" if attributes.get("class") == "meaning" else tag
            self.open.append((name, "data-path" in attributes))

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        self.open.pop()

    def handle_data(self, data):
        if any(traced for _, traced in self.open):
            path, text = self.found[-1]
            self.found[-1] = (path, text + data)
        else:
            self.outside.append((tuple(tag for tag, _ in self.open), data))


@pytest.fixture(scope="module", params=["as audited", "with all there can be"])
def written(request, tmp_path_factory) -> tuple[dict, Numbers]:
    folder = tmp_path_factory.mktemp("report")
    if request.param == "as audited":
        report = fake_audit.report(fake_audit.config(audit={"bootstrap_samples": 100}))
    else:
        report = full_report.full_report()
    write_report(report, folder)
    page = (folder / "report.html").read_text(encoding="utf-8")
    return json.loads((folder / "report.json").read_text(encoding="utf-8")), Numbers(page)


def look_up(report, pointer: str):
    for step in pointer.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        report = report[int(step) if isinstance(report, list) else step]
    return report


def numbers_of(value) -> list[float]:
    """What an element shows: a number, a figure with its interval, or how long a list is."""
    if isinstance(value, dict):
        return [value[part] for part in ("value", "low", "high") if part in value]
    return [len(value) if isinstance(value, list) else value]


def test_every_number_is_the_one_in_the_report(written):
    """Written numbers are as near as their last digit allows: half of it, and a hair."""
    report, page = written
    assert len(page.found) > 500
    for pointer, text in page.found:
        percent = Decimal(100 if "%" in text else 1)
        found = [Decimal(n.replace(",", "").replace("−", "-")) for n in NUMBER.findall(text)]
        expected = [percent * Decimal(value) for value in numbers_of(look_up(report, pointer))]
        assert len(found) == len(expected), (pointer, text)
        for number, value in zip(found, expected, strict=True):
            half = Decimal(10) ** number.as_tuple().exponent / 2
            assert abs(number - value) <= half * Decimal("1.000001"), (pointer, text)


def test_no_number_of_the_verdict_and_of_the_tables_goes_without_its_place(written):
    """But for numbers in names, of slices and measures, and the one that a ratio should be."""
    report, page = written
    slices = [value for cells in report["runs"][-1]["slices"].values() for value in cells]
    names = [*slices, "NDCG@100", "recall@100", "float32", "furthest from 1", "A ratio of 1"]
    known = re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True))))
    shown = [text for tags, text in page.outside if {*tags} & {"li", "td"}]
    assert len(shown) > 50
    assert [text for text in shown if NUMBER.search(known.sub("", text))] == []
