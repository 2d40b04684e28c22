# SPDX-License-Identifier: Apache-2.0
"""Which requests are refused, and with which messages."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_losant.emulator.http.operations import OPERATIONS, match
from airflow_provider_losant.emulator.http.schemas import body_error

ID = "575ed78e7ae143cd83dc4aab"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"relativeTo": 1_570_549_199_451},
        {"relativeTo": "tomorrow"},
        {"relativeTo": {"$date": "2026-01-31T00:00:00Z"}, "templateContext": "{}"},
        {"email": "user@example.com", "callbackUrl": "https://example.com/x"},
        {"templateContext": "x" * 32767},
    ],
)
def test_every_documented_option_is_accepted(body: dict[str, Any]) -> None:
    assert body_error("executionOptions", body) is None


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (None, "executionOptions is required"),
        ([], "executionOptions is the wrong type"),
        ({"parameters": {}}, "executionOptions has additional properties"),
        ({"templateContext": {"site": "north"}}, "executionOptions.templateContext is the wrong type"),
        ({"templateContext": "x" * 32768}, "executionOptions.templateContext has longer length than allowed"),
        ({"relativeTo": None}, "executionOptions.relativeTo no (or more than one) schemas match"),
        ({"relativeTo": True}, "executionOptions.relativeTo no (or more than one) schemas match"),
        ({"email": "no address"}, "executionOptions.email must be email format"),
        ({"callbackUrl": "no address"}, "executionOptions.callbackUrl must be uri format"),
    ],
)
def test_invalid_options_are_refused_with_losants_message(body: Any, message: str) -> None:
    assert body_error("executionOptions", body) == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({}, "notebook.name is required"),
        ({"name": ""}, "notebook.name has less length than allowed"),
        ({"name": "x", "imageVersion": "v9"}, "notebook.imageVersion must be an enum value"),
        (
            {"name": "x", "inputs": [{"inputType": "deviceData", "fileName": "a.csv"}]},
            "notebook.inputs.0 no (or more than one) schemas match",
        ),
        (
            {"name": "x", "outputs": [{"outputType": "temporaryUrl", "fileName": "../x"}]},
            "notebook.outputs.0 no (or more than one) schemas match",
        ),
        (
            {
                "name": "x",
                "inputs": [
                    {
                        "inputType": "deviceData",
                        "fileName": "{{site}}.csv",
                        "start": -1,
                        "end": 0,
                        "deviceTags": [{"key": "site", "value": "{{site}}"}],
                    }
                ],
                "outputs": [{"outputType": "executionResult", "fileName": "result.html"}],
            },
            None,
        ),
    ],
)
def test_all_settings_of_a_new_notebook_are_checked(body: dict[str, Any], message: str | None) -> None:
    assert body_error("newNotebook", body) == message


def test_a_change_of_a_notebook_needs_no_name() -> None:
    assert body_error("notebook", {"description": "x"}) is None


def test_all_twelve_operations_match_their_method_and_path() -> None:
    for operation in OPERATIONS:
        path = "/" + "/".join(ID if part.startswith("{") else part for part in operation.path)

        operation_found, ids = match(operation.method, path + "/") or (None, {})

        assert operation_found is operation
        assert set(ids.values()) == {ID}
    assert len(OPERATIONS) == 12


@pytest.mark.parametrize("request_line", ["GET /", "PUT /applications/x/notebooks", "GET /applications/a/b"])
def test_no_operation_matches_another_method_or_path(request_line: str) -> None:
    assert match(*request_line.split()) is None
