"""The page in a real browser: what people see, hear, sort and print.

It takes a Chromium, which `make install-test` installs on Debian; without one these tests are
skipped, but not in CI.
"""

import os
import pathlib
import shutil

import full_report
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, sync_playwright

from pipelines.report.build import write_report

WIDTHS = [360, 1440]
SCHEMES = ["light", "dark"]


@pytest.fixture(scope="module")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        assert not os.environ.get("CI"), "there is no Chromium: apt-get install chromium"
        pytest.skip("there is no Chromium: on Debian, sudo apt-get install chromium")
    # Chromium's own sandbox needs rights that root in a container has not; the page is ours.
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(full_report.full_report(), folder)
    return folder / "report.html"


def open_page(browser: Browser, path: pathlib.Path, **options) -> Page:
    page = browser.new_page(**options)
    page.goto(path.as_uri())
    return page


@pytest.fixture(scope="module")
def wide(browser, path):
    return open_page(browser, path, viewport={"width": 1440, "height": 900})


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_asked_for_and_nothing_goes_wrong(browser, path, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    requests, problems = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(path.as_uri())
    assert requests == [path.as_uri()]
    assert problems == []
    page.close()


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows(browser, path, width):
    """Tables scroll in their own boxes; the page never does."""
    page = open_page(browser, path, viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    overflowing = page.evaluate(
        """width => [...document.querySelectorAll("body *")]
            .filter(e => !e.closest(".scroll > *, svg *"))
            .filter(e => e.getBoundingClientRect().right > width + 0.5)
            .map(e => e.outerHTML.slice(0, 80))""",
        width,
    )
    assert overflowing == []
    page.close()


@pytest.mark.parametrize(("width", "scheme"), zip(WIDTHS, SCHEMES, strict=True))
def test_axe_finds_nothing(browser, path, width, scheme):
    viewport = {"width": width, "height": 800}
    page = open_page(browser, path, viewport=viewport, color_scheme=scheme)
    violations = Axe().run(page).response["violations"]
    assert [(v["id"], [node["html"] for node in v["nodes"]]) for v in violations] == []
    page.close()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_plots_stand_out_from_the_page(browser, path, scheme):
    """WCAG 2.1, 1.4.11: marks have a contrast of at least 3 to what is behind them."""
    page = open_page(browser, path, color_scheme=scheme)
    colours = page.evaluate(
        """() => {
            const style = getComputedStyle(document.documentElement);
            const names = ["--paper", "--before", "--after",
                           ...[0, 1, 2, 3, 4, 5].map(i => `--series-${i}`)];
            return names.map(name => style.getPropertyValue(name).trim());
        }"""
    )
    paper, *marks = (luminance(colour) for colour in colours)
    for mark in marks:
        darker, lighter = sorted((paper, mark))
        assert (lighter + 0.05) / (darker + 0.05) >= 3
    page.close()


def luminance(colour: str) -> float:
    """Relative luminance of `#rrggbb`, WCAG 2.1."""
    whole = "".join(2 * c for c in colour[1:]) if len(colour) == 4 else colour[1:]
    parts = [int(whole[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def column(page: Page, table: str, body: int, place: int) -> list[str]:
    return page.evaluate(
        """([table, body, place]) => [...document.getElementById(table).closest("table")
            .tBodies[body].rows].filter(row => !row.classList.contains("heading"))
            .map(row => row.cells[place]?.firstChild.textContent.trim() ?? "")""",
        [table, body, place],
    )


def test_a_column_sorts_up_down_and_back(wide):
    """The second `with` of the table is that of the second group, in column 6."""
    table = wide.locator("table", has=wide.locator("#ratio-table"))
    button = table.get_by_role("button", name="with", exact=True).nth(1)
    header = table.locator("thead tr:nth-child(2) th").nth(4)
    cells = lambda body: column(wide, "ratio-table", body, 6)  # noqa: E731
    original = [cells(body) for body in range(4)]
    for state, reverse in (("ascending", False), ("descending", True)):
        button.click()
        assert header.get_attribute("aria-sort") == state
        for body, before in enumerate(original):
            shown = [float(text) for text in before if text]
            # Slices that are withheld stay at the end.
            expected = [f"{x:.2f}" for x in sorted(shown, reverse=reverse)]
            assert cells(body) == expected + [""] * (len(before) - len(shown))
    button.click()
    assert header.get_attribute("aria-sort") is None
    assert [cells(body) for body in range(4)] == original


def test_rows_stay_below_the_name_of_their_slice(wide):
    table = wide.locator("table", has=wide.locator("#quality-table"))
    table.get_by_role("button", name="number").click()
    numbers = [int(text.replace(",", "")) for text in column(wide, "quality-table", 1, 1)]
    assert numbers == sorted(numbers)
    assert table.locator("tbody").nth(1).locator("tr").first.inner_text().strip() == "gender"
    labels = set(column(wide, "quality-table", 1, 0))
    assert labels == {"F", "M", "unknown"}


def test_minus_signs_and_percents_are_sorted_as_numbers(wide):
    table = wide.locator("table", has=wide.locator("#frontier-table"))
    table.get_by_role("button", name="its change").click()
    shown = column(wide, "frontier-table", 0, 6)
    values = [float(text.replace("−", "-").rstrip("\xa0%")) for text in shown if text != "–"]
    assert min(values) < 0
    assert values == sorted(values)
    assert shown[-1] == "–", "the model without a regularizer has no change"


def test_names_are_sorted_as_people_count(wide):
    """`0–17`, `18–24`: numbers in names by size; and only one column has an order."""
    table = wide.locator("table", has=wide.locator("#share-table"))
    table.get_by_role("button", name="number").click()
    table.get_by_role("button", name="users").click()
    assert column(wide, "share-table", 2, 0) == ["0–17", "18–24", "25–44", "45+"]
    assert table.locator("[aria-sort]").count() == 1


def test_sorting_works_by_keyboard(wide):
    table = wide.locator("table", has=wide.locator("#exposure-table"))
    button = table.get_by_role("button", name="target", exact=True)
    button.focus()
    wide.keyboard.press("Shift+Tab")
    wide.keyboard.press("Tab")
    assert wide.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    wide.keyboard.press("Enter")
    assert column(wide, "exposure-table", 0, 0) == ["mixed", "female", "male", "unknown"]
    wide.keyboard.press("Space")
    assert column(wide, "exposure-table", 0, 0) == ["male", "female", "mixed", "unknown"]
    # From one to the next, without a trap.
    wide.keyboard.press("Tab")
    assert "listed" in wide.evaluate("document.activeElement.textContent")


def test_without_scripts_the_page_is_complete(browser, path, wide):
    page = browser.new_page(java_script_enabled=False)
    page.goto(path.as_uri())
    assert page.locator("table").count() == wide.locator("table").count()
    assert page.locator("button").count() == 0
    page.close()


def test_a_label_is_no_script(browser, tmp_path):
    """Names come from somebody's table: even one that got through would be refused."""
    write_report(full_report.full_report(), tmp_path)
    file = tmp_path / "report.html"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("</h1>", "</h1><script>window.evil = 1</script>", 1))
    page = open_page(browser, file)
    assert page.evaluate("window.evil") is None
    assert page.get_by_role("button").count() > 100, "the page's own script runs"
    page.close()


def test_a_plot_leads_a_screen_reader_to_its_table(wide):
    plots = wide.locator("svg")
    assert plots.count() == 3 + 2 + 2 * 3  # All users, mix, quality; frontier; slices and trend
    captions = wide.locator("caption").all_inner_texts()
    for plot in plots.all():
        description = plot.locator("desc").text_content()
        assert description.split("“")[1].split("”")[0] in captions


def test_it_prints(browser, path):
    """Dark screens print on white paper, wide tables are not cut off, and links need no menu."""
    page = open_page(browser, path, color_scheme="dark", viewport={"width": 1000, "height": 700})
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    hidden = page.evaluate(
        """() => [...document.querySelectorAll(".scroll")]
            .filter(box => getComputedStyle(box).overflowX !== "visible").length"""
    )
    assert hidden == 0
    page.emulate_media(media=None)
    paper = page.pdf(prefer_css_page_size=True)
    assert paper.startswith(b"%PDF")
    assert 5 <= paper.count(b"/Type /Page\n") <= 40
    page.close()
