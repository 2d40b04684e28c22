# SPDX-License-Identifier: Apache-2.0
"""The page of guarantees names a test for each guarantee, and every journey about one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.contract.fault_table import markdown
from tests.support.paths import ROOT
from tests.support.source_files import own_files, tree

JOURNEYS = ROOT / "tests" / "journeys"
PAGE = ROOT / "docs" / "project" / "guarantees.md"
TEXT = PAGE.read_text()
COMPLETE = (
    "test_submitting.py",
    "test_owner.py",
    "test_one_at_a_time.py",
    "test_killing.py",
    "test_standstill.py",
    "test_last_try.py",
    "test_time.py",
    "test_sweep.py",
    "test_loops.py",
)
"""Journeys of which the page lists every test."""
NODE_ID = re.compile(r"`(test_\w+\.py::test_\w+)`")
FOLDER = re.compile(r"`(tests/[a-z/]+)`")


def table_rows(body: str) -> list[str]:
    """Return the rows of a section's table."""
    return [line for line in body.splitlines() if line.startswith("|")][2:]


PARTS = re.split(r"^## (.+)$", TEXT, flags=re.MULTILINE)[1:]
BODIES = dict(zip(PARTS[::2], PARTS[1::2], strict=True))
SECTIONS = {heading: rows for heading, body in BODIES.items() if (rows := table_rows(body))}
FOLDERS = {
    heading: [ROOT / it for it in FOLDER.findall(body)] or [JOURNEYS] for heading, body in BODIES.items()
}
"""The folders with the tests of each section, which says where they are unless they are journeys."""


def named(*headings: str) -> set[str]:
    """Return the tests that sections name, as ``file::test``."""
    return set(NODE_ID.findall("\n".join(row for heading in headings for row in SECTIONS[heading])))


def node_ids_in(folder: Path, file: str) -> set[str]:
    """Return the tests of a file, as ``file::test``."""
    functions = (it for it in tree(folder / file).body if isinstance(it, ast.FunctionDef))
    return {f"{file}::{it.name}" for it in functions if it.name.startswith("test_")}


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_test_that_a_section_names_exists(heading: str) -> None:
    folders = FOLDERS[heading]
    files = {name.partition("::")[0] for name in named(heading)}

    assert files
    found = [node_ids_in(folder, file) for folder in folders for file in files if (folder / file).exists()]
    assert named(heading) - set().union(*found) == set()


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_row_names_a_test(heading: str) -> None:
    assert [row for row in SECTIONS[heading] if not NODE_ID.search(row)] == []


def test_every_journey_about_a_guarantee_is_on_the_page() -> None:
    wanted = {name for file in COMPLETE for name in node_ids_in(JOURNEYS, file)}

    assert wanted - named(*(heading for heading in SECTIONS if JOURNEYS in FOLDERS[heading])) == set()


def test_the_table_of_faults_is_the_tested_one() -> None:
    assert (PAGE.parent / "fault-table.md").read_text() == markdown(), (
        "python -m tests.contract.fault_table > docs/project/fault-table.md"
    )
    assert "```{include} fault-table.md\n" in TEXT


def test_no_other_page_names_tests() -> None:
    others = [file for file in own_files(".md") if file != PAGE]

    assert [str(file.relative_to(ROOT)) for file in others if "::test_" in file.read_text()] == []
