# SPDX-License-Identifier: Apache-2.0
"""Messages and modules that pages quote exist in the source."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.paths import ROOT
from tests.support.source_files import PACKAGE, modules, tree

DOCS = ROOT / "docs"
MIN_LENGTH = 4
"""Characters that a part of a message has at least to be searched for."""
REASONS = (
    "younger than min_age",
    "submitted by another Airflow",
    "not submitted by Airflow",
    "may outlive its task",
    "its Airflow is unknown; set [api] base_url",
)
"""Reasons of the sweep, which are quoted in full."""
SOURCE = "\n".join(
    node.value
    for file in modules().values()
    for node in ast.walk(tree(file))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
)


def quoted() -> list[str]:
    """List the messages that the page quotes: code spans in which a part was left out."""
    page = (DOCS / "operations" / "troubleshooting.md").read_text()
    prose = re.sub(r"^```.*?^```$", "", page, flags=re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`]+)`", prose)
    return sorted({span for span in spans if "…" in span and span != "…"} | set(REASONS) & set(spans))


@pytest.mark.parametrize("message", quoted())
def test_every_quoted_message_exists_in_the_package(message: str) -> None:
    parts = [part for part in (it.strip() for it in message.split("…")) if len(part) >= MIN_LENGTH]

    assert parts
    assert [part for part in parts if part not in SOURCE] == []


def test_many_messages_are_quoted() -> None:
    assert len(quoted()) > 30


def test_the_page_about_architecture_names_modules_and_folders_that_there_are() -> None:
    page = (DOCS / "project" / "architecture.md").read_text()
    folders = "api|emulator|execution|hooks|openlineage|operators|triggers"
    named = set(re.findall(rf"`((?:{folders})(?:[./]\w+)+)`", page))

    assert len(named) > 15
    assert [name for name in named if f"{PACKAGE}.{name.replace('/', '.')}" not in modules()] == []
