# SPDX-License-Identifier: Apache-2.0
"""The page about errors lists each exception, and says of it what its class does."""

from __future__ import annotations

import inspect
import re
from types import ModuleType

import pytest

from airflow_provider_losant import exceptions
from airflow_provider_losant._compat import AirflowFailException
from airflow_provider_losant.api import errors
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "errors.md").read_text()
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
    own = inspect.getmembers(module, inspect.isclass)
    return {name: it for name, it in own if it.__module__ == module.__name__}


OF_TASKS, OF_THE_HOOK = classes(exceptions), classes(errors)


def made(kind: type[Exception]) -> errors.LosantError:
    """Make an error as the clients do."""
    if kind in STATUS:
        return kind(STATUS[kind], "", "")  # type: ignore[return-value]
    return kind(*["it"] * (2 if kind is errors.InvalidArgument else 1))  # type: ignore[return-value]


def test_every_exception_has_a_row_and_every_row_an_exception() -> None:
    assert set(ROWS) == OF_TASKS.keys() | OF_THE_HOOK.keys()
    assert len(re.findall(r"^\| `", PAGE, re.MULTILINE)) == len(ROWS)


@pytest.mark.parametrize("name", OF_TASKS)
def test_errors_that_airflow_does_not_retry_are_listed_so(name: str) -> None:
    is_final = issubclass(OF_TASKS[name], AirflowFailException)

    assert ("**No retry.**" in ROWS[name][1]) == is_final


@pytest.mark.parametrize("name", OF_THE_HOOK)
def test_transient_errors_and_possible_effects_are_listed_so(name: str) -> None:
    error = made(OF_THE_HOOK[name])
    may_pass, may_have_taken_effect = (cell.startswith("yes") for cell in ROWS[name][1:3])

    assert (may_pass, may_have_taken_effect) == (error.is_transient, error.may_have_taken_effect)


@pytest.mark.parametrize("status", [408, 425])
def test_transient_statuses_without_their_own_class_are_on_the_page(status: int) -> None:
    error = errors.error_class(status)(status, "", "")

    assert type(error) is errors.ResponseError
    assert (error.is_transient, str(status) in ROWS["ResponseError"][1]) == (True, True)
    assert error.may_have_taken_effect == (str(status) in ROWS["ResponseError"][2])
