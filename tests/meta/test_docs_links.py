# SPDX-License-Identifier: Apache-2.0
"""Links within the project lead to an existing file and heading, and external links to known hosts."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import pytest

from tests.support.pages import Page, pages
from tests.support.paths import ROOT
from tests.support.source_files import modules

HOSTS = {
    "airflow.apache.org",
    "docs.losant.com",
    "github.com",
    "keepachangelog.com",
    "openlineage.io",
    "pre-commit.com",
    "semver.org",
    "www.losant.com",
}
"""Where pages and docstrings may lead; whether an address still exists, ``sphinx -b linkcheck`` finds out."""
LOOPBACK = "http://127.0.0.1:"
PICTURES = {"img.shields.io"}
BY_PATH = {page.path: page for page in pages()}


def is_outer(link: str) -> bool:
    return "://" in link or link.startswith("mailto:")


def problem(page: Page, link: str) -> str | None:
    """Return the problem of a link within the project; None if its target exists."""
    name, _, anchor = link.partition("#")
    target = (page.path.parent / name).resolve() if name else page.path
    if not target.exists():
        return "no such file"
    if not target.is_relative_to(ROOT):
        return "not of this project"
    if anchor and anchor not in (BY_PATH[target].anchors if target in BY_PATH else set()):
        return "no such heading"
    return None


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_link_within_the_project_leads_to_a_file_and_a_heading(page: Page) -> None:
    wrong = {link: problem(page, link) for link in page.links if not is_outer(link)}

    assert {link: why for link, why in wrong.items() if why} == {}


@pytest.mark.parametrize("page", pages(), ids=str)
def test_every_link_out_of_the_project_is_https_and_leads_to_a_known_host(page: Page) -> None:
    outer = [urlsplit(link) for link in page.links if is_outer(link) and not link.startswith(LOOPBACK)]

    assert [it.geturl() for it in outer if it.scheme != "https" or it.hostname not in HOSTS | PICTURES] == []
    assert [it.geturl() for it in outer if re.search(r"[<>{}]|TODO|example", it.geturl())] == []


def test_links_in_docstrings_lead_to_known_hosts() -> None:
    links = [it for file in modules().values() for it in re.findall(r"<(http\S+)>`__", file.read_text())]

    assert links
    assert [link for link in links if urlsplit(link).hostname not in HOSTS] == []


def test_links_are_found_at_all() -> None:
    links = [link for page in pages() for link in page.links]

    assert len([link for link in links if is_outer(link)]) > 20
    assert len([link for link in links if "#" in link and not is_outer(link)]) > 20
