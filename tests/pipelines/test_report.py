import html.parser
import json
import re

import fake_audit
import pytest

from pipelines.audit.figures import audit, measure
from pipelines.report.build import build_report, summary_table, write_report
from pipelines.report.page import render


class Page(html.parser.HTMLParser):
    """Ids, links and the tree of a page, as far as the tests look at them."""

    VOID = ("meta", "br")

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.links, self.open, self.scopes, self.tables = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids += [attributes["id"]] if "id" in attributes else []
        for name in ("href", "src", "aria-labelledby"):
            self.links += [(name, attributes[name])] if name in attributes else []
        if tag == "table":
            self.tables.append([])
        if tag == "caption":
            self.tables[-1].append("caption")
        if tag == "th":
            self.scopes.append(attributes.get("scope"))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes nothing"


@pytest.fixture(scope="module")
def report() -> dict:
    return fake_audit.report(fake_audit.config(audit={"bootstrap_samples": 100}))


@pytest.fixture(scope="module")
def page(report) -> str:
    return render(report)


def single(**changes) -> dict:
    """A report of one run."""
    config = fake_audit.config(audit={"bootstrap_samples": 100}, **changes)
    tables = fake_audit.world(num_users=200)
    shared = [tables[name] for name in ("catalogue", "users", "relevant")]
    measured = measure(tables["after"], *shared, config, {"variant": "without_regularizer"})
    return build_report(config, [audit(measured, config)], None, {})


def test_report_has_its_parts(report):
    assert list(report) == [
        "schema_version",
        "title",
        "settings",
        "counts",
        "index",
        "training",
        "constraint",
        "runs",
        "comparison",
    ]
    assert report["settings"]["fairness"]["regularizer"] == "exposure_parity"
    assert [run["run"]["variant"] for run in report["runs"]] == [
        "without_regularizer",
        "exposure_parity",
    ]


def test_settings_name_no_file():
    """A report is shown around; where somebody's data lie is not."""
    config = fake_audit.config(data={"dataset": "movielens_1m", "directory": "secret-place"})
    assert "secret-place" not in json.dumps(build_report(config, [], None, {}))


def test_figures_of_other_stages_that_are_no_numbers_become_null():
    history = {"x": [{"epoch": 1, "loss": float("nan")}]}
    report = build_report(fake_audit.config(), [], None, {"training": history})
    assert report["training"] == {"x": [{"epoch": 1, "loss": None}]}


def test_written_files_are_the_same_every_time(report, tmp_path):
    for folder in ("one", "two"):
        write_report(report, tmp_path / folder)
    for name in ("report.json", "report.html"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    text = (tmp_path / "one" / "report.json").read_text(encoding="utf-8")
    assert json.loads(text) == report


def test_page_needs_nothing_else(page):
    """No address, script or file: the page may be sent by mail."""
    assert "http" not in page
    assert "<script" not in page
    assert "@import" not in page
    assert all(link.startswith("#") for name, link in Page(page).links if name in ("href", "src"))


def test_page_is_well_formed_and_its_references_exist(page):
    parsed = Page(page)
    assert not parsed.open
    assert len(parsed.ids) == len(set(parsed.ids))
    for name, link in parsed.links:
        for target in link.split() if name == "aria-labelledby" else [link.removeprefix("#")]:
            assert target in parsed.ids or target in ("Verdict", "Sections")


def test_tables_have_captions_and_headers_a_scope(page):
    parsed = Page(page)
    assert len(parsed.tables) >= 7
    assert all(table == ["caption"] for table in parsed.tables)
    assert None not in parsed.scopes


def test_page_begins_with_the_verdict(page):
    assert page.index("With the regularizer, exposure is closer") < page.index("<h2")


def test_page_shows_every_slice_and_withholds_small_ones(page, report):
    for name, cells in report["runs"][0]["slices"].items():
        assert f"<span>{name}</span>" in page
        for value in cells:
            assert f'<th scope="row">{value}</th>' in page
    assert "withheld: fewer than 20 users" in page


def test_page_has_a_plot_per_group(page):
    parsed = Page(page)
    for plot in ("exposure", "slices-0", "slices-1", "slices-2", "quality"):
        assert f"{plot}-title" in parsed.ids


def test_page_says_what_the_vectors_give_away(page):
    assert "The vectors of users give gender away" in page
    assert "The vectors of users do not clearly give age away" in page
    rows = dict(re.findall(r'<th scope="row">(gender|age)</th>(.*?)</tr>', page, re.DOTALL))
    # Without and with the regularizer, for both ways to count.
    assert rows["gender"].count('class="num clear"') == 4
    assert rows["age"].count('class="num clear"') == 0


def test_page_withholds_attributes_of_too_few_users(report):
    withheld = {"side": "users", "attribute": "religion", "suppressed": True}
    runs = [run | {"leakage": [withheld]} for run in report["runs"]]
    text = render(report | {"runs": runs})
    assert not Page(text).open
    assert "withheld: fewer than two labels of at least 20 users" in text
    assert "give religion away" not in text


def test_page_has_more_measures_with_their_meaning(page, report):
    table = page[page.index("more-table") :]
    table = table[: table.index("</table>")]
    rows = re.findall(r'<tr>\s*<th scope="row">(.*?)</th>.*?</tr>', table, re.DOTALL)
    assert rows == [
        *("recall@20", "NDCG@20", "MRR@20", "hit rate@20", "MRR@100", "hit rate@100"),
        *("min skew", "max skew", "AWRF", "diversity", "NDKL"),
    ]
    assert table.count('<td class="meaning">') == len(rows)
    assert all(report["runs"][-1]["overall"]["across_groups"].values())


def test_page_follows_light_dark_and_paper(page):
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page


def test_names_from_the_data_are_escaped(report):
    """Labels come from somebody's table."""
    evil = "<img src=x onerror=alert(1)>"
    hostile = json.loads(json.dumps(report).replace('"female"', json.dumps(evil)))
    hostile["title"] = evil
    text = render(hostile)
    assert "<img" not in text
    assert text.count("&lt;img src=x") > 10


def test_page_of_a_single_run():
    report = single()
    text = render(report)
    assert not Page(text).open
    assert "With the regularizer" not in text
    assert "change</th>" not in text
    assert {row.before for row in summary_table(report)} == {"–"}


def test_page_without_groups_is_about_quality():
    text = render(single(groups=None))
    assert not Page(text).open
    assert "How good are the lists?" in text
    assert "How much of the attention" not in text


def test_page_without_slices():
    text = render(single(slices=[]))
    assert not Page(text).open
    assert "Which slice" not in text


def test_page_of_too_few_users_says_so():
    config = fake_audit.config(audit={"bootstrap_samples": 100, "min_users": 500})
    report = fake_audit.report(config, num_users=100)
    text = render(report)
    assert not Page(text).open
    assert "fewer than 500 users: too few to report on" in text
    assert not re.search(r"<svg", text)


def test_page_says_what_the_index_costs_each_group(page):
    section = page[page.index('id="index"') : page.index('id="leakage"')]
    assert "without regularizer: the index misses its recall target of 95.0" in section
    assert "</strong> for mixed." in section
    assert "exposure parity: the index misses" not in section
    # Of 3,000 places of mixed groups 94.7 % are found, and the share falls from 3 to 2.92 %.
    row = section[section.index(">mixed</th>") :]
    row = re.sub(r"<[^>]*>|\s+", " ", row[: row.index("</tr>")]).replace("\xa0", " ")
    assert "3,000 94.7 % 94.4–95.0 % 3.0 % 2.9 % −2.8 % −3.2 to −2.4 %" in re.sub(" +", " ", row)
