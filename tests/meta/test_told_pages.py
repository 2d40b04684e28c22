# SPDX-License-Identifier: Apache-2.0
"""Pages that tell of the source quote what is there: messages, modules, names."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.source_files import PACKAGE, ROOT, modules, tree

DOCS = ROOT / "docs"
FEWEST = 4
"""Characters from which on a part of a message is worth looking for."""
REASONS = ("too young", "of another Airflow", "meant to outlive its task")
"""What the sweep says, in full."""
SOURCE = "\n".join(
    node.value
    for file in modules().values()
    for node in ast.walk(tree(file))
    if isinstance(node, ast.Constant) and isinstance(node.value, str)
)


def quoted() -> list[str]:
    """List the messages that the page about troubles quotes: code of which a part was left out."""
    spans = re.findall(r"`([^`]+)`", (DOCS / "troubleshooting.md").read_text())
    return sorted({span for span in spans if "…" in span and span != "…"} | set(REASONS) & set(spans))


@pytest.mark.parametrize("message", quoted())
def test_every_quoted_message_exists_in_the_package(message: str) -> None:
    parts = [part for part in (it.strip() for it in message.split("…")) if len(part) >= FEWEST]

    assert parts
    assert [part for part in parts if part not in SOURCE] == []


def test_many_messages_are_quoted() -> None:
    assert len(quoted()) > 30


def test_how_it_works_names_existing_modules() -> None:
    page = (DOCS / "how-it-works.md").read_text()
    named = set(re.findall(r"`((?:api|operators|triggers|hooks)\.\w+)`", page))

    assert len(named) > 10
    assert [name for name in named if f"{PACKAGE}.{name}" not in modules()] == []
