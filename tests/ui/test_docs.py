# SPDX-License-Identifier: Apache-2.0
"""The documentation in a browser: code and tables fit their page, and the search finds answers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import ViewportSize, expect

from tests.support.paths import ROOT

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.ui.browser import Browser

pytestmark = [
    # Pages are written for the newest Airflow.
    pytest.mark.airflow(since="3.3"),
    pytest.mark.xdist_group("documentation"),  # which is built once
    pytest.mark.skipif(find_spec("sphinx") is None, reason="the extra docs is not installed"),
]

DOCS = ROOT / "docs"
FIRST_PAGES = ("index", "get-started/quickstart")
USER_PAGES = sorted(
    f"{folder}/{file.stem}"
    for folder in ("get-started", "guides", "operators", "operations")
    for file in DOCS.glob(f"{folder}/*.md")
)
DESKTOP = ViewportSize(width=1400, height=900)
PHONE = ViewportSize(width=390, height=844)
FIRST_HITS = 3
SEARCHES = {
    "401": "operations/troubleshooting",
    "409": "operations/troubleshooting",
    "429": "operations/troubleshooting",
    "plot": "guides/download-outputs",
    "slack": "guides/run-a-notebook",
    "get a value out of a notebook": "guides/download-outputs",
    "TI was not in the running state": "operations/troubleshooting",
}
"""What users type into the search, and a page that answers it."""
TOO_WIDE = """
(boxes) => boxes.filter((box) => box.scrollWidth > box.clientWidth)
                .map((box) => `${box.clientWidth} of ${box.scrollWidth} px: ${box.innerText.slice(0, 60)}`)
"""


class Quiet(SimpleHTTPRequestHandler):
    """Serve files without a log."""

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the standard library names it
        pass


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Build the documentation, and yield the URL at which it is served."""
    folder = tmp_path_factory.mktemp("site")
    html = folder / "html"
    command = (sys.executable, "-m", "sphinx", "-q", "-b", "html", "-d", folder / "doctrees", DOCS, html)
    subprocess.run(command, cwd=ROOT, check=True, timeout=200)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=html)) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def page(browser: Browser, site: str, tmp_path: Path) -> Iterator[Page]:
    """Yield a page of the documentation; it must not need anything beyond this machine."""
    browser.refused.clear()
    page = browser.open(site)
    yield page
    page.close()
    assert browser.refused == []


@pytest.mark.parametrize("name", FIRST_PAGES)
def test_code_on_the_first_pages_is_not_cut_off(page: Page, name: str) -> None:
    page.set_viewport_size(DESKTOP)
    page.goto(f"/{name}.html")
    code = page.locator("div.highlight pre")

    assert code.count() > 0
    assert code.evaluate_all(TOO_WIDE) == []


@pytest.mark.parametrize("name", ["index", *USER_PAGES])
def test_no_page_and_no_table_scrolls_sideways_on_a_phone(page: Page, name: str) -> None:
    page.set_viewport_size(PHONE)
    page.goto(f"/{name}.html")

    assert page.locator("html, .table-wrapper").evaluate_all(TOO_WIDE) == []


@pytest.mark.parametrize(("typed", "page_name"), SEARCHES.items())
def test_the_search_finds_a_page_that_answers(page: Page, typed: str, page_name: str) -> None:
    page.goto("/index.html")
    search = page.locator("input.sidebar-search")
    search.fill(typed)
    search.press("Enter")

    expect(page.get_by_role("heading", name="Search Results")).to_be_visible()
    hits = page.locator("#search-results ul.search > li > a")
    addresses = [hits.nth(number).get_attribute("href") for number in range(min(FIRST_HITS, hits.count()))]
    assert any(f"{page_name}.html" in (address or "") for address in addresses), addresses
