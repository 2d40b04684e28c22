# SPDX-License-Identifier: Apache-2.0
"""Executions and notebooks, parsed from Losant's responses."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from airflow_provider_losant.api.errors import InvalidArgument
from airflow_provider_losant.api.fields import losant_id
from airflow_provider_losant.api.model import STATUSES, Execution, ExecutionRef, Notebook, Status
from tests.support.factories import (
    APPLICATION_ID,
    CREATED_AT,
    EXECUTION_ID,
    NOTEBOOK_ID,
    REF,
    entry,
    execution,
    iso,
    published,
)

SIGNED = "https://storage.example/result.csv?X-Amz-Signature=deadbeef"


@pytest.mark.parametrize(
    ("name", "final", "success", "adopt", "active"),
    [
        ("queued", False, False, True, True),
        ("inProgress", False, False, True, True),
        ("completed", True, True, True, False),
        ("errored", True, False, False, False),
        ("timeout", True, False, False, False),
        ("canceling", False, False, False, False),
        ("canceled", True, False, False, False),
    ],
)
def test_the_status_table_says_what_each_status_means(
    name: str, final: bool, success: bool, adopt: bool, active: bool
) -> None:
    status = Status.of(name)

    assert (status.is_final, status.is_success) == (final, success)
    assert (status.can_reconnect, status.is_active, status.is_known) == (adopt, active, True)
    assert str(status) == name


def test_the_status_table_has_exactly_the_published_statuses() -> None:
    schema = published("schemas.json")["notebookExecution"]["properties"]["status"]

    assert set(STATUSES) == set(schema["enum"])


def test_an_undocumented_status_is_active() -> None:
    status = Status.of("hibernating")

    assert not status.is_final
    assert not status.is_known
    assert status.is_active
    assert status.can_reconnect


def test_an_id_is_24_hexadecimal_digits() -> None:
    assert losant_id(f" {EXECUTION_ID}\n", field="notebook_id") == EXECUTION_ID


def test_an_id_in_capitals_is_the_same_id() -> None:
    assert losant_id(EXECUTION_ID.upper(), field="notebook_id") == EXECUTION_ID


@pytest.mark.parametrize(
    "value",
    [
        "abc",
        "g" * 24,
        EXECUTION_ID + "0",
        "../" + EXECUTION_ID[3:],
        5,
        EXECUTION_ID.encode(),
        f"{EXECUTION_ID[:12]} {EXECUTION_ID[13:]}",
        "٣" * 24,
    ],
)
def test_an_invalid_id_is_refused_with_the_name_of_its_field(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^notebook_id: .* is not a Losant id"):
        losant_id(value, field="notebook_id")


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_id_is_reported_differently_from_an_invalid_one(value: object) -> None:
    with pytest.raises(InvalidArgument, match=r"^execution_id: is missing$"):
        losant_id(value, field="execution_id")


def test_an_execution_id_contains_its_creation_time() -> None:
    assert REF.created_at == CREATED_AT
    assert str(REF) == f"execution {EXECUTION_ID} of notebook {NOTEBOOK_ID}"


def test_every_published_execution_can_be_parsed() -> None:
    schemas = published("schemas.json")
    logs = [it for log in schemas["notebookExecutionLogs"]["examples"] for it in log]
    examples = [*schemas["notebookExecution"]["examples"], *logs]

    for example in examples:
        read = Execution.from_api(example)
        assert read.ref.execution_id == example["id"]
        assert read.status.is_known
        assert read.raw == example
        json.dumps(read.to_result(), allow_nan=False)
    assert len(examples) >= 3


def test_every_published_notebook_can_be_parsed() -> None:
    schemas = published("schemas.json")
    pages = [it for page in schemas["notebooks"]["examples"] for it in page["items"]]
    examples = [*schemas["notebook"]["examples"], *pages]

    for example in examples:
        read = Notebook.from_api(example)
        assert (read.id, read.application_id) == (example["id"], example["applicationId"])
        assert read.name == example["name"]
        assert list(read.inputs) == example.get("inputs", [])
        assert list(read.outputs) == example.get("outputs", [])
    assert len(examples) >= 2


def test_unknown_keys_are_ignored() -> None:
    assert execution("completed", brandNew={"a": 1}).status.is_success


def test_an_ended_execution_becomes_the_result_for_dags() -> None:
    read = execution(
        "completed",
        executionRelativeTo=iso(CREATED_AT - 60),
        runStartedAt=iso(CREATED_AT + 1),
        inputsCompletedAt=iso(CREATED_AT + 3.5),
        notebookCompletedAt=iso(CREATED_AT + 13.5),
        outputsCompletedAt=iso(CREATED_AT + 14.25),
        maxAllowedRunMinutes=5,
        inputInfo={"in.csv": {"size": 5, "contentType": "text/csv", "url": SIGNED}},
        outputInfo={"out.csv": {"size": 7, "contentType": "text/csv", "url": SIGNED}},
    )

    assert read.to_result() == {
        "execution_id": EXECUTION_ID,
        "notebook_id": NOTEBOOK_ID,
        "application_id": APPLICATION_ID,
        "status": "completed",
        "relative_to": iso(CREATED_AT - 60),
        "queued_at": iso(CREATED_AT),
        "started_at": iso(CREATED_AT + 1),
        "finished_at": iso(CREATED_AT + 14.25),
        "durations": {"queue": 1.0, "inputs": 2.5, "notebook": 10.0, "outputs": 0.75, "total": 14.25},
        "max_run_minutes": 5,
        "inputs": {"in.csv": {"size": 5}},
        "outputs": {"out.csv": {"size": 7, "content_type": "text/csv"}},
    }


def test_timestamps_of_later_phases_are_none_in_the_result() -> None:
    result = execution("queued").to_result()

    assert (result["started_at"], result["finished_at"], result["relative_to"]) == (None, None, None)
    assert result["durations"] == {
        "queue": None, "inputs": None, "notebook": None, "outputs": None, "total": 0.0
    }  # fmt: skip


@pytest.mark.parametrize("status", ["timeout", "canceled"])
def test_an_aborted_execution_does_not_end_when_its_inputs_were_ready(status: str) -> None:
    read = execution(status, runStartedAt=iso(CREATED_AT + 1), inputsCompletedAt=iso(CREATED_AT + 2))

    assert read.to_result()["finished_at"] is None


def test_an_active_execution_has_no_end_time() -> None:
    assert execution("inProgress", notebookCompletedAt=iso(CREATED_AT)).to_result()["finished_at"] is None


@pytest.mark.parametrize(
    ("status", "done", "phase"),
    [
        ("queued", 0, "queued"),
        ("inProgress", 1, "inProgress: reading inputs"),
        ("inProgress", 2, "inProgress: running the notebook"),
        ("inProgress", 3, "inProgress: saving outputs"),
        ("inProgress", 4, "inProgress: finishing"),
        ("canceling", 2, "canceling: running the notebook"),
        ("completed", 4, "completed"),
        ("errored", 3, "errored"),
    ],
)
def test_the_phase_names_the_current_step(status: str, done: int, phase: str) -> None:
    keys = ("runStartedAt", "inputsCompletedAt", "notebookCompletedAt", "outputsCompletedAt")
    marks = {key: iso(CREATED_AT + 1 + n) for n, key in enumerate(keys[:done])}

    assert execution(status, **marks).phase == phase


def test_a_signed_url_is_in_no_result_and_no_repr() -> None:
    files = {"result.html": {"size": 7, "url": SIGNED}}
    read = execution("completed", inputInfo=files, outputInfo=files)

    assert read.outputs["result.html"].url == SIGNED
    assert "storage.example" not in repr(read) + str(read.to_result())


@pytest.mark.parametrize("missing", ["inputInfo", "outputInfo", "executionErrors", "runQueuedAt"])
def test_an_entry_may_lack_optional_fields(missing: str) -> None:
    sparse: dict[str, Any] = {key: value for key, value in entry().items() if key != missing}

    assert Execution.from_api(sparse).queued_time == CREATED_AT


def test_an_entry_with_only_an_id_is_parsed() -> None:
    sparse = {key: value for key, value in entry().items() if key != "notebookExecutionId"}

    assert Execution.from_api(sparse).ref == REF


def test_executions_are_compared_by_value_and_not_by_losants_spelling() -> None:
    assert execution() == replace(execution(), raw={})
    assert (
        ExecutionRef(application_id=APPLICATION_ID, notebook_id=NOTEBOOK_ID, execution_id=EXECUTION_ID) == REF
    )
