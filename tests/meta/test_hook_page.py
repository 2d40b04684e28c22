# SPDX-License-Identifier: Apache-2.0
"""The page about the hook lists what Losant offers and what the hook has."""

from __future__ import annotations

import re
from typing import Any

from airflow_provider_losant.api import endpoints
from airflow_provider_losant.emulator.http.operations import OPERATIONS
from airflow_provider_losant.hooks.losant import LosantHook
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "guides" / "hook.md").read_text()
ROWS = [
    " ".join(item.split()).split(": ", maxsplit=1)
    for item in re.findall(r"^- (`.+\n(?:  .+\n)*)", PAGE, re.MULTILINE)
    if "https://docs.losant.com/" in item
]
"""Methods, and the operation of each with its scope."""


def named(cell: str) -> list[str]:
    return re.findall(r"`([\w.]+)`", cell)


def test_every_operation_on_notebooks_is_listed_once() -> None:
    wanted = [it.name for it in OPERATIONS if it.name != "application.get"]

    assert len(wanted) == 11
    assert sorted(named(row[1])[0] for row in ROWS) == sorted(wanted)


def test_the_scopes_are_those_that_losant_requires() -> None:
    scopes = {it.name: it.scopes[0] for it in OPERATIONS}

    assert {named(row[1])[0]: named(row[1])[-1] for row in ROWS} == {
        name: scope for name, scope in scopes.items() if name != "application.get"
    }


def test_every_method_that_is_listed_exists_and_says_where_losant_describes_it() -> None:
    for row in ROWS:
        link = re.search(r"\((https://\S+)\)", row[1])
        method = getattr(LosantHook, named(row[0])[0])
        assert link
        assert link[1] in method.__doc__


def test_calls_that_are_never_sent_twice_are_listed_so() -> None:
    ids = ("0" * 24, "1" * 24)
    once: list[endpoints.Call[Any]] = [
        endpoints.create_notebook(ids[0], {}),
        endpoints.execute(*ids, {}),
        endpoints.request_export(*ids, {}),
    ]

    assert [it.idempotent for it in once] == [False] * 3
    (sentence,) = re.findall(r"\. ([^.]*)\bare not repeated\b", PAGE)
    methods = {named(row[1])[0]: named(row[0])[0] for row in ROWS}
    assert [methods[it.operation] for it in once] == named(sentence)


def test_every_method_that_is_listed_is_in_the_reference() -> None:
    reference = (ROOT / "docs" / "reference" / "hook.md").read_text()

    assert [name for row in ROWS for name in named(row[0]) if f" {name}" not in reference] == []
