# SPDX-License-Identifier: Apache-2.0
"""Finding a notebook by its name: which requests are sent, and when the search is given up."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_losant.api.endpoints import Page
from airflow_provider_losant.api.errors import (
    Forbidden,
    InvalidArgument,
    LosantError,
    ServerError,
    Unauthorized,
)
from airflow_provider_losant.api.flows.notebooks import find_notebook, last_updated
from airflow_provider_losant.api.model import Notebook
from tests.support.factories import APPLICATION_ID, NOTEBOOK_ID
from tests.unit.api.flow_driver import FlowDriver, maximum

DOWN = ServerError(503, "ServiceUnavailable", "down")
OTHER_ID = "6" * 24


def notebook(name: str, notebook_id: str = NOTEBOOK_ID, **more: Any) -> Notebook:
    return Notebook.from_api({"id": notebook_id, "applicationId": APPLICATION_ID, "name": name, **more})


def page(*notebooks: Notebook, total: int | None = None) -> Page:
    return Page(notebooks=notebooks, total=len(notebooks) if total is None else total)


def find(
    responses: list[Any], name: str = "Report", retries: int = 0, max_outage: float = 0.0
) -> tuple[FlowDriver, Notebook]:
    driver = FlowDriver(responses)
    flow = find_notebook(
        APPLICATION_ID, name, retries, max_outage=max_outage, clock=driver.clock, jitter=maximum
    )
    return driver, driver.drive(flow)


def test_one_request_is_enough_if_losant_filters_by_the_name() -> None:
    driver, found = find([page(notebook("Report"))])

    assert found.id == NOTEBOOK_ID
    assert [call.query["filter"] for call in driver.calls] == ["Report"]
    assert driver.log == f"Notebook 'Report' is {NOTEBOOK_ID}"


@pytest.mark.parametrize(
    ("name", "pattern"),
    [
        ("Report [1]", "Report *1*"),
        ("**", "*"),
        ("a.b-c_d", "a.b-c_d"),
        ("+(x)|y", "*x*y"),
        ("日報/2", "日報*2"),
        ("#!\\{}", "*"),
    ],
)
def test_what_may_be_a_glob_is_replaced_by_the_one_that_losant_documents(name: str, pattern: str) -> None:
    driver, found = find([page(notebook("other", OTHER_ID), notebook(name))], name)

    assert (found.id, driver.calls[0].query["filter"]) == (NOTEBOOK_ID, pattern)


def test_all_pages_are_searched() -> None:
    pages = [page(notebook(f"report {n}", f"{n:024}"), total=3) for n in range(2)]

    driver, found = find([*pages, page(notebook("Report"), total=3)])

    assert (found.id, len(driver.calls)) == (NOTEBOOK_ID, 3)


def test_without_a_match_all_notebooks_are_compared_whatever_losants_filter_does() -> None:
    driver, found = find([page(), page(notebook("report", OTHER_ID), notebook("Report"))])

    assert found.id == NOTEBOOK_ID
    assert ["filter" in call.query for call in driver.calls] == [True, False]


def test_a_notebook_that_is_listed_twice_is_one() -> None:
    assert find([page(notebook("Report"), notebook("Report"))])[1].id == NOTEBOOK_ID


def test_the_error_about_none_lists_similar_names_or_else_the_first() -> None:
    with pytest.raises(InvalidArgument, match=r"no notebook named 'Report'; similar names: 'reports'$"):
        find([page(), page(notebook("reports"), notebook("Weather", OTHER_ID))])
    with pytest.raises(InvalidArgument, match=r"no notebook named 'Report'; its notebooks: 'A', 'Weather'$"):
        find([page(), page(notebook("Weather"), notebook("A", OTHER_ID))])


def test_the_error_about_several_lists_their_ids_with_the_last_update() -> None:
    known = notebook("Report", lastUpdated="2026-01-02T03:04:05.000Z")

    with pytest.raises(InvalidArgument, match="2 notebooks") as caught:
        find([page(known, notebook("Report", OTHER_ID, lastUpdated=5))])

    assert f"{NOTEBOOK_ID} (last updated 2026-01-02T03:04:05" in str(caught.value)
    assert f"{OTHER_ID} (last updated unknown)" in str(caught.value)


def test_a_name_with_a_line_break_cannot_forge_a_line_of_the_log() -> None:
    driver, _ = find([page(notebook("a\nb"))], "a\nb")

    assert "\n" not in driver.log


def test_an_outage_is_waited_out_for_as_long_as_is_allowed() -> None:
    driver, found = find([DOWN, DOWN, DOWN, page(notebook("Report"))], max_outage=60)
    assert (found.id, driver.sleeps) == (NOTEBOOK_ID, [1.0, 2.0, 4.0])
    assert "looking up the notebook again" in driver.log

    with pytest.raises(ServerError):
        find([DOWN], max_outage=60)
    with pytest.raises(ServerError):
        find([DOWN, page(notebook("Report"))])


@pytest.mark.parametrize(
    "denied", [Forbidden(403, "Forbidden", "no"), Unauthorized(401, "Unauthorized", "no")]
)
def test_a_denied_search_is_not_repeated(denied: LosantError) -> None:
    with pytest.raises(type(denied)):
        find([denied, page(notebook("Report"))], retries=3, max_outage=60)


@pytest.mark.parametrize("odd", [None, "", 5, [], "yesterday"])
def test_an_odd_time_of_the_last_update_is_unknown(odd: Any) -> None:
    assert last_updated(notebook("Report", lastUpdated=odd)) is None
