# SPDX-License-Identifier: Apache-2.0
"""The emulator against Losant's published schemas, if they are in a folder next to the project."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft7Validator, FormatChecker

from airflow_provider_losant.emulator import Emulator, Script
from airflow_provider_losant.emulator.http.operations import OPERATIONS
from airflow_provider_losant.emulator.http.schemas import body_error
from tests.support.factories import PUBLISHED

if TYPE_CHECKING:
    from tests.contract.api_client import ApiClient

pytestmark = pytest.mark.skipif(
    not PUBLISHED.is_dir(), reason="Losant's published schemas are not in a folder next to the project"
)


@pytest.fixture(scope="module")
def schemas() -> dict[str, Any]:
    return dict(json.loads((PUBLISHED / "schemas.json").read_text()))


def errors(schemas: dict[str, Any], name: str, value: Any) -> list[str]:
    validator = Draft7Validator(schemas[name], format_checker=FormatChecker())
    return [f"{name}: {error.message}" for error in validator.iter_errors(value)]


def test_every_response_matches_its_published_schema(
    client: ApiClient, losant: Emulator, schemas: dict[str, Any]
) -> None:
    body = {"name": "Energy", "description": "Daily", "inputs": [], "outputs": []}
    notebook_id = client.call("POST", "/notebooks", json=body).json()["id"]
    files = {"result.html": b"<html>"}
    path = f"/notebooks/{notebook_id}"
    for ending in ("hang", "completed", "errored", "timeout"):
        script = Script(notebook=0, ending=ending, files=files, errors=(("ValueError", "boom"),))
        losant.script(notebook_id, script)
        client.execute(notebook_id, relativeTo=0, templateContext="{}")
    hanging = client.logs(notebook_id, limit=9)[-1]["id"]
    cancel = {"params": {"executionId": hanging}}
    cases: list[tuple[str, str, str, dict[str, Any]]] = [
        ("application", "GET", "", {"params": {"summaryInclude": "notebookStats"}}),
        ("notebooks", "GET", "/notebooks", {"params": {"filterField": "name", "filter": "E*"}}),
        ("notebook", "POST", "/notebooks", {"json": body}),
        ("notebook", "GET", path, {}),
        ("notebook", "PATCH", path, {"json": {"imageVersion": "v3"}}),
        ("notebook", "POST", f"{path}/upload", {"files": {"jupyterFile": ("x.ipynb", b"{}")}}),
        ("notebookExecutionLogs", "GET", f"{path}/logs", {"params": {"limit": 9}}),
        ("successWithExecutionId", "POST", f"{path}/execute", {"json": {}}),
        ("success", "POST", f"{path}/cancelExecution", cancel),
        ("notebookMinuteCounts", "GET", f"{path}/notebookMinuteCounts", {}),
        ("jobEnqueuedResult", "POST", f"{path}/requestInputDataExport", {"json": {}}),
        ("error", "POST", f"{path}/requestInputDataExport", {"json": {}}),
        ("error", "GET", "/nowhere", {}),
        ("error", "GET", f"/notebooks/{'f' * 24}", {}),
        (
            "serverContentError",
            "POST",
            f"{path}/execute",
            {"data": "{", "headers": {"Content-Type": "application/json"}},
        ),
        ("success", "DELETE", path, {}),
    ]

    results = {
        (schema, method, where): errors(schemas, schema, client.call(method, where, **options).json())
        for schema, method, where, options in cases
    }

    assert {case: wrong for case, wrong in results.items() if wrong} == {}


@pytest.mark.parametrize(
    ("schema", "name"),
    [
        ("newNotebook", "notebookPost"),
        ("notebook", "notebookPatch"),
        ("executionOptions", "notebookExecutionOptions"),
        ("exportOptions", "notebookDataExportOptions"),
    ],
)
def test_published_examples_of_requests_are_accepted(schemas: dict[str, Any], schema: str, name: str) -> None:
    examples = schemas[name]["examples"]

    assert examples
    assert [body_error(schema, example) for example in examples] == [None] * len(examples)


REQUESTS: list[Any] = [
    {},
    [],
    {"name": "x"},
    {"name": ""},
    {"name": "x" * 1025},
    {"name": "x", "extra": 1},
    {"name": "x", "imageVersion": "v5"},
    *(
        {"name": "x", "inputs": [one]}
        for one in (
            {"inputType": "deviceData", "fileName": "a.csv", "start": -1, "end": 0},
            {"inputType": "deviceData", "fileName": "a.csv", "start": "-1", "end": 0},
            {"inputType": "deviceData", "fileName": "{{a}}/b", "start": -1, "end": 0, "attributes": ["kwh"]},
            {"inputType": "deviceData", "fileName": "a", "start": -1, "end": 0, "deviceIds": ["no id"]},
            {"inputType": "deviceData", "fileName": "a", "start": 0, "end": 0, "deviceTags": [{"k": "v"}]},
            {"inputType": "deviceConnectionHistory", "fileName": "a", "start": 0, "end": 0},
            {"inputType": "deviceConnectionHistory", "fileName": "a", "start": 0, "end": 0, "attributes": []},
            {"inputType": "deviceMetadata", "fileName": "..", "format": "csv"},
            {"inputType": "deviceMetadata", "fileName": "a", "format": "xml"},
            {"inputType": "dataTable", "fileName": "a", "dataTableId": "{{table}}"},
            {"inputType": "dataTable", "fileName": "a"},
            {"inputType": "eventData", "fileName": "a", "queryJson": "{}", "format": "json"},
            {"inputType": "externalUrl", "fileName": "a", "sourceUrl": ""},
            {"inputType": "applicationFile", "fileName": "a", "filePath": "/a", "private": True},
            {"inputType": "other", "fileName": "a"},
        )
    ),
    *(
        {"name": "x", "outputs": [one]}
        for one in (
            {"outputType": "executionResult", "fileName": "result.html"},
            {"outputType": "executionResult", "fileName": "result.txt"},
            {"outputType": "temporaryUrl", "fileName": "a b"},
            {"outputType": "file", "fileName": "a", "destinationFileNameTemplate": "{{b}}"},
            {"outputType": "file", "fileName": "a"},
            {"outputType": "directory", "directoryName": "a", "destinationDirectoryTemplate": "/a"},
            {"outputType": "directory", "fileName": "a", "destinationDirectoryTemplate": "/a"},
            {"outputType": "dataTable", "fileName": "a", "dataTableId": "f" * 24, "truncateExistingTable": 1},
            {
                "outputType": "dataTable",
                "fileName": "a",
                "dataTableId": "f" * 24,
                "createMissingColumns": True,
            },
        )
    ),
    {"relativeTo": 5, "templateContext": "{}", "email": "a@b.c", "callbackUrl": "https://a.b/c"},
    {"relativeTo": {"$date": 5}},
    {"templateContext": {}},
]


@pytest.mark.parametrize("body", REQUESTS, ids=map(str, range(len(REQUESTS))))
def test_request_bodies_are_accepted_as_by_the_published_schemas(schemas: dict[str, Any], body: Any) -> None:
    pairs = {
        "newNotebook": "notebookPost",
        "notebook": "notebookPatch",
        "executionOptions": "notebookExecutionOptions",
        "exportOptions": "notebookDataExportOptions",
    }

    for schema, name in pairs.items():
        assert (body_error(schema, body) is None) == (not errors(schemas, name, body)), schema


def test_every_published_operation_on_notebooks_is_implemented() -> None:
    published = json.loads((PUBLISHED / "operations.json").read_text())["operations"]
    ours = {operation.name: operation for operation in OPERATIONS}
    expected = {
        name: operation
        for name, operation in published.items()
        if name.split(".")[0] in ("notebook", "notebooks") or name == "application.get"
    }

    assert len(expected) >= 11
    for name, described in expected.items():
        operation = ours[name]
        query = {param["name"] for param in described["params"] if param["in"] == "query"}
        assert (operation.method, "/" + "/".join(operation.path)) == (described["method"], described["path"])
        assert set(described["scope"]) <= set(operation.scopes)
        assert set(operation.query) == query if name != "application.get" else True
