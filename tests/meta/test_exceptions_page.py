# SPDX-License-Identifier: Apache-2.0
"""The page about exceptions lists each one, and says of it what its class does."""

from __future__ import annotations

import inspect
import re
from types import ModuleType
from typing import Any

import pytest

from airflow_provider_losant import exceptions
from airflow_provider_losant._compat import AirflowFailException
from airflow_provider_losant.api import errors
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "reference" / "exceptions.md").read_text()
SECTIONS = dict(re.findall(r"^### (\w+)\n\n(.+?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL))
"""What the page says of each exception of tasks."""
CAUSES = dict(re.findall(r"^- `(\w+)`: (.+)$", PAGE, re.MULTILINE))
"""The first line of what the page says of each exception of the hook."""
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in PAGE.splitlines()
    if line.startswith("| `")
    for cells in [[cell.strip() for cell in line.strip("|").split(" | ")]]
}
STATUS = {
    errors.ResponseError: 405,
    errors.BadRequest: 400,
    errors.Unauthorized: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.RateLimited: 429,
    errors.ServerError: 503,
}


def classes(module: ModuleType) -> dict[str, type[Exception]]:
    own: list[tuple[str, Any]] = inspect.getmembers(module, inspect.isclass)
    return {name: it for name, it in own if it.__module__ == module.__name__}


OF_TASKS, OF_THE_HOOK = classes(exceptions), classes(errors)


def made(kind: type[Exception]) -> errors.LosantError:
    """Make an error as the clients do."""
    if kind in STATUS:
        return kind(STATUS[kind], "", "")
    return kind(*["it"] * (2 if kind is errors.InvalidArgument else 1))  # type: ignore[return-value]


def test_every_exception_is_on_the_page_and_nothing_else() -> None:
    assert set(SECTIONS) == set(OF_TASKS)
    assert set(CAUSES) == set(ROWS) == set(OF_THE_HOOK)


@pytest.mark.parametrize("name", OF_TASKS)
def test_what_airflow_retries_is_listed_so(name: str) -> None:
    is_final = issubclass(OF_TASKS[name], AirflowFailException)

    assert SECTIONS[name].startswith("**Not retried.**" if is_final else "**Retried.**")
    assert "*What to do:*" in SECTIONS[name]


@pytest.mark.parametrize("name", OF_THE_HOOK)
def test_what_is_transient_and_what_may_have_taken_effect_is_listed_so(name: str) -> None:
    error = made(OF_THE_HOOK[name])
    is_transient, may_have_taken_effect = (cell.startswith("yes") for cell in ROWS[name])

    assert (is_transient, may_have_taken_effect) == (error.is_transient, error.may_have_taken_effect)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429])
def test_a_status_that_has_a_class_is_on_the_page(status: int) -> None:
    assert CAUSES[errors.error_class(status).__name__].startswith(f"{status}, ")


@pytest.mark.parametrize("status", [408, 425])
def test_transient_statuses_without_a_class_of_their_own_are_on_the_page(status: int) -> None:
    error = errors.error_class(status)(status, "", "")
    is_transient, may_have_taken_effect = ROWS["ResponseError"]

    assert type(error) is errors.ResponseError
    assert (error.is_transient, str(status) in is_transient) == (True, True)
    assert error.may_have_taken_effect == (str(status) in may_have_taken_effect)
