"""The picture of the report that the README shows.

    make screenshot

It takes a Chromium, as the tests of the page do.
"""

from __future__ import annotations

import argparse
import pathlib
import shutil

from playwright.sync_api import sync_playwright

_SIZE = (1200, 1240)
"""In CSS pixels: the verdict, and the beginning of what follows it."""


def main() -> None:
    """Writes the PNG."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", type=pathlib.Path, required=True, help="a report.html")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the PNG")
    options = parser.parse_args()
    with sync_playwright() as playwright:
        # Chromium's own sandbox needs rights that root in a container has not; the page is ours.
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        width, height = _SIZE
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme="light")
        page.goto(options.report.absolute().as_uri())
        page.screenshot(path=options.out)
        browser.close()


if __name__ == "__main__":
    main()
