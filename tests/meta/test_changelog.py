# SPDX-License-Identifier: Apache-2.0
"""The changelog has the format of Keep a Changelog, which readers and tools know."""

from __future__ import annotations

import re

from packaging.version import Version

from airflow_provider_losant import __version__
from tests.support.paths import ROOT

TEXT = (ROOT / "docs" / "project" / "changelog.md").read_text()
HEADINGS = re.findall(r"^## (.+)$", TEXT, re.MULTILINE)
RELEASES = [re.fullmatch(r"\[(\S+)\] - \d{4}-\d\d-\d\d", it) for it in HEADINGS if it != "[Unreleased]"]
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_releases_are_listed_by_version_and_date_newest_first() -> None:
    assert None not in RELEASES
    versions = [Version(it[1]) for it in RELEASES if it]

    assert versions == sorted(set(versions), reverse=True)
    assert HEADINGS.index("[Unreleased]") == 0


def test_each_change_has_a_known_kind() -> None:
    kinds = re.findall(r"^### (.+)$", TEXT, re.MULTILINE)

    assert kinds
    assert set(kinds) <= KINDS


def test_the_package_has_the_version_of_the_last_release_if_any() -> None:
    assert [__version__] == [it[1] for it in RELEASES if it][:1] or not RELEASES
