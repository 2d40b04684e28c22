# SPDX-License-Identifier: Apache-2.0
"""The page about compatibility says of each Airflow version what tests show on it, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.airflow_versions import MINORS, is_for
from tests.support.paths import ROOT
from tests.support.source_files import tree

PAGE = (ROOT / "docs" / "reference" / "compatibility.md").read_text()
GUARANTEES = (ROOT / "docs" / "project" / "guarantees.md").read_text()
PROVIDER = ROOT / "tests" / "provider"
SKIPPING = {"skip", "skipif", "importorskip", "xfail"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One feature, the Airflow versions that are said to have it, and the tests that show it."""

    feature: str
    on: list[str]
    tests: list[str]


def section(text: str, heading: str) -> str:
    return re.split(r"^## ", text.partition(f"\n## {heading}\n")[2], flags=re.MULTILINE)[0]


def cells(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("| \n").split("|")] for line in lines]


LINES = cells(section(PAGE, "Features"))[2:]
SHOWN_BY = {
    feature: re.findall(r"`(test_\w+\.py::test_\w+)`", tests)
    for feature, tests in cells(section(GUARANTEES, "Features on each Airflow version"))[2:]
}
ROWS = [
    Row(feature=feature, on=list(MINORS) if on == "all" else on.split(", "), tests=SHOWN_BY.get(feature, []))
    for feature, on in LINES
]
MISSING = re.findall(r"^- \*\*(.+?)\*\*: ", section(PAGE, "Where a feature is missing"), re.MULTILINE)


def marks(test: str) -> Iterator[ast.Call]:
    """Yield each ``pytest.mark.airflow(...)`` of a test, its own or its file's, by whatever name."""
    file, _, name = test.partition("::")
    body = tree(PROVIDER / file).body
    values = {
        target.id: node.value
        for node in body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    (function,) = (it for it in body if isinstance(it, ast.FunctionDef) and it.name == name)
    given = [*function.decorator_list, *([values["pytestmark"]] if "pytestmark" in values else [])]
    for node in given:
        meant = values.get(node.id, node) if isinstance(node, ast.Name) else node
        for call in ast.walk(meant):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.airflow":
                yield call


def runs_on(test: str) -> set[str]:
    """Return the Airflows that a test is for."""
    spans = [{it.arg or "": ast.literal_eval(it.value) for it in call.keywords} for call in marks(test)]
    return {minor for minor in MINORS if all(is_for(minor, **span) for span in spans)}


def test_the_page_of_guarantees_lists_the_same_features() -> None:
    assert list(SHOWN_BY) == [row.feature for row in ROWS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.feature)
def test_a_feature_is_listed_exactly_for_the_airflows_that_run_its_tests(row: Row) -> None:
    assert row.tests
    shown = set().union(*(runs_on(test) for test in row.tests))

    assert row.on == [minor for minor in MINORS if minor in shown]


def test_what_happens_without_a_feature_is_said_where_it_is_missing_and_only_there() -> None:
    assert [row.feature for row in ROWS if row.on != list(MINORS)] == MISSING


def test_tests_named_on_the_page_are_skipped_only_for_their_airflow_version() -> None:
    named: set[Path] = {PROVIDER / test.partition("::")[0] for row in ROWS for test in row.tests}
    shared = {PROVIDER / "conftest.py", PROVIDER / "tasks.py", PROVIDER / "event_loop_probe.py"}
    others = {
        f"{file.name}:{node.lineno}"
        for file in named | shared
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Attribute) and node.attr in SKIPPING
        if ast.unparse(node.value) in {"pytest", "pytest.mark"}
    }

    assert others == set()
