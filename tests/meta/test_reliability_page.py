# SPDX-License-Identifier: Apache-2.0
"""The page about reliability promises what the journeys prove, and all of it."""

from __future__ import annotations

import ast
import re

from tests.contract.fault_table import markdown
from tests.support.source_files import ROOT, tree

JOURNEYS = ROOT / "tests" / "journeys"
PAGE = (ROOT / "docs" / "reliability.md").read_text()
WHOLLY_NAMED = ("test_submitting.py", "test_killing.py", "test_time.py", "test_sweep.py")


def named() -> set[str]:
    """Return the tests that the page names, as ``file::test``."""
    return set(re.findall(r"`(test_\w+\.py::test_\w+)`", PAGE))


def promises_of(file: str) -> set[str]:
    """Return the tests of a journey file, as ``file::test``."""
    functions = (it for it in tree(JOURNEYS / file).body if isinstance(it, ast.FunctionDef))
    return {f"{file}::{it.name}" for it in functions if it.name.startswith("test_")}


def test_every_test_that_the_page_names_exists() -> None:
    files = {name.partition("::")[0] for name in named()}

    assert files >= set(WHOLLY_NAMED)
    assert named() - {name for file in files for name in promises_of(file)} == set()


def test_every_journey_about_reliability_is_on_the_page() -> None:
    assert {name for file in WHOLLY_NAMED for name in promises_of(file)} - named() == set()


def test_the_table_of_faults_is_the_tested_one() -> None:
    assert (ROOT / "docs" / "fault-table.md").read_text() == markdown(), (
        "python -m tests.contract.fault_table > docs/fault-table.md"
    )
    assert "```{include} fault-table.md\n" in PAGE


def test_every_row_of_the_page_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if re.match(r"\| (?!(what happens|---))", line)]

    assert len(rows) > 20
    assert [row for row in rows if "::test_" not in row] == []
