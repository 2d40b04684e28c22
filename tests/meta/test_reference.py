# SPDX-License-Identifier: Apache-2.0
"""The reference has an entry for every public name, and a description of each of its arguments."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from tests.meta.public import PUBLIC, resolved
from tests.support.paths import ROOT
from tests.support.source_files import PACKAGE

DOCS = ROOT / "docs"
PAGES = "\n".join(
    page.read_text() for folder in ("operators", "reference") for page in (DOCS / folder).glob("*.md")
)
ENTRIES = set(re.findall(rf"^\.\. auto(?:class|function):: ({PACKAGE}\.[\w.]+)", PAGES, re.MULTILINE))
WHOLE = set(re.findall(rf"^\.\. automodule:: ({PACKAGE}\.[\w.]+)\n   :members:", PAGES, re.MULTILINE))


def named_on_index() -> set[str]:
    return set(re.findall(r"\{py:\w+\}`(\w+)`", (DOCS / "index.md").read_text()))


def documented(it: Any) -> dict[str, str]:
    """Map each argument that a docstring describes to what it says."""
    fields = re.split(r"^:(?=\w)", inspect.getdoc(it) or "", flags=re.MULTILINE)[1:]
    found = (re.match(r"param (\w+): (.+)", field, re.DOTALL) for field in fields)
    return {it[1]: it[2] for it in found if it}


EMULATOR = [f"{PACKAGE}.emulator.{name}" for name in ("Emulator", "Script", "Fault")]


def test_everything_in_the_provider_info_is_in_the_reference() -> None:
    assert len(PUBLIC) > 10
    assert [name for name in PUBLIC if name not in ENTRIES] == []


def test_everything_that_the_landing_page_names_is_in_the_reference() -> None:
    last_names = {name.rpartition(".")[2] for name in ENTRIES}

    assert {name.rpartition(".")[2] for name in PUBLIC} - {"create_asset"} <= named_on_index() <= last_names


@pytest.mark.parametrize("module", [f"{PACKAGE}.exceptions", f"{PACKAGE}.api.errors"])
def test_every_exception_is_in_the_reference(module: str) -> None:
    assert module in WHOLE


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_every_entry_of_the_reference_says_what_happens(name: str) -> None:
    assert inspect.getdoc(resolved(name))


@pytest.mark.parametrize("name", [*PUBLIC, *EMULATOR])
def test_every_argument_is_described(name: str) -> None:
    arguments = inspect.signature(resolved(name)).parameters.values()
    # Airflow documents what is passed to BaseOperator; a decorator gets its function from Python.
    wanted = {it.name for it in arguments if it.kind is not it.VAR_KEYWORD} - {"python_callable"}

    assert wanted - documented(resolved(name)).keys() == set()


@pytest.mark.parametrize("name", [it for it in PUBLIC if hasattr(resolved(it), "template_fields")])
def test_exactly_the_templated_arguments_are_marked(name: str) -> None:
    said = documented(resolved(name)).items()
    marked = {argument for argument, text in said if text.rstrip().endswith("(templated)")}

    assert marked == set(resolved(name).template_fields)
