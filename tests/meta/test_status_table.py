# SPDX-License-Identifier: Apache-2.0
"""The meaning of a status is defined once, in the model; all other modules use the model."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.source_files import PACKAGE, modules, tree


def judges_a_status(node: ast.AST) -> bool:
    """
    Tell whether this compares an execution's status with a status spelled out on the spot.

    HTTP statuses are numbers and do not count.
    """
    if isinstance(node, ast.Match):
        return names_a_status(node.subject)
    if not isinstance(node, ast.Compare):
        return False
    sides = [node.left, *node.comparators]
    return any(names_a_status(side) for side in sides) and any(spells_a_status(side) for side in sides)


def names_a_status(node: ast.AST) -> bool:
    return bool(re.search(r"\bstatus(\.value)?$|\['status'\]$|\.get\('status'\)$", ast.unparse(node)))


def spells_a_status(node: ast.AST) -> bool:
    return any(
        (isinstance(it, ast.Constant) and isinstance(it.value, str) and it.value != "status")
        or (isinstance(it, ast.Attribute) and ast.unparse(it.value).endswith("Status"))
        for it in ast.walk(node)
    )


def test_only_the_model_compares_statuses() -> None:
    # The emulator plays Losant, which makes statuses up instead of judging them.
    elsewhere = {
        f"{name}:{getattr(node, 'lineno', 0)}"
        for name, file in modules().items()
        if name != f"{PACKAGE}.api.model" and not name.startswith(f"{PACKAGE}.emulator")
        for node in ast.walk(tree(file))
        if judges_a_status(node)
    }

    assert elsewhere == set()


@pytest.mark.parametrize(
    "judgement",
    [
        "execution.status == 'completed'",
        "status in ('errored', 'timeout')",
        "entry['status'] != Status.COMPLETED",
        "'canceled' == entry.get('status')",
        "execution.status is model.Status.QUEUED",
        "match execution.status:\n    case 'completed': pass",
    ],
)
def test_every_form_of_a_status_comparison_is_recognised(judgement: str) -> None:
    assert any(judges_a_status(node) for node in ast.walk(ast.parse(judgement)))


@pytest.mark.parametrize(
    "innocent",
    ["response.status == 404", "before.status != after.status", "execution.status.final", "status >= 500"],
)
def test_numbers_and_status_changes_are_not_comparisons(innocent: str) -> None:
    assert not any(judges_a_status(node) for node in ast.walk(ast.parse(innocent)))
