# SPDX-License-Identifier: Apache-2.0
"""The page about compatibility promises what tests show on each Airflow, and nothing else."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.airflow_versions import MINORS, is_for
from tests.support.source_files import ROOT, tree

PAGE = (ROOT / "docs" / "compatibility.md").read_text()
PROVIDER = ROOT / "tests" / "provider"
SKIPPING = {"skip", "skipif", "importorskip", "xfail"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One feature: the Airflows that are said to have it, what the others do, and the tests that show it."""

    feature: str
    on: dict[str, str]
    instead: str
    tests: list[str]


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("| \n").split("|")]


HEADS, _, *LINES = (cells(line) for line in PAGE.splitlines() if line.startswith("|"))
ROWS = [
    Row(
        feature=feature,
        on=dict(zip(HEADS[1:-2], rest[:-2], strict=True)),
        instead=rest[-2],
        tests=re.findall(r"`(test_\w+\.py::test_\w+)`", rest[-1]),
    )
    for feature, *rest in LINES
]


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


def test_there_is_a_column_for_every_airflow_that_is_tested() -> None:
    assert ["feature", *MINORS, "where it is missing", "shown by"] == HEADS


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.feature)
def test_a_feature_is_listed_exactly_for_the_airflows_that_run_its_tests(row: Row) -> None:
    assert row.tests
    shown = set().union(*(runs_on(test) for test in row.tests))

    assert row.on == {minor: "yes" if minor in shown else "no" for minor in MINORS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.feature)
def test_a_fallback_is_described_exactly_where_a_feature_is_missing(row: Row) -> None:
    assert bool(row.instead) == ("no" in row.on.values())


def test_tests_named_on_the_page_are_skipped_only_for_their_airflow_version() -> None:
    named: set[Path] = {PROVIDER / test.partition("::")[0] for row in ROWS for test in row.tests}
    shared = {PROVIDER / "conftest.py", PROVIDER / "tasks.py", PROVIDER / "pulse.py"}
    others = {
        f"{file.name}:{node.lineno}"
        for file in named | shared
        for node in ast.walk(tree(file))
        if isinstance(node, ast.Attribute) and node.attr in SKIPPING
        if ast.unparse(node.value) in {"pytest", "pytest.mark"}
    }

    assert others == set()
