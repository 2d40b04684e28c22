# SPDX-License-Identifier: Apache-2.0
"""Deploying a notebook: which requests are sent and which are not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_losant.api.endpoints import Page
from airflow_provider_losant.api.errors import FileAccessDenied, InvalidArgument, NotFound, TransportError
from airflow_provider_losant.api.flows.deploy import Deployed, NotebookFile, Plan, deploy
from airflow_provider_losant.api.model import Notebook
from tests.support.factories import APPLICATION_ID, NOTEBOOK_ID
from tests.unit.api.flow_driver import FlowDriver

CONTENT = NotebookFile(name="report.ipynb", raw=b'{"cells": [1]}')
OUTPUTS = [{"outputType": "executionResult", "fileName": "result.html"}]


def notebook(name: str = "Report", notebook_id: str = NOTEBOOK_ID, **more: Any) -> Notebook:
    return Notebook.from_api({"id": notebook_id, "applicationId": APPLICATION_ID, "name": name, **more})


def listed(*notebooks: Notebook) -> Page:
    return Page(notebooks=notebooks, total=len(notebooks))


def deploy_with(
    responses: list[Any], files: list[Any] | None = None, **plan: Any
) -> tuple[FlowDriver, Deployed]:
    driver = FlowDriver(responses, files=files or [])
    given = {"application_id": APPLICATION_ID, "content": CONTENT, "name": "Report", **plan}
    return driver, driver.drive(deploy(Plan(**given), retries=1))


def test_an_up_to_date_notebook_is_not_changed() -> None:
    existing = notebook(jupyterFileUrl="https://files.example/x", outputs=OUTPUTS)

    driver, deployed = deploy_with(
        [listed(existing)], [json.dumps({"cells": [1]}, indent=4).encode()], body={"outputs": OUTPUTS}
    )

    assert driver.operations() == ["notebooks.get"]
    assert (deployed.notebook, deployed.is_created, deployed.is_changed, deployed.is_uploaded) == (
        existing,
        False,
        False,
        False,
    )


@pytest.mark.parametrize(
    "current_file", [b'{"cells": [2]}', b"not even JSON", FileAccessDenied("403"), TransportError("gone")]
)
def test_a_file_that_differs_or_cannot_be_compared_is_uploaded(current_file: Any) -> None:
    existing = notebook(jupyterFileUrl="https://files.example/x")

    driver, deployed = deploy_with([listed(existing), existing], [current_file])

    assert driver.operations() == ["notebooks.get", "notebook.upload"]
    assert driver.calls[-1].upload is CONTENT
    assert deployed.is_uploaded


def test_only_the_settings_that_differ_are_changed() -> None:
    existing = notebook(description="Daily", outputs=[])

    driver, deployed = deploy_with(
        [listed(existing), existing, existing], body={"description": "Daily", "outputs": OUTPUTS}
    )

    assert driver.operations() == ["notebooks.get", "notebook.patch", "notebook.upload"]
    assert driver.calls[1].json == {"outputs": OUTPUTS}
    assert deployed.is_changed


def test_a_notebook_is_created_only_on_request() -> None:
    with pytest.raises(InvalidArgument, match="has no notebook named 'Report'"):
        deploy_with([listed()])

    driver, deployed = deploy_with(
        [listed(), notebook(outputs=OUTPUTS)], may_create=True, body={"outputs": OUTPUTS}
    )

    assert driver.operations() == ["notebooks.get", "notebooks.post", "notebook.upload"]
    assert driver.calls[1].json == {"name": "Report", "outputs": OUTPUTS}
    assert (deployed.is_created, deployed.is_changed, deployed.is_uploaded) == (True, False, True)


def test_after_a_lost_create_response_the_notebook_is_searched_not_created_again() -> None:
    driver, deployed = deploy_with(
        [listed(), TransportError("lost"), listed(notebook()), notebook()], may_create=True
    )

    assert driver.operations() == ["notebooks.get", "notebooks.post", "notebooks.get", "notebook.upload"]
    assert deployed.is_created


def test_a_lost_create_request_is_an_error_if_no_notebook_was_created() -> None:
    with pytest.raises(TransportError, match="lost"):
        deploy_with([listed(), TransportError("lost"), listed()], may_create=True)


def test_two_notebooks_of_the_same_name_are_reported_and_not_changed() -> None:
    other = NOTEBOOK_ID.replace("5", "6")

    with pytest.raises(
        InvalidArgument, match=f"2 notebooks of .* are named 'Report': {NOTEBOOK_ID} .*, {other} "
    ):
        deploy_with([listed(notebook(), notebook(notebook_id=other))])


def test_a_name_is_matched_exactly_although_losants_filter_is_a_glob() -> None:
    driver, deployed = deploy_with(
        [listed(notebook("Report [1]", "6" * 24), notebook("Report 1")), notebook()], name="Report [1]"
    )
    assert driver.calls[0].query["filter"] == "Report *1*"
    assert driver.calls[-1].path.endswith(f"{'6' * 24}/upload")

    driver, deployed = deploy_with([listed(notebook("report"), notebook("Report", "6" * 24)), notebook()])
    assert driver.calls[0].query["filter"] == "Report"
    assert driver.calls[-1].path.endswith(f"{'6' * 24}/upload")
    assert deployed.is_uploaded


def test_an_id_needs_no_search() -> None:
    driver, _ = deploy_with([notebook()], name=None, notebook_id=NOTEBOOK_ID)
    assert driver.operations() == ["notebook.get", "notebook.upload"]

    with pytest.raises(NotFound):
        deploy_with([NotFound(404, "NotFound", "Notebook was not found")], name=None, notebook_id=NOTEBOOK_ID)


@pytest.mark.parametrize(
    ("current", "planned", "is_same"),
    [
        ([{"a": 1, "b": 2}], [{"b": 2, "a": 1}], True),
        ([{"a": 1}], [{"a": 1.0}], True),
        ([{"a": True}], [{"a": 1}], False),
        ([{"a": {"b": [0]}}], [{"a": {"b": [False]}}], False),
        ([{"a": None}], [{}], False),
    ],
    ids=str,
)
def test_settings_are_compared_as_json(current: Any, planned: Any, *, is_same: bool) -> None:
    existing = notebook(outputs=current)
    responses = [listed(existing), existing, existing]

    _, deployed = deploy_with(responses, body={"outputs": planned})

    assert deployed.is_changed is not is_same


def test_a_flag_in_a_file_that_became_a_number_is_a_change() -> None:
    assert not NotebookFile(name="a.ipynb", raw=b'{"a": true}').is_same_as(b'{"a": 1}')
    assert NotebookFile(name="a.ipynb", raw=b'{"a": 1.0, "b": 2}').is_same_as(b'{"b": 2, "a": 1}')
