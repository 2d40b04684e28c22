# SPDX-License-Identifier: Apache-2.0
"""The pages of the emulator, to which the links of tasks lead: to read only, and only on this machine."""

from __future__ import annotations

import asyncio
import re
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
import requests
from aiohttp.test_utils import make_mocked_request

from airflow_provider_losant.api.settings import Settings
from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.emulator.http.pages import Pages, _is_loopback
from tests.support.airflow_connection import execute

HOSTILE = "<script>alert('1')</script>\"><img src=x onerror=alert(1)>"
FILES = {"result.html": b"<p>42</p>", "energy-per-hour.csv": b"a"}


class Tags(HTMLParser):
    """Collects the tags of a page and the addresses of its links."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: dict[str, str] = {}
        self._href = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self._href = dict(attrs).get("href") or ""

    def handle_data(self, data: str) -> None:
        if self._href:
            self.links[data] = self._href
        self._href = ""


def get(url: str) -> requests.Response:
    return requests.get(url, timeout=10, allow_redirects=False)


def notebook_url(losant: Emulator, notebook: str) -> str:
    """Return the link that a task has if its connection has the ``app_url`` of the emulator."""
    settings = Settings(token="t", app_url=losant.app_url)
    return settings.notebook_url(
        application_id=losant.application_id, notebook_id=notebook, execution_id="e" * 24
    )


def test_the_link_of_a_task_leads_to_its_execution_and_from_there_to_the_outputs(
    losant: Emulator, notebook: str
) -> None:
    losant.script(notebook, Script(notebook=0, files=FILES))
    execution_id = execute(losant, notebook)
    losant.clear_requests()

    page = get(notebook_url(losant, notebook))

    links = Tags(page.text).links
    assert page.status_code == 200
    assert execution_id in page.text
    assert "completed" in page.text
    assert get(links["result.html"]).text == "<p>42</p>"
    assert get(links["energy-per-hour.csv"]).content == b"a"
    application = Tags(get(losant.url + links["Local application"]).text)
    assert losant.url + application.links["Report"] == notebook_url(losant, notebook)
    assert losant.requests == []


def test_no_name_and_no_error_of_a_notebook_becomes_markup(losant: Emulator) -> None:
    notebook = losant.add_notebook(HOSTILE)
    losant.script(notebook, Script(notebook=0, ending="errored", errors=((HOSTILE, HOSTILE),)))
    execute(losant, notebook)
    url = notebook_url(losant, notebook)

    for page in (get(url), get(url.partition("/notebooks/")[0])):
        assert HOSTILE in unescape(page.text)
        assert Tags(page.text).names.isdisjoint({"script", "img"})
        assert "script-src" not in page.headers["Content-Security-Policy"]
        assert page.headers["Cache-Control"] == "no-store"


def test_an_application_lists_only_its_own_notebooks(losant: Emulator, notebook: str) -> None:
    empty = losant.add_application("Other")

    pages = [get(f"{losant.app_url}/applications/{it}").text for it in (losant.application_id, empty)]

    assert [(notebook in page, "None yet." in page) for page in pages] == [(True, False), (False, True)]


def test_what_does_not_exist_is_not_found_and_nothing_can_be_changed(losant: Emulator, notebook: str) -> None:
    url = notebook_url(losant, notebook)
    other = losant.add_application()
    wrong = [
        f"{losant.app_url}/applications/{'0' * 24}",
        f"{losant.app_url}/applications/{other}/notebooks/{notebook}",
        url.replace(notebook, "0" * 24),
        url.replace(notebook, "%3Cscript%3E"),
    ]

    assert [get(it).status_code for it in wrong] == [404] * len(wrong)
    assert [re.search("<script>", get(it).text) for it in wrong] == [None] * len(wrong)
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        assert requests.request(method, url, timeout=10).status_code == 405


@pytest.mark.parametrize(
    ("address", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("10.0.0.7", False),
        ("2001:db8::1", False),
        ("", False),
        (None, False),
    ],
)
def test_only_clients_on_this_machine_get_a_page(address: str | None, is_loopback: bool) -> None:
    assert _is_loopback(address) is is_loopback


def test_a_client_on_another_machine_gets_none_of_the_pages(losant: Emulator, notebook: str) -> None:
    ids = {"application_id": losant.application_id, "notebook_id": notebook}

    def status_for(remote: str, handler: Any) -> int:
        request = make_mocked_request("GET", "/", match_info=ids).clone(remote=remote)
        return int(asyncio.run(handler(request)).status)

    for route in Pages(losant.backend).routes():
        assert (status_for("127.0.0.1", route.handler), status_for("10.0.0.7", route.handler)) == (200, 404)
