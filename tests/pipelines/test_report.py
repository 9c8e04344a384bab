import html.parser
import json
import re

import fake_audit
import full_report
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


def words(page: str) -> str:
    """What a page says."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", "", page))


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
        "release",
        "card",
        "settings",
        "counts",
        "index",
        "training",
        "constraint",
        "frontier",
        "releases",
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
    """No address and no file: the page may be sent by mail. Its policy allows its one script."""
    assert "://" not in page
    assert page.count("<script") == 1
    assert "default-src 'none'" in page
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
    cells = [cell for cells in report["runs"][1]["slices"].values() for cell in cells.values()]
    withheld = [cell for cell in cells if cell.get("suppressed")]
    # Once in every table of slices: ratio, share and quality, and what else there is.
    assert withheld
    assert page.count('<a href="#withheld">withheld</a>') in (3 * len(withheld), 4 * len(withheld))
    assert "Slices of fewer than 20 users are not reported" in words(page)


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
    assert "withheld: fewer than two labels of at least 20 users" in words(text)
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
    assert "fewer than 500 users: too few to report on" in words(text)
    assert not re.search(r"<svg", text)


def test_page_says_what_the_index_costs_each_group(page):
    section = page[page.index('id="index"') : page.index('id="leakage"')]
    section = re.sub(r" data-path=\"[^\"]*\"|</?span[^>]*>", "", section)
    assert "without regularizer: the index misses its recall target of 95.0" in section
    assert "</strong> for mixed." in section
    assert "exposure parity: the index misses" not in section
    # Of 3,000 places of mixed groups 94.7 % are found, and the share falls from 3 to 2.92 %.
    row = section[section.index(">mixed</th>") :]
    row = re.sub(r"<[^>]*>|\s+", " ", row[: row.index("</tr>")]).replace("\xa0", " ")
    assert "3,000 94.7 % 94.4–95.0 % 3.0 % 2.9 % −2.8 % −3.2 to −2.4 %" in re.sub(" +", " ", row)


class TestEverythingThatAReportCanHave:
    """Gates, a sweep, earlier releases, cards and what the audit says of labels."""

    @pytest.fixture(scope="class")
    def page(self):
        return render(full_report.full_report())

    @pytest.fixture(scope="class")
    def text(self, page):
        return words(page).replace("\xa0", " ")

    def test_gates_that_did_not_pass_come_before_all_else(self, page, text):
        assert page.index("Gates not passed") < page.index("With the regularizer, exposure")
        assert (
            "Gate failed: women’s films. Asked for: the lower end of the interval of exposure "
            "ratio of female, by gender: at least 0.8; found: 0.71 (female, gender M)." in text
        )
        assert "0.8 to 1.25; found: nothing (no figure: too few users)." in text
        assert "Gate passed" not in text
        section = text[text.index("Does it meet what was asked for?") :]
        order = [section.index(name) for name in ("women’s films failed", "mixed not", "quality p")]
        assert order == sorted(order)

    def test_cards_say_what_people_said_and_what_nobody_did(self, text):
        model = text[text.index("Model card Intended") : text.index("Data card Source")]
        assert "Who set the targets The programme board" in model
        assert "Never: age, director gender, gender." in model
        assert "female 10.6 %, male 81.9 %, mixed 7.5 %" in model
        assert "not stated" not in model
        data = text[text.index("Data card Source") :]
        assert "Period not stated (card.data.period)" in data
        assert "1,000,209 interactions read: 798,730 for training" in data
        assert "unusable: 1,797 (no item id); 0 repeated." in data
        assert "gender: unknown of 103 of 2,400 users." in data

    def test_limits_that_people_know_are_among_the_limits(self, page):
        assert full_report.CARD["limits"][0] in page[page.index('id="limits"') :]

    def test_the_trend_ends_with_this_release(self, page):
        table = page[page.index('id="trend-table"') :]
        table = table[: table.index("</table>")]
        releases = re.findall(r'<th scope="row">(.*?)</th>', table)
        assert releases == ["August", "September", "October, after the quota", "November"]
        assert 'id="trend-0-title">Exposure ratio of female over the releases' in page

    def test_the_sweep_is_drawn_and_listed(self, page, text):
        assert page.count("over the exposure ratio of") == 2
        assert "cost less: exposure parity, min diff." in text
        table = text[text.index("Every setting that was tried") :]
        assert table.index("without regularizer") < table.index("min diff 1 0.73 0.71–0.75")

    def test_what_the_audit_says_of_labels_and_chance(self, text):
        assert "Each of 9,999 permutations deals the 2,400 users out anew" in text
        assert "the smallest p that they can show is 0.0001" in text
        assert "all users 8.1 % – 0.71–1.03 0.71–1.03 0.71–1.03" in text
        assert "5.0 % 0.87 1.02 –" in text
        assert "users by gender exposure ratio: female unknown F +0.12 +0.10 to +0.14 0.87" in text

    def test_it_is_small_and_the_same_every_time(self, page):
        assert render(full_report.full_report()) == page
        assert len(page.encode()) < 1_500_000

    def test_references_exist(self, page):
        parsed = Page(page)
        assert not parsed.open
        assert len(parsed.ids) == len(set(parsed.ids))
        anchors = [link.removeprefix("#") for name, link in parsed.links if name == "href"]
        assert set(anchors) <= set(parsed.ids)


def test_a_hostile_label_ends_no_attribute(report):
    """The places of numbers hold labels, too."""
    evil = '"><script>alert(1)</script>'
    hostile = json.loads(json.dumps(report).replace('"female"', json.dumps(evil)))
    text = render(hostile)
    assert text.count("<script") == 1
    assert not Page(text).open
